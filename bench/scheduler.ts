/**
 * Measures the VMs per second that the scheduler places. It compares them with the VMs per second that the same store
 * commits in equal transactions: 40 VMs each, with three records per VM.
 *
 *   node bench/scheduler.ts [--vms 4000] [--hosts 1000,10000] [--agents 0] [--store <address>]
 *
 * The hosts are only records, so this measures the scheduler. With `--agents <n>` the bench also starts n simulated
 * hosts with real agents, and measures the time from the declarations until all VMs run.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startSimulatedHosts } from '../backend/host/simulated-fleet.ts';
import { newId } from '../backend/model/ids.ts';
import {
  alive,
  events,
  hostPolicies,
  hosts,
  imageReports,
  images,
  networks,
  placements,
  reports,
  schedules,
  type VmRecord,
  vms,
} from '../backend/model/records/index.ts';
import { startScheduler } from '../backend/scheduler/start.ts';
import { put, removeAll } from '../backend/store/collection.ts';
import { openMirror } from '../backend/store/mirror.ts';
import { openStore } from '../backend/store/open.ts';
import type { RecordKind } from '../backend/store/record-kind.ts';
import type { Store, Write } from '../backend/store/store.ts';
import { silentLogger } from '../test/support/silent-logger.ts';
import { perSecond, printTable, ratio } from './support/table.ts';

const { values } = parseArgs({
  options: {
    vms: { type: 'string', default: '4000' },
    hosts: { type: 'string', default: '1000,10000' },
    agents: { type: 'string', default: '0' },
    store: { type: 'string' },
  },
});
const count = Number(values.vms);
const agents = Number(values.agents);
for (const hosts of [...values.hosts.split(',').filter(Boolean).map(Number), ...(agents > 0 ? [agents] : [])]) {
  if (count > hosts * 30) throw new Error(`${count} VMs do not fit on ${hosts} hosts: 30 each do`);
}
const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
const store: Store = await openStore(values.store ?? `embedded:${join(directory, 'store.db')}`);
const GiB = 2 ** 30;
const at = new Date().toISOString();
const declared = { created_at: at, updated_at: at };
const project = newId('project');
const image = newId('image');
const network = newId('network');
const kinds: readonly RecordKind[] = [
  vms,
  images,
  imageReports,
  networks,
  hosts,
  hostPolicies,
  alive,
  schedules,
  placements,
  reports,
  events,
];

async function write(writes: readonly Write[]): Promise<void> {
  const commits: Promise<unknown>[] = [];
  for (let at = 0; at < writes.length; at += 100) {
    commits.push(store.commit({ write: writes.slice(at, at + 100) }));
    if (commits.length === 8) await Promise.all(commits.splice(0));
  }
  await Promise.all(commits);
}

async function clear(): Promise<void> {
  await store.commit({ write: kinds.map((kind) => removeAll(kind, '')) });
}

const declarations: Write[] = [
  put(images, image, {
    id: image,
    project,
    name: 'bench',
    labels: {},
    description: '',
    source: 'file:x',
    architecture: 'x86_64',
    visibility: 'project',
    delete_protection: false,
    ...declared,
  }),
  put(imageReports, image, { phase: 'available', at }),
  put(networks, network, {
    id: network,
    project,
    name: 'bench',
    labels: {},
    prefix: newId('prefix'),
    cidr: '2001:db8::/64',
    mtu: 1450,
    dns_servers: [],
    vni: 1,
    ...declared,
  }),
];

function newVm(n: number): VmRecord {
  const id = newId('vm');
  const mac = `02:00:00:${[16, 8, 0].map((shift) => ((n >> shift) & 255).toString(16).padStart(2, '0')).join(':')}`;
  return {
    id,
    project,
    name: `vm-${n}`,
    labels: {},
    description: '',
    image,
    interfaces: [{ network, mac, address: '2001:db8::1' }],
    cpus: 1 + (n % 4),
    memory: (1 + (n % 8)) * GiB,
    disk_size: (10 + (n % 5)) * GiB,
    ssh_keys: [],
    power_state: 'running',
    delete_protection: false,
    generation: 1,
    ...declared,
  };
}

/** Runs four transactions at a time, like the scheduler. */
async function rawCommits(): Promise<number> {
  const begun = performance.now();
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const size = Math.min(40, count - next);
      const first = next;
      next += size;
      const write = Array.from({ length: size }, (_, offset) => {
        const id = newId('vm');
        const host = newId('host');
        const event = newId('event');
        const message = `Placed on ${host}.`;
        return [
          put(schedules, id, { host, fence: 1, at }),
          put(placements, `${host}/${id}`, { fence: 1, cpus: 1, memory: GiB, disk: GiB, at }),
          put(events, event, {
            id: event,
            project,
            at,
            target: `vm-${first + offset}`,
            severity: 'info',
            reason: 'scheduled',
            message,
          }),
        ];
      }).flat();
      await store.commit({ require: [{ key: 'leader/none', exists: false }], write });
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
  return count / ((performance.now() - begun) / 1000);
}

async function placementsPerSecond(hostCount: number): Promise<number> {
  await clear();
  const hostRecords = Array.from({ length: hostCount }, (_, n) => {
    const id = newId('host');
    const capacity = { cpus: 32 + (n % 3) * 16, memory: (128 + (n % 5) * 32) * GiB, disk: 2000 * GiB };
    return [
      put(hosts, id, {
        id,
        name: `host-${n}`,
        hypervisor: 'simulated',
        accelerator: 'none',
        architecture: 'x86_64',
        version: '0',
        capacity,
        created_at: at,
      }),
      put(alive, id, { at }),
    ];
  }).flat();
  const vmRecords = Array.from({ length: count }, (_, n) => newVm(n)).map((vm) => put(vms, vm.id, vm));
  await write([...declarations, ...hostRecords, ...vmRecords]);
  const mirror = await openMirror(store, { prefixes: [''], kinds: [placements] });
  const scheduler = await startScheduler({ store, logger: silentLogger });
  const begun = performance.now();
  while (mirror.size(placements) < count)
    await mirror.waitForChange({ after: mirror.revision, of: [{ kind: placements }], timeoutMs: 1000 });
  const rate = count / ((performance.now() - begun) / 1000);
  await scheduler.close();
  await mirror.close();
  return rate;
}

const raw = await rawCommits();
const rows = [['raw commits of the same writes', perSecond(raw), '1.00']];
const add = (name: string, rate: number) => rows.push([name, perSecond(rate), ratio(rate, raw)]);
for (const hostCount of values.hosts.split(',').filter(Boolean).map(Number)) {
  add(`placements, ${hostCount} hosts`, await placementsPerSecond(hostCount));
}
if (agents > 0) add(`declared to running, ${agents} agents`, await runsPerSecond(agents));
console.log(`${count} VMs, store: ${values.store ?? 'embedded'}`);
printTable(['', 'VMs/s', 'ratio'], rows);
await clear();
await store.close();
rmSync(directory, { recursive: true, force: true });

async function runsPerSecond(agents: number): Promise<number> {
  await clear();
  await write(declarations);
  const scheduler = await startScheduler({ store, logger: silentLogger });
  const capacity = { cpus: 64, memory: 512 * GiB, disk: 10_000 * GiB };
  const simulated = { count: agents, capacity, bootMs: 1, readyMs: 10 };
  const fleet = await startSimulatedHosts({
    store,
    logger: silentLogger,
    dataDir: directory,
    version: '0',
    ...simulated,
  });
  const mirror = await openMirror(store, { prefixes: [''], kinds: [reports] });
  const running = mirror.index(reports, ({ value }) => value.phase);
  const begun = performance.now();
  await write(Array.from({ length: count }, (_, n) => newVm(n)).map((vm) => put(vms, vm.id, vm)));
  while (running.size('running') < count)
    await mirror.waitForChange({ after: mirror.revision, of: [{ kind: reports }], timeoutMs: 1000 });
  const rate = count / ((performance.now() - begun) / 1000);
  await mirror.close();
  await fleet.close();
  await scheduler.close();
  return rate;
}
