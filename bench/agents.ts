/**
 * Measures the agents of a large cloud: the memory of an agent, the changes that it gets, and the time from the commit of a placement
 * until all hosts of its network have the entry. It compares two clouds in which each host has the same VMs and networks, and
 * the second one has ten times the VMs.
 *
 *   node bench/agents.ts [--agents 500] [--vms 2000,20000] [--processes 4] [--placements 100] [--per-host 4] [--spread 4]
 *
 * The database is a real etcd. Each agent is real, has a mirror of its own, and simulates only its guests. The agents of the
 * measurement are in a few processes. All other VMs of the cloud are on hosts that are only records.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Id } from '../backend/contract/fields.ts';
import { createSimulatedHypervisor } from '../backend/host/hypervisor/simulated.ts';
import { startHost } from '../backend/host/start.ts';
import { openOwnView } from '../backend/host/view.ts';
import { idFrom, newId } from '../backend/model/ids.ts';
import { formatIpv6 } from '../backend/model/network/addresses.ts';
import { completeCarriers } from '../backend/model/network/carriers.ts';
import { memberId } from '../backend/model/network/members.ts';
import { placementId } from '../backend/model/placement/placement-id.ts';
import * as records from '../backend/model/records/index.ts';
import { put } from '../backend/store/collection.ts';
import { openEtcdStore } from '../backend/store/etcd.ts';
import { openMirror } from '../backend/store/mirror.ts';
import type { Store, Write } from '../backend/store/store.ts';
import { startEtcd } from '../test/support/etcd.ts';
import { within } from '../test/support/eventually.ts';
import { silentLogger } from '../test/support/silent-logger.ts';
import { printTable, ratio } from './support/table.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    agents: { type: 'string', default: '500' },
    vms: { type: 'string', default: '2000,20000' },
    processes: { type: 'string', default: '4' },
    placements: { type: 'string', default: '100' },
    'per-host': { type: 'string', default: '4' },
    spread: { type: 'string', default: '4' },
  },
});
const GiB = 2 ** 30;
/** Milliseconds in which the traffic of agents without changes is measured. */
const idleMs = 5_000;
const at = new Date().toISOString();
const declared = { created_at: at, updated_at: at };
const size = { cpus: 1, memory: GiB, disk: GiB };

// ---- a process with agents
// -------------------------------------------------------------------------------------------------------

interface Assignment {
  readonly endpoint: string;
  readonly directory: string;
  readonly hosts: readonly { readonly id: string; readonly address: string }[];
}

/** The times at which the entries of addresses were on a host, on the clock of the machine. */
interface Entries {
  readonly entries: readonly (readonly [address: string, atMs: number])[];
}

interface Figures {
  readonly bytes: number;
  readonly changes: number;
  readonly keys: number;
}

const clock = (): number => performance.timeOrigin + performance.now();

async function runAgents({ endpoint, directory, hosts }: Assignment): Promise<void> {
  const stores: Store[] = [];
  const views: Awaited<ReturnType<typeof openOwnView>>[] = [];
  const send = (message: unknown) => process.send?.(message);
  let seen: (readonly [string, number])[] = [];
  const memory = () => {
    globalThis.gc?.();
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const store = await openEtcdStore({ endpoints: [endpoint], requestTimeoutMs: 60_000 });
  stores.push(store);
  const empty = memory();
  const start = async ({ id, address }: Assignment['hosts'][number]) => {
    const dataDir = join(directory, id);
    const hypervisor = createSimulatedHypervisor({
      dataDir,
      capacity: { cpus: 64, memory: 512 * GiB, disk: 9000 * GiB },
    });
    const known = new Set<string>();
    const setNetworks = hypervisor.setNetworks.bind(hypervisor);
    hypervisor.setNetworks = async (networks, fabric, routes) => {
      const faults = await setNetworks(networks, fabric, routes);
      const now = clock();
      for (const each of fabric?.interfaces ?? []) {
        if (known.has(each.address)) continue;
        known.add(each.address);
        seen.push([each.address, now]);
      }
      return faults;
    };
    mkdirSync(dataDir, { recursive: true });
    writeFileSync(join(dataDir, 'host-id'), `${id}\n`);
    const view = await openOwnView(store, silentLogger, idFrom('host', id));
    views.push(view);
    const underlay = { address, mtu: 9000 };
    await startHost({
      store,
      logger: silentLogger,
      hypervisor,
      dataDir,
      name: id,
      version: '0',
      leaseSeconds: 600,
      view,
      underlay,
    });
  };
  for (let first = 0; first < hosts.length; first += 10) await Promise.all(hosts.slice(first, first + 10).map(start));
  setInterval(() => {
    if (seen.length === 0) return;
    send({ entries: seen } satisfies Entries);
    seen = [];
  }, 20);
  process.on('message', (message) => {
    if (message !== 'figures') return;
    void Promise.all(views.map(({ mirror }) => mirror.catchUp())).then(() =>
      send({
        bytes: (memory() - empty) / hosts.length,
        changes: views.reduce(
          (sum, { mirror }) => sum + ('watchedChanges' in mirror ? Number(mirror.watchedChanges) : 0),
          0,
        ),
        keys:
          views.reduce((sum, { mirror }) => sum + ('scopeSize' in mirror ? Number(mirror.scopeSize) : 0), 0) /
          hosts.length,
      } satisfies Figures),
    );
  });
  send('ready');
}

// ---- the cloud
// -------------------------------------------------------------------------------------------------------

interface Host {
  readonly id: Id<'host'>;
  readonly address: string;
}
interface Network {
  readonly id: Id<'network'>;
  readonly project: Id<'project'>;
  readonly number: number;
  readonly hosts: readonly Host[];
}

const networkAddress = (number: number, n: number): string =>
  formatIpv6((0x2001_0db8n << 96n) | (BigInt(number) << 64n) | BigInt(n));
const macOf = (n: number): string =>
  `42:00:${[24, 16, 8, 0].map((shift) => ((n >>> shift) & 255).toString(16).padStart(2, '0')).join(':')}`;

class Cloud {
  readonly store: Store;
  readonly image = newId('image');
  readonly prefix = newId('prefix');
  #vms = 0;

  constructor(store: Store) {
    this.store = store;
  }

  async write(writes: readonly Write[]): Promise<void> {
    let commits: Promise<unknown>[] = [];
    for (let first = 0; first < writes.length; first += 100) {
      commits.push(this.store.commit({ write: writes.slice(first, first + 100) }));
      if (commits.length === 8) {
        await Promise.all(commits);
        commits = [];
      }
    }
    await Promise.all(commits);
  }

  network(number: number, hosts: readonly Host[]): { network: Network; write: Write[] } {
    const id = newId('network');
    const project = newId('project');
    const record = {
      ...{ id, project, name: 'bench', labels: {}, prefix: this.prefix, mtu: 1450, dns_servers: [], vni: number + 100 },
      cidr: `${networkAddress(number, 0)}/64`,
      ...declared,
    };
    const carriers = { hosts: hosts.slice(0, 3).map((host) => host.id) };
    return {
      network: { id, project, number, hosts },
      write: [put(records.networks, id, record), put(records.networkCarriers, id, carriers)],
    };
  }

  /** Returns the writes of a placed VM, and its address. */
  vm(network: Network, host: Host): { address: string; write: Write[] } {
    const n = ++this.#vms;
    const id = newId('vm');
    const mac = macOf(n);
    const address = networkAddress(network.number, n);
    const record: records.VmRecord = {
      ...{ id, project: network.project, name: `vm-${n}`, labels: {}, description: '', image: this.image },
      interfaces: [{ network: network.id, mac, address }],
      ...{ cpus: 1, memory: GiB, disk_size: GiB, ssh_keys: [], power_state: 'running', delete_protection: false },
      generation: 1,
      ...declared,
    };
    const write = [
      put(records.vms, id, record),
      put(records.schedules, id, { host: host.id, fence: 1, at }),
      put(records.placements, placementId(host.id, id), { fence: 1, ...size, at }),
      put(records.networkMembers, memberId(network.id, mac), { vm: id, host: host.id, fence: 1, address }),
    ];
    return { address, write };
  }

  hostRecord({ id, address }: Host): Write[] {
    const capacity = { cpus: 64, memory: 512 * GiB, disk: 9000 * GiB };
    const facts = {
      hypervisor: 'simulated',
      accelerator: 'none',
      architecture: 'x86_64',
      version: '0',
      capacity,
    } as const;
    const underlay = { address, mtu: 9000 };
    return [
      put(records.hosts, id, { id, name: id, ...facts, underlay, created_at: at }),
      put(records.alive, id, { at }),
    ];
  }

  base(): Write[] {
    const common = { project: newId('project'), labels: {}, ...declared };
    return [
      put(records.images, this.image, {
        ...{ ...common, id: this.image, name: 'bench', description: '', source: 'file:x', architecture: 'x86_64' },
        ...{ visibility: 'public', delete_protection: false },
      }),
      put(records.imageReports, this.image, { phase: 'available', at }),
      put(records.networkCarriers, completeCarriers, { hosts: [] }),
    ];
  }
}

const quantile = (sorted: readonly number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;

interface Result {
  readonly bytes: number;
  readonly keys: number;
  /** The changes that an agent gets for each placement and change of VM in the cloud. */
  readonly changes: number;
  readonly unrelated: number;
  /** Bytes from etcd. */
  readonly traffic: number;
  readonly p50: number;
  readonly p99: number;
}

async function measure(vmCount: number): Promise<Result> {
  const [agents, processes, placements] = [Number(values.agents), Number(values.processes), Number(values.placements)];
  const [perHost, spread] = [Number(values['per-host']), Number(values.spread)];
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
  const etcd = await startEtcd();
  const store = await openEtcdStore({ ...etcd.options, requestTimeoutMs: 60_000 });
  const cloud = new Cloud(store);
  const children: ChildProcess[] = [];
  try {
    const host = (n: number): Host => ({ id: newId('host'), address: formatIpv6((0xfd00n << 112n) | BigInt(n + 1)) });
    const hosts = Array.from({ length: agents }, (_, n) => host(n));
    // The hosts of agents form groups. The VMs of a network are on the hosts of its group.
    const networks: Network[] = [];
    const writes: Write[] = [...cloud.base()];
    // Otherwise each start would change the paths of all other hosts.
    writes.push(...hosts.flatMap((each) => cloud.hostRecord(each).slice(0, 1)));
    for (let first = 0; first < hosts.length; first += spread) {
      const made = cloud.network(networks.length, hosts.slice(first, first + spread));
      networks.push(made.network);
      writes.push(...made.write);
      for (const each of made.network.hosts)
        for (let n = 0; n < perHost; n++) writes.push(...cloud.vm(made.network, each).write);
    }
    // All other VMs: on hosts without an agent, in networks of their own.
    const others: Host[] = Array.from({ length: 50 }, (_, n) => host(agents + n));
    writes.push(...others.flatMap((each) => cloud.hostRecord(each)));
    const foreign = cloud.network(networks.length, others);
    writes.push(...foreign.write);
    for (let n = agents * perHost; n < vmCount; n++)
      writes.push(...cloud.vm(foreign.network, others[n % others.length] ?? host(0)).write);
    await cloud.write(writes);

    const latest = new Map<string, { missing: number; last: number; readonly complete: () => void }>();
    const ready: Promise<unknown>[] = [];
    for (let n = 0; n < processes; n++) {
      const child = fork(process.argv[1] ?? '', ['agents'], {
        execArgv: ['--expose-gc', '--max-old-space-size=6000'],
        serialization: 'json',
      });
      children.push(child);
      child.on('message', (message) => {
        if (typeof message !== 'object' || !('entries' in message)) return;
        for (const [address, atMs] of (message as Entries).entries) {
          const wanted = latest.get(address);
          if (wanted === undefined) continue;
          wanted.missing--;
          wanted.last = Math.max(wanted.last, atMs);
          if (wanted.missing === 0) wanted.complete();
        }
      });
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      child.on('message', (message) => message === 'ready' && resolve(message));
      child.on('exit', (code) => reject(new Error(`a process of agents ended with ${code}`)));
      ready.push(promise);
      const own = hosts.filter((_, index) => index % processes === n);
      child.send({ endpoint: etcd.endpoint, directory, hosts: own } satisfies Assignment);
    }
    await Promise.all(ready);
    const ask = async (): Promise<Figures[]> => {
      const answers = children.map((child) => {
        const { promise, resolve } = Promise.withResolvers<Figures>();
        const listen = (message: unknown) => {
          if (typeof message !== 'object' || message === null || !('bytes' in message)) return;
          child.off('message', listen);
          resolve(message as Figures);
        };
        child.on('message', listen);
        child.send('figures');
        return promise;
      });
      return Promise.all(answers);
    };
    const changesOf = (figures: readonly Figures[]) => figures.reduce((sum, { changes }) => sum + changes, 0) / agents;
    // The guest of each VM reports last that it is ready.
    const kinds = [records.guests];
    const running = await openMirror(store, { prefixes: [records.guests.prefix], kinds });
    while (running.size(records.guests) < agents * perHost)
      await running.waitForChange({ after: running.revision, of: [{ kind: records.guests }], timeoutMs: 1000 });
    await running.close();
    let quiet = await ask();

    // Changes of VMs elsewhere.
    const sent = async (): Promise<number> => {
      const text = await (await fetch(`http://${etcd.endpoint}/metrics`)).text();
      return Number(/^etcd_network_client_grpc_sent_bytes_total (\S+)$/m.exec(text)?.[1]);
    };
    const { unrelated, traffic } = await (async () => {
      // Agents report that they are alive, and etcd answers. This traffic does not depend on changes.
      const [idleFrom, idleSent] = [clock(), await sent()];
      await delay(idleMs);
      const [from, before] = [clock(), await sent()];
      const idle = (before - idleSent) / (from - idleFrom);
      for (let n = 0; n < placements; n++)
        await store.commit({ write: cloud.vm(foreign.network, others[0] ?? host(0)).write });
      const after = await ask();
      const changes = (changesOf(after) - changesOf(quiet)) / placements;
      quiet = after;
      const more = (await sent()) - before - idle * (clock() - from);
      return { unrelated: changes, traffic: Math.max(0, more) / placements / agents };
    })();

    // A placement at a time: the entries come to all other hosts of the network.
    const times: number[] = [];
    for (let n = 0; n < placements; n++) {
      const network = networks[n % networks.length];
      if (network === undefined) throw new Error('no network');
      const { address, write } = cloud.vm(network, network.hosts[n % network.hosts.length] ?? host(0));
      const { promise: all, resolve: complete } = Promise.withResolvers<void>();
      const wanted = { missing: network.hosts.length - 1, last: 0, complete };
      latest.set(address, wanted);
      if (wanted.missing === 0) complete();
      await store.commit({ write });
      const begun = clock();
      await within(`the entries of ${address} on all hosts`, all, 60);
      times.push(Math.max(0, wanted.last - begun));
    }
    times.sort((a, b) => a - b);
    const end = await ask();
    return {
      bytes: end.reduce((sum, { bytes }) => sum + bytes, 0) / end.length,
      keys: end.reduce((sum, { keys }) => sum + keys, 0) / end.length,
      changes: (changesOf(end) - changesOf(quiet)) / placements,
      unrelated,
      traffic,
      p50: quantile(times, 0.5),
      p99: quantile(times, 0.99),
    };
  } finally {
    for (const child of children) {
      child.removeAllListeners('exit');
      child.kill('SIGKILL');
    }
    await store.close();
    await etcd.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

if (positionals[0] === 'agents') {
  const [assignment] = (await once(process, 'message')) as [Assignment];
  await runAgents(assignment);
} else {
  const counts = values.vms.split(',').map(Number);
  const results = new Map<number, Result>();
  for (const count of counts) results.set(count, await measure(count));
  const [first] = results.values();
  if (first === undefined) throw new Error('--vms names no numbers');
  const rows = (name: string, of: (result: Result) => number, unit: string, digits = 1) =>
    [...results].map(([count, result]) => [
      name,
      String(count),
      `${of(result).toFixed(digits)} ${unit}`,
      of(first) === 0 ? '-' : ratio(of(result), of(first)),
    ]);
  console.log(`${values.agents} agents in ${values.processes} processes, etcd`);
  printTable(
    ['', 'VMs in the cloud', 'figure', 'ratio'],
    [
      ...rows('memory of an agent', ({ bytes }) => bytes / 2 ** 20, 'MiB', 2),
      ...rows('watched keys and prefixes of an agent', ({ keys }) => keys, ''),
      ...rows('changes at an agent for a VM elsewhere', ({ unrelated }) => unrelated, '', 3),
      ...rows('bytes from etcd to an agent for a VM elsewhere', ({ traffic }) => traffic, 'B'),
      ...rows('changes at an agent for a placement', ({ changes }) => changes, '', 3),
      ...rows('placement to entries on all hosts, p50', ({ p50 }) => p50, 'ms'),
      ...rows('placement to entries on all hosts, p99', ({ p99 }) => p99, 'ms'),
    ],
  );
}
