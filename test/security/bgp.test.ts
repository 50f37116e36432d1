/** Routers of the fabric that send what they should not. */
import { execFileSync } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readPassword } from '../../backend/host/bgp/password-file.ts';
import { BgpLab, spineAddress } from '../support/bgp-lab.ts';
import { until } from '../support/eventually.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { temporaryDirectory } from '../support/stores.ts';

const skip = noNamespaces('bird', 'python3');

const peer = { id: 'bgp-fedcba9876543210', address: spineAddress, asn: 65001, local_asn: 65002 };
const memoryOf = (pid: number) => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

t.test('a million routes and routes that cover the underlay do not reach the host', { skip }, async (t) => {
  const lab = new BgpLab(t);
  const script = join(import.meta.dirname, '..', 'support', 'bgp-speaker.py');
  const speaker = lab.spine.spawn('python3', [script, spineAddress, '65001'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  speaker.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const bird = lab.bird();
  await bird.converge(lab.config({ peers: [peer] }));
  await until('the session is established', async () => (await bird.sessions())[0]?.state === 'established');
  const [{ pid } = { pid: 0 }] = await bird.find();
  const before = memoryOf(pid);
  await until('the router has sent everything', () => output.includes('sent'));
  await until('bird has read all routes', async () => {
    const lines = await lab.askHost('show protocols all peer_fedcba9876543210');
    return lines.some((line) => /Import updates:\s+1000004\b/.test(line));
  });
  const grown = memoryOf(pid) - before;
  t.comment(`memory of bird grew by ${grown} KiB`);
  t.ok(grown < 32 * 1024, 'bird keeps none of the routes');
  t.match(await bird.sessions(), [{ peer: peer.id, state: 'established', imported: 1 }], 'the session goes on');
  t.strictSame(lab.hostRoutes(), [`default via ${spineAddress} metric 1024`, `default via ${spineAddress} metric 117`]);
  t.match(lab.host.ip('-6', 'route', 'get', spineAddress), /dev uplink/, 'the underlay is where it was');
  await bird.stop();
});

t.test('only a file of root with one printable line is a password, and no error shows its content', async (t) => {
  const path = join(temporaryDirectory(t), 'password');
  const faultOf = () =>
    readPassword(path).then(
      () => '',
      (error: Error) => error.message,
    );
  const write = (text: string, mode = 0o600) => {
    execFileSync('rm', ['-rf', path]);
    writeFileSync(path, text, { mode });
  };
  t.match(await faultOf(), /password does not exist/);
  for (const text of [
    '',
    '\n',
    'secret"; import all; #',
    'secret\nimport all',
    'secret\0',
    'sécret',
    'secret'.repeat(999),
  ]) {
    write(text);
    const fault = await faultOf();
    t.match(fault, /printable ASCII/, JSON.stringify(text.slice(0, 30)));
    t.notMatch(fault, /secret|import/);
  }
  write('secret', 0o640);
  t.match(await faultOf(), /mode 600/);
  execFileSync('rm', [path]);
  symlinkSync('/etc/passwd', path);
  t.match(await faultOf(), /cannot be read: ELOOP/);
  execFileSync('rm', [path]);
  execFileSync('mkfifo', ['-m', '600', path]);
  t.match(await faultOf(), /no regular file/);
  if (process.getuid?.() === 0) {
    write("a right one \\ #'{}");
    t.equal(await readPassword(path), "a right one \\ #'{}");
    write('with a line break\n');
    t.equal(await readPassword(path), 'with a line break');
  }
});
