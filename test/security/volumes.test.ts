/** Attacks on volumes by tenants, guests, and QEMU processes that their guests have taken over. */
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { passDescriptor } from '../../backend/host/hypervisor/qemu/pass-descriptor.ts';
import { Qmp, QmpError } from '../../backend/host/hypervisor/qemu/qmp.ts';
import { setVolumes } from '../../backend/host/hypervisor/qemu/volumes.ts';
import { DirectoryPool } from '../../backend/host/storage/pools/directory-pool.ts';
import { run } from '../../backend/host/system/command.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { builtInPool } from '../../backend/model/storage/pool.ts';
import type { VolumeSpec } from '../../backend/model/vm/volumes.ts';
import { startTestApi } from '../support/api.ts';
import { temporaryDirectory } from '../support/stores.ts';

const MiB = 1024 ** 2;
const volume = idFrom('volume', 'vol-0123456789abcdef');
const spec: VolumeSpec = {
  id: volume,
  host: idFrom('host', 'host-0123456789abcdef'),
  pool: { id: builtInPool, settings: { kind: 'local' } },
  slot: 0,
  size: MiB,
  max_iops: 0,
  max_throughput: 0,
  created: false,
};

async function serve(t: Test, attack: (socket: Socket) => void): Promise<string> {
  const path = join(temporaryDirectory(t), 'monitor');
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    attack(socket);
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return path;
}

const faultOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

t.test('a monitor that takes files cannot hold up or fill the agent', async (t) => {
  const file = join(temporaryDirectory(t), 'volume');
  writeFileSync(file, '');
  const attacks: Readonly<Record<string, (socket: Socket) => void>> = {
    'closes at once': (socket) => socket.destroy(),
    'says nothing': () => undefined,
    'greets and says nothing more': (socket) => void socket.write('{"QMP": {}}\n'),
    'a line without end': (socket) => {
      const more = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65536, 0x20)));
      };
      socket.on('drain', more);
      more();
    },
    'lines that are no answers': (socket) => void socket.write('{"event": 1}\n'.repeat(1_000)),
    'an error with control characters': (socket) => {
      socket.write('{"QMP": {}}\n');
      socket.on('data', () => socket.write(`{"error": "\u001b[2J${'x'.repeat(100_000)}"}\n`));
    },
  };
  for (const [name, attack] of Object.entries(attacks)) {
    const fault = await faultOf(passDescriptor(await serve(t, attack), file, volume));
    t.ok(fault instanceof QmpError, name);
    const { message } = fault as Error;
    t.ok(message.length < 1_000 && !message.includes('\u001b'), `${name}: ${message.slice(0, 80)}`);
  }
});

const source = async () => ({ kind: 'file', path: '/dev/null' }) as const;

t.test('false answers about volumes end the connection or are repeated, and change nothing else', async (t) => {
  const answers: readonly unknown[] = [
    null,
    7,
    {},
    [null, 7, 'x', []],
    [{ name: '__proto__' }, { 'node-name': 'constructor' }],
    [{ name: { toString: 1 }, 'node-name': [], 'fdset-id': '1', fds: 7 }],
    Array.from({ length: 5_000 }, (_, number) => ({
      name: `device-vol-${number}`,
      'node-name': `vol-${number}`,
      fds: [],
    })),
  ];
  for (const answer of answers) {
    let commands = 0;
    const path = await serve(t, (socket) => {
      socket.write('{"QMP": {}}\n');
      const lines = createInterface({ input: socket });
      lines.on('error', () => undefined);
      lines.on('line', (line) => {
        commands++;
        const { id, execute } = JSON.parse(line) as { id: number; execute: string };
        const result = execute.startsWith('query') || execute === 'qom-list' ? answer : {};
        socket.write(`${JSON.stringify({ return: result, id })}\n`);
      });
    });
    const qmp = await Qmp.connect(path, 5_000);
    let passed = 0;
    const supply = {
      prepare: async () => undefined,
      source,
      pass: async () => {
        passed++;
      },
    };
    // An answer of the wrong form ends the call. QEMU may also refuse the steps for the one volume.
    const fault = await setVolumes(qmp, [spec], supply).then(
      ({ faults }) => faults.get(volume),
      (error: unknown) => error,
    );
    t.ok(fault instanceof QmpError, JSON.stringify(answer).slice(0, 60));
    t.ok(passed <= 1, 'at most its own file is passed');
    t.ok(commands < 50, `${commands} commands`);
    qmp.close();
  }
});

t.test('a slow monitor gets one deadline for all commands about volumes', async (t) => {
  const path = await serve(t, (socket) => {
    socket.write('{"QMP": {}}\n');
    const lines = createInterface({ input: socket });
    lines.on('error', () => undefined);
    lines.on('line', (line) => {
      const { id, execute } = JSON.parse(line) as { id: number; execute: string };
      const slow = execute === 'qmp_capabilities' ? 0 : 400;
      const result = execute.startsWith('query') || execute === 'qom-list' ? [] : {};
      setTimeout(() => socket.write(`${JSON.stringify({ return: result, id })}\n`), slow);
    });
  });
  const qmp = await Qmp.connect(path, 5_000);
  const many = Array.from({ length: 16 }, (_, slot) => ({ ...spec, slot }));
  const supply = { prepare: async () => undefined, source, pass: async () => undefined };
  t.match(await faultOf(setVolumes(qmp, many, supply, new Map(), 1_000)), { message: /did not answer/ });
  t.ok(qmp.closed, 'and its connection ends');
});

t.test('only root reads the data of volumes, and no id leads elsewhere', async (t) => {
  const directory = temporaryDirectory(t);
  const pool = new DirectoryPool({ path: join(directory, 'volumes'), run, marker: 'none' });
  for (const id of [
    '../../etc/passwd',
    'vol-../../../etc/x',
    'vol-',
    'vol-0123456789abcdef/../x',
    'vm-0123456789abcdef',
  ]) {
    await t.rejects(pool.ensure(id as Id<'volume'>, MiB), /not the id of a volume/, id);
    await t.rejects(pool.remove(id as Id<'volume'>), /not the id of a volume/);
  }
  const file = join(directory, 'volumes', `${volume}.raw`);
  await pool.ensure(volume, MiB);
  t.equal(statSync(join(directory, 'volumes')).mode & 0o777, 0o700);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.strictSame(readFileSync(file), Buffer.alloc(MiB), 'a new volume is empty');
  writeFileSync(file, 'secret', { flag: 'r+' });
  await pool.ensure(volume, MiB / 2);
  t.equal(statSync(file).size, MiB, 'it never shrinks');
  await pool.remove(volume);
  t.strictSame(readdirSync(join(directory, 'volumes')), []);
  await pool.ensure(volume, MiB);
  t.notOk(readFileSync(file).includes('secret'), 'nothing of a deleted volume comes back');
});

t.test('a project learns nothing about volumes of another project', async (t) => {
  const { operator, member, project } = await startTestApi(t);
  const stranger = (await operator.create('projects', { name: 'stranger' })).id as typeof project;
  const outsider = await member(stranger);
  const own = await member(project);
  const secret = await own.create('volumes', { name: 'secret', size: '1GiB' });
  const unknown = 'vol-zzzzzzzzzzzzzzzz';
  for (const [method, body] of [
    ['GET', undefined],
    ['PATCH', { size: '2GiB' }],
    ['DELETE', undefined],
  ] as const) {
    const [seen, missing] = await Promise.all(
      [secret.id, unknown].map((id) => outsider.request(method, `/v1/volumes/${id}`, body)),
    );
    t.equal(seen?.status, 404, method);
    t.equal(
      seen?.body.detail?.replace(secret.id, unknown),
      missing?.body.detail,
      'as for a volume that does not exist',
    );
  }
  t.strictSame((await outsider.list('volumes')).items, []);
  const viewer = await member(project, 'viewer');
  t.equal((await viewer.request('DELETE', `/v1/volumes/${secret.id}`)).status, 403);
  t.equal((await viewer.request('POST', '/v1/volumes', { name: 'x', size: '1GiB' })).status, 403);
});
