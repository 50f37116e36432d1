/** The `ucloud` command as operators and customers use it, on one simulated cloud. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { startCloud } from '../../scripts/demo/cloud.ts';
import { runUcloud as run, ucloudCommand } from '../support/cli.ts';
import { makeCertificates } from '../support/etcd.ts';
import { until } from '../support/eventually.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('a cloud, from the shell', async (t) => {
  const directory = temporaryDirectory(t);
  const data = join(directory, 'data');
  let cloud = await startCloud(data, ['--hypervisor', 'simulated', '--name', 'rack1']);
  t.teardown(() => cloud.kill());
  const environment = () => ({ UCLOUD_CREDENTIALS: cloud.credentials, UCLOUD_ENDPOINT: cloud.endpoint });
  const ucloud = (line: string, more: Record<string, string | undefined> = {}) =>
    run(line.split(' '), { ...environment(), ...more });
  const good = async (line: string): Promise<string> => {
    const { code, out, err } = await ucloud(line);
    t.equal(code, 0, `${line}\n${err}`);
    return out;
  };
  const json = async (line: string) => JSON.parse(await good(`${line} --json`));
  const bad = async (line: string, said: RegExp, more: Record<string, string | undefined> = {}) => {
    const { code, out, err } = await ucloud(line, more);
    t.equal(code, 1, line);
    t.match(err, said, line);
    t.notMatch(err, /\n\s+at /, `${line}: no stack`);
    t.equal(out, '', line);
  };
  const disk = join(directory, 'my disk.raw');
  writeFileSync(disk, Buffer.alloc(1024 * 1024).fill('55aa', 510, 512, 'hex'));

  await t.test('--help describes all commands', async (t) => {
    const [all, vm] = await Promise.all([good('--help'), good('vm --help')]);
    for (const word of ['up', 'api', 'scheduler', 'scanner', 'agent', 'operator-token', 'vm', 'host', 'image']) {
      t.match(all, new RegExp(`^  ${word} `, 'm'));
    }
    for (const word of ['create', 'list', 'get', 'update', 'delete', 'reboot', 'ssh', 'console-log']) {
      t.match(vm, new RegExp(`^  ${word} `, 'm'));
    }
  });

  await t.test('an operator sets it up', async (t) => {
    await good('prefix-pool create --name main --cidr fd4a:71ce:1::/48');
    const image = ['image', 'import', disk, '--name', 'demo', '--visibility', 'public', '--data', data];
    const imported = await run([...image, '--json'], environment());
    t.match(JSON.parse(imported.out), { name: 'demo', visibility: 'public', status: { phase: 'available' } });
    const again = await run(image, environment());
    t.match(again, { code: 1, err: /name_taken[\s\S]*\/name/ });
    const { source } = JSON.parse(imported.out);
    const kept = join(data, 'files', cloud.project, source.slice('file:'.length));
    t.ok(existsSync(kept), 'the file that the image was made of is left alone');
    const nonsense = join(directory, 'not-a-disk');
    writeFileSync(nonsense, '{"file.filename": "/etc/passwd"}');
    await bad(`image import ${nonsense} --name nonsense --data ${data}`, /nonsense is error: /);
    await bad(`image import ${nonsense} --name none --data ${directory}`, /machine of the image scanner/);
    t.match(
      await good('host list'),
      /^NAME +ALIVE +DRAINING +CORDONED +HYPERVISOR +CPUS USED.*\nrack1 +true +false +false/,
    );
    t.match(await good('host get rack1'), /^capacity:\n {2}cpus: .*\n {2}memory: 1TiB$/m);
  });

  await t.test('a customer makes a VM, restarts it, and removes it', async (t) => {
    await good('project create --name acme --quota vms=2,ssh_keys=0');
    const { secret } = await json('token create --name ci --project acme');
    const file = join(directory, 'customer', 'credentials.json');
    const customer = { UCLOUD_CREDENTIALS: file, UCLOUD_ENDPOINT: undefined };
    const login = (token: string, ...more: string[]) => run(['login', cloud.endpoint, ...more], customer, `${token}\n`);
    t.match(await login('wrong'), { code: 1, err: /unauthenticated/ });
    t.match(await login(''), { code: 1, err: /no token was given/ });
    t.match(await login(secret, '--project', 'default'), { code: 1, err: /no project with the id or name "default"/ });
    t.notOk(existsSync(file), 'a login that fails leaves nothing');
    t.match(await login(secret), { code: 0, out: /^Logged in to http:.* as ci \(member in project prj-.*customer/ });
    t.equal(statSync(file).mode & 0o777, 0o600);
    const mine = async (line: string) => {
      const { code, out, err } = await ucloud(line, customer);
      t.equal(code, 0, `${line}\n${err}`);
      return out;
    };
    t.match(
      await mine('project usage acme'),
      /^quota:\n {2}vms: 2\n {2}ssh_keys: 0\nused:\n {2}vms: 0\n {2}cpus: 0\n {2}memory: 0MiB/m,
    );
    const key = ['ssh-key', 'create', '--name', 'me', '--public-key', testPublicKey];
    t.match(await run(key, { ...environment(), ...customer }), {
      code: 1,
      err: /quota_exceeded[\s\S]*may have no SSH keys and has 0/,
    });
    await mine('prefix create --name site');
    await mine('network create --name web --prefix site');
    const made = await mine('vm create --name web-1 --image demo --interfaces web --labels tier=web --wait');
    t.match(made, /^ {2}phase: running$/m);
    const address = /^address: (\S+)$/m.exec(made)?.[1] ?? '';
    t.match(address, /^fd4a:71ce:1:/);
    const list = await mine('vm list --selector tier=web');
    t.match(list, /^NAME +ADDRESS +CPUS +MEMORY +DISK +PHASE +READY +HOST/);
    t.match(list, new RegExp(`web-1 +${address} .* running .* host-`));
    t.match(await mine('vm update web-1 --user-data #!/bin/true'), /^ {2}pending_changes:\n {4}- user_data$/m);
    t.match(await mine('vm reboot web-1 --wait'), /^state: succeeded$/m);
    t.match(await mine('vm get web-1'), /^ {2}restart_required: false$/m);
    t.notMatch(await mine('vm update web-1 --user-data null'), /^user_data:/m);
    t.match(await mine('vm stop web-1 --wait'), /^ {2}phase: stopped$/m);
    t.match(await mine('vm start web-1 --wait'), /^ {2}phase: running$/m);
    t.match(await mine('vm restart web-1 --wait'), /^state: succeeded$/m);
    t.match(
      (await ucloud('event list --limit 1', customer)).err,
      /^The list has more than these 1 items: .*--page-token/,
    );
    const [first, then] = [await mine('event list --limit 1'), await mine('event list --limit 2')];
    // Columns are as wide as what is in them.
    const lines = (text: string) =>
      text
        .replace(/ +/g, ' ')
        .split('\n')
        .filter((line) => line.startsWith('evt-'));
    t.strictSame(lines(then).slice(1), lines(first), 'as in a log, the newest event is at the bottom');
    t.match(await mine('event list'), /created +Created web-1/);

    // To the customer, what belongs to others is not there.
    await bad('host list', /forbidden/, customer);
    await bad('vm get web-2', /there is no VM with the id or name "web-2"/, customer);
    await bad('vm console-log web-1', /Run this on its host/, customer);
    const { id } = JSON.parse(await mine('vm get web-1 --json'));
    const console = join(data, 'host', 'vms', id);
    mkdirSync(console, { recursive: true });
    writeFileSync(join(console, 'console.log'), 'login:\u001b]0;owned\u0007\r\n');
    const logOf = `vm console-log web-1 --data ${data}`;
    t.equal(await mine(logOf), 'login:\u001b]0;owned\u0007\r\n', 'to a pipe it is as it is');
    const env = { ...process.env, ...environment(), ...customer };
    const onTerminal = execFileSync('script', ['-qec', `${ucloudCommand} ${logOf}`, '/dev/null'], { env });
    t.equal(onTerminal.toString(), 'login:\\u001b]0;owned\\u0007\r\n', 'to a terminal it is only shown');
    // For an operator, who names the project, names mean what they mean to the customer: public images, too.
    const probe = await json('vm create --name probe --project acme --image demo --interfaces web');
    await good(`vm delete ${probe.id} --wait`);
    await mine('vm create --name web-2 --image demo --interfaces web --memory 64TiB');
    await until('the scheduler has looked for a host', async () =>
      /^ {2}reason: no_host$/m.test(await mine('vm get web-2')),
    );
    await bad('vm update web-2 --description waits --wait --wait-timeout 1', /web-2 is pending: .*64 ?TiB/, customer);
    await mine('vm delete web-2 --wait');
    t.equal(await mine('vm delete web-1 --wait'), '');
    t.equal(await mine('vm list'), '');
  });

  await t.test('each mistake gets a clear error', async () => {
    await Promise.all([
      bad('nonsense', /unknown command 'nonsense'/),
      bad('vm create --nam x', /Did you mean --name/),
      bad('vm create --name x --cpus many', /--cpus: "many" is not a whole number/),
      bad('project create --name x --quota vms=many', /--quota\.vms: "many" is not a whole number/),
      bad('vm create --name x --labels {', /--labels: "\{" is not well-formed JSON/),
      bad('vm create --name X', /--interfaces: is required[\s\S]*--name: must be 1 to 63/),
      bad('vm list', /unauthenticated[\s\S]*UCLOUD_TOKEN/, { UCLOUD_TOKEN: 'wrong' }),
      bad('vm list', /"nonsense" must be a URL/, { UCLOUD_ENDPOINT: 'nonsense' }),
      bad('vm list', /http:\/\/\[::1\]:9 does not answer: .*ECONNREFUSED/, {
        UCLOUD_ENDPOINT: 'http://[::1]:9',
        UCLOUD_TOKEN: 'x',
      }),
      bad('vm list', /token in .* is for http:.*, so it is not sent to http:\/\/\[::1\]:9\. Set UCLOUD_TOKEN/, {
        UCLOUD_ENDPOINT: 'http://[::1]:9',
      }),
      bad('vm list', /cannot be used/, { UCLOUD_CREDENTIALS: disk }),
      bad('operator-token --name b --data /none', /\/none/),
    ]);
  });

  await t.test('a second start names the obstacle', async (t) => {
    const other = join(directory, 'other');
    const server = createServer().listen(0, '::1');
    t.teardown(() => server.close());
    const taken = await until('a port', () => server.address() ?? undefined);
    const port = typeof taken === 'string' ? 0 : taken.port;
    const certificates = join(directory, 'certificates');
    mkdirSync(certificates);
    await makeCertificates(certificates);
    const up = `up --hypervisor simulated --listen [::1]:0 --data ${other}`;
    await Promise.all([
      bad(`up --hypervisor simulated --data ${data} --listen [::1]:0`, /store\.db is in use by another process/),
      bad(`operator-token --name b --data ${data}`, /store\.db is in use by another process/),
      bad(`${up} --log-level loud`, /Allowed choices are debug, info, warn, error/),
      bad(`${up} --tls-cert ${certificates}/server.pem --tls-key ${certificates}/ca-key.pem`, /--tls-cert.*mismatch/),
    ]);
    const { code, err } = await ucloud(`${up} --listen [::1]:${port}`);
    t.equal(code, 1);
    t.match(err, new RegExp(`--listen: \\[::1\\]:${port} is in use by another process`));
  });

  await t.test('a place where nothing can be made is named, at once', async (t) => {
    const file = join(directory, 'a-file');
    writeFileSync(file, '');
    const fresh = join(directory, 'fresh');
    const up = (at: string) => `up --hypervisor simulated --listen [::1]:0 --data ${at}`;
    await Promise.all([
      // Where Node's own recursive mkdir never returns.
      bad(up('/proc/none'), /cannot make the directory \/proc\/none: the file system allows no new directory there/),
      bad(up(file), /cannot make the directory .*a-file: a file has this name/),
      bad(up(join(file, 'below')), /cannot make the directory .*a-file\/below: a part of the path is a file/),
      bad(`${up(join(directory, 'secret'))} --credentials /proc/none/credentials.json`, /the directory \/proc\/none:/),
      bad(`${up(join(directory, 'elsewhere'))} --store embedded:/proc/none/store.db`, /\/proc\/none/),
      bad(`${up(fresh)} --listen nonsense`, /--listen: "nonsense" is not of the form/),
      bad(`${up(fresh)} --tls-cert ${file}`, /--tls-cert and --tls-key must be given together/),
    ]);
    t.notOk(existsSync(fresh), 'what cannot be meant makes nothing');
  });

  await t.test('it ends at once when told to, and nothing is lost', async (t) => {
    await good('prefix create --name site');
    await good('network create --name web --prefix site');
    const { id, address } = await json('vm create --name lasting --image demo --interfaces web --wait');
    const port = new URL(cloud.endpoint).port;
    const began = performance.now();
    await cloud.stop();
    t.ok(performance.now() - began < 30_000, 'before any service manager would kill it');

    // The wait goes on while there is no server.
    const waiting = ucloud('vm delete lasting --wait');
    await bad('vm list', /does not answer/);
    t.match(await waiting, { code: 1, err: /does not answer/ }, 'what was not accepted is not waited for');
    const spare = (await run(['operator-token', '--name', 'spare', '--data', data], {})).out.trim();
    cloud = await startCloud(data, ['--hypervisor', 'simulated', '--name', 'rack1', '--listen', `[::1]:${port}`]);
    const { items } = await json('vm list');
    t.match(items, [{ id, address, status: { phase: 'running' } }], 'the same VM, still running');
    const { out } = await ucloud('token self', { UCLOUD_TOKEN: spare });
    t.match(out, /^role: operator$/m, 'a token made for who has lost theirs');

    await good('host update rack1 --draining true');
    const pending = ucloud('vm create --name late --image demo --interfaces web --wait');
    await until('the VM', async () => (await json('vm list --name late')).items.length === 1);
    await cloud.kill();
    await until('the wait has noticed', async () => !(await isUp(cloud.endpoint)));
    cloud = await startCloud(data, ['--hypervisor', 'simulated', '--name', 'rack1', '--listen', `[::1]:${port}`]);
    await good('host update rack1 --draining false');
    const late = await pending;
    t.equal(late.code, 0, late.err);
    t.match(late.err, /does not answer.*still waiting/);
    t.match(late.out, /^ {2}phase: running$/m);
    await Promise.all(['lasting', 'late'].map((name) => good(`vm delete ${name} --wait`)));
  });

  await t.test('the keys to an older cloud are not written over', async (t) => {
    const before = readFileSync(cloud.credentials, 'utf8');
    await cloud.stop();
    rmSync(join(data, 'store.db'));
    for (const suffix of ['-wal', '-shm']) rmSync(join(data, `store.db${suffix}`), { force: true });
    cloud = await startCloud(data, ['--hypervisor', 'simulated']);
    t.not(readFileSync(cloud.credentials, 'utf8'), before);
    const kept = /are now in (\S+)/.exec(cloud.output())?.[1] ?? '';
    t.equal(readFileSync(kept, 'utf8'), before);
  });
});

const isUp = (endpoint: string): Promise<boolean> =>
  fetch(`${endpoint}/healthz`).then(
    () => true,
    () => false,
  );
