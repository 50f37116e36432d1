/** Images from the scanner to hosts without a common directory: several hosts, and kill -9 of either side. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import { imageCopyId } from '../../backend/model/image/transfer.ts';
import { imageCopies, imageReports, imageServers, images } from '../../backend/model/records/index.ts';
import { put, read, remove } from '../../backend/store/collection.ts';
import type { Store } from '../../backend/store/store.ts';
import { type Cluster, clusterOn, MiB } from '../support/cluster.ts';
import { until, within } from '../support/eventually.ts';
import { fast, place, removeVm, startFetchingHost } from '../support/image-transfer.ts';
import { netNamespace, noNamespaces } from '../support/net-namespace.ts';
import { startSharedStore } from '../support/store-socket.ts';
import { temporaryDirectory } from '../support/stores.ts';

type Start = (script: string, args: readonly string[]) => ChildProcess;
const here: Start = (script, args) =>
  spawn(process.execPath, [join(import.meta.dirname, '..', 'support', script), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });

/** Ends the process with the test. */
function owned(t: Test, child: ChildProcess): ChildProcess {
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

interface Place {
  readonly cluster: Cluster<Store>;
  /** The store for processes. */
  readonly text: string;
  readonly files: string;
  readonly imageStore: string;
}

/** Starts a scanner, declares an image of a disk with so many random bytes, and waits for its import. */
async function scanner(t: Test, { text, files, imageStore }: Place, listen: string, start = here) {
  return owned(t, start('scanner-process.ts', [text, files, imageStore, listen]));
}

async function prepare(t: Test): Promise<Place> {
  const directory = temporaryDirectory(t);
  const { store, text } = await startSharedStore(t);
  return {
    cluster: await clusterOn(t, store),
    text,
    files: join(directory, 'files'),
    imageStore: join(directory, 'images'),
  };
}

async function importDisk(
  { cluster, files, imageStore }: Place,
  bytes: number,
): Promise<{ id: Id<'image'>; path: string }> {
  const [id, project] = [newId('image'), newId('project')];
  mkdirSync(join(files, project), { recursive: true });
  const disk = randomBytes(bytes);
  disk.writeUInt16BE(0x55aa, 510); // The signature of a boot sector.
  writeFileSync(join(files, project, 'disk.raw'), disk);
  const at = new Date().toISOString();
  const common = { id, project, name: 'disk', labels: {}, description: '', created_at: at, updated_at: at };
  const more = { architecture: 'x86_64', visibility: 'project', delete_protection: false } as const;
  await cluster.write(put(images, id, { ...common, ...more, source: 'file:disk.raw' }));
  const report = await until('the import ends', async () => {
    const found = (await read(cluster.store, imageReports, id))?.value;
    return found?.phase === 'importing' ? undefined : found;
  });
  if (report.phase === 'error') throw new Error(report.message);
  return { id, path: join(imageStore, `${id}.qcow2`) };
}

interface HostProcess {
  readonly child: ChildProcess;
  readonly id: Id<'host'>;
  /** The numbers of bytes of the fetches. */
  readonly fetches: number[];
  readonly dataDir: string;
}

async function hostProcess(
  t: Test,
  { text }: Place,
  dataDir: string,
  step?: string,
  start = here,
): Promise<HostProcess> {
  const args = [text, dataDir, ...(step === undefined ? [] : [step])];
  const child = owned(t, start('fetching-host-process.ts', args));
  const fetches: number[] = [];
  const id = await within(
    'the host starts',
    new Promise<Id<'host'>>((resolve, reject) => {
      child.once('exit', () => reject(new Error('the host ended')));
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
        if (line.startsWith('{')) fetches.push(JSON.parse(line).bytes);
        else resolve(line as Id<'host'>);
      });
    }),
  );
  return { child, id, fetches, dataDir };
}

const running = (cluster: Cluster<Store>, vm: Id<'vm'>) =>
  cluster.until('the VM runs', () => cluster.phase(vm) === 'running');

const skip = noNamespaces('qemu-img', 'etcd');

t.test(
  '30 VMs on three hosts without a common directory: each host fetches the bytes of the image once',
  { skip },
  async (t) => {
    const all = await prepare(t);
    const { cluster } = all;
    const hub = netNamespace(t, 'hub');
    hub.ip('link', 'add', 'name', 'br0', 'type', 'bridge');
    hub.ip('link', 'set', 'br0', 'up');
    const machine = (name: string, number: number) => {
      const namespace = netNamespace(t, name);
      hub.ip('link', 'add', 'name', `p${number}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace.name);
      hub.ip('link', 'set', `p${number}`, 'master', 'br0', 'up');
      namespace.ip('addr', 'add', `fd00:77::${number}/64`, 'dev', 'eth0', 'nodad');
      namespace.ip('link', 'set', 'eth0', 'up');
      const start: Start = (script, args) =>
        namespace.spawn(process.execPath, [join(import.meta.dirname, '..', 'support', script), ...args], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
      const received = (): number =>
        JSON.parse(namespace.ip('-s', '-j', 'link', 'show', 'eth0'))[0].stats64.rx.bytes as number;
      return { start, received };
    };
    await scanner(t, all, '::', machine('scan', 1).start);
    const image = await importDisk(all, 16 * MiB);
    const { size } = statSync(image.path);
    const server = (await read(cluster.store, imageServers, 'scanner'))?.value;
    t.ok(
      server?.urls.every((url) => url.startsWith('https://[fd00:77::1]:')),
      `${server?.urls}`,
    );

    const directory = temporaryDirectory(t);
    const machines = [2, 3, 4].map((number) => machine(`host${number}`, number));
    const hosts = await Promise.all(
      machines.map(({ start }, index) => hostProcess(t, all, join(directory, `${index}`), undefined, start)),
    );
    const before = machines.map(({ received }) => received());
    const placed = await Promise.all(
      hosts.flatMap(({ id }) => Array.from({ length: 10 }, () => place(cluster, id, image.id))),
    );
    for (const vm of placed) await running(cluster, vm);
    await until('all fetches are logged', () => hosts.every(({ fetches }) => fetches.length > 0));
    for (const [index, { fetches, dataDir }] of hosts.entries()) {
      t.same(fetches, [size], 'one fetch of all bytes');
      const bytes = (machines[index]?.received() ?? 0) - (before[index] ?? 0);
      t.ok(bytes > size && bytes < size * 1.1, `its interface got ${bytes} bytes for a file of ${size}`);
      t.same(readdirSync(join(dataDir, 'images')), [`${image.id}.qcow2`]);
      t.ok(readFileSync(join(dataDir, 'images', `${image.id}.qcow2`)).equals(readFileSync(image.path)));
    }

    await Promise.all(
      placed.map((vm, index) => removeVm(cluster, hosts[Math.floor(index / 10)]?.id as Id<'host'>, vm)),
    );
    await cluster.write(remove(images, image.id));
    const isGone = () =>
      [all.imageStore, ...hosts.map(({ dataDir }) => join(dataDir, 'images'))].every(
        (path) => !readdirSync(path).includes(`${image.id}.qcow2`),
      );
    await until('the deleted image is gone everywhere', isGone);
    await until('and so is its secret', async () => (await cluster.store.list('image-copies/')).entries.length === 0);
  },
);

const needsQemuImg = skip ? { skip } : {};

t.test('an agent that dies at any step of a fetch completes the fetch later', needsQemuImg, async (t) => {
  const all = await prepare(t);
  const { cluster } = all;
  await scanner(t, all, '::1');
  const directory = temporaryDirectory(t);
  const image = await importDisk(all, 2 * MiB);
  for (const step of ['opened', 'answered', 'received', 'synced', 'verified', 'completed']) {
    const dataDir = join(directory, step);
    const first = await hostProcess(t, all, dataDir, step);
    const died = once(first.child, 'exit');
    const vm = await place(cluster, first.id, image.id);
    const [, signal] = await within('the agent dies', died);
    t.equal(signal, 'SIGKILL', step);
    t.not(cluster.phase(vm), 'running');
    await hostProcess(t, all, dataDir);
    await running(cluster, vm);
    t.same(readdirSync(join(dataDir, 'images')), [`${image.id}.qcow2`], 'one file');
    t.ok(readFileSync(join(dataDir, 'images', `${image.id}.qcow2`)).equals(readFileSync(image.path)), 'all of it');
  }
});

t.test('a scanner that dies while it serves: hosts continue with the next one', needsQemuImg, async (t) => {
  const all = await prepare(t);
  const { cluster } = all;
  const first = await scanner(t, all, '::1');
  const image = await importDisk(all, 64 * MiB);
  let received = 0;
  const host = await startFetchingHost(t, cluster.store, {
    limits: { ...fast, rateWindowMs: 30_000 },
    onStep: (step) => {
      if (step === 'received' && ++received === 1) first.kill('SIGKILL');
    },
  });
  const vm = await place(cluster, host.id, image.id);
  await until('it is dead', () => first.signalCode !== null);
  await cluster.until('the VM waits', () => /cannot fetch/.test(cluster.report(vm)?.message ?? ''));
  await until('its record ends with its lease', async () => !(await read(cluster.store, imageServers, 'scanner')));
  // Images of earlier versions have no such record, so the next scanner writes it.
  await cluster.write(remove(imageCopies, imageCopyId(image.id, 'scanner')));
  await scanner(t, all, '::1');
  await running(cluster, vm);
  t.ok(readFileSync(join(host.copies, `${image.id}.qcow2`)).equals(readFileSync(image.path)));
  t.equal(await host.files.clean(), 1);
  t.notOk(existsSync(host.copies), '`ucloud host clean` removes the copies');
});
