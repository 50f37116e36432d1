/** Routers of the fabric that send what they should not. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { BgpLab, spineAddress } from '../support/bgp-lab.ts';
import { until } from '../support/eventually.ts';
import { noNamespaces } from '../support/net-namespace.ts';

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
