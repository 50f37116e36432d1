/**
 * Measures networks over many hosts: `node bench/network.ts [--rounds 5] [--pings 500] [--mebibytes 64] [--commits 100]`.
 *
 * - Latency and throughput between guests on two hosts, against the same VXLAN set up by hand between two further hosts, as
 *   ratios within one run. All guests are namespaces whose frames a process passes, so the process limits the absolute figures.
 * - The time from a commit of the database to the entries in the kernels of all hosts of a lab: agents, etcd and kernels are real.
 *
 * A part with 0 rounds or commits is left out.
 */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import type { Test } from 'tap';
import { idFrom, newId } from '../backend/model/ids.ts';
import { memberId } from '../backend/model/network/members.ts';
import { networkMembers } from '../backend/model/records/index.ts';
import { put, remove } from '../backend/store/collection.ts';
import { openStore } from '../backend/store/open.ts';
import { until } from '../test/support/eventually.ts';
import { FabricLab } from '../test/support/fabric-lab.ts';
import { KernelGuest } from '../test/support/kernel-guest.ts';
import { LabCloud, noLab } from '../test/support/lab-cloud.ts';
import { noQemu } from '../test/support/qemu.ts';
import { silentLogger } from '../test/support/silent-logger.ts';
import { median } from './support/load.ts';
import { printTable, ratio } from './support/table.ts';
import { withEnd } from './support/with-end.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    pings: { type: 'string', default: '500' },
    mebibytes: { type: 'string', default: '64' },
    commits: { type: 'string', default: '100' },
  },
});
const [rounds, mebibytes, commits] = [values.rounds, values.mebibytes, values.commits].map(Number) as [
  number,
  number,
  number,
];
const missing = noLab() || (await noQemu());
if (missing) {
  console.error(`SKIPPED bench/network: ${missing}`);
  process.exit(process.env.CI === 'true' ? 1 : 0);
}

const receiver = `
import socket
s = socket.create_server(('::', 5001), family=socket.AF_INET6)
print('ready', flush=True)
while True:
    with s.accept()[0] as peer:
        while peer.recv(1 << 20): pass
        peer.sendall(b'!')
`;
const sender = `
import socket, sys, time
start, block = time.monotonic(), bytes(1 << 16)
with socket.create_connection((sys.argv[1], 5001), 30) as s:
    for _ in range(int(sys.argv[2]) * 16): s.sendall(block)
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
print(time.monotonic() - start)
`;

interface Path {
  readonly name: string;
  readonly from: KernelGuest;
  readonly to: string;
  readonly latencies: number[];
  readonly rates: number[];
}

/** Sets up a bridge, a tunnel to the other host and a tap, as an administrator does. */
async function guestByHand(t: Test, lab: FabricLab, number: 3 | 4): Promise<KernelGuest> {
  const { host, underlay } = lab.at(number);
  const { namespace } = host;
  const remote = lab.at(number === 3 ? 4 : 3).underlay;
  const common = ['mtu', '1500'];
  namespace.ip('link', 'add', 'hand', 'type', 'bridge');
  const tunnel = ['type', 'vxlan', 'id', '300', 'local', underlay, 'remote', remote, 'dstport', '4789'];
  namespace.ip('link', 'add', 'vx', ...tunnel);
  namespace.ip('tuntap', 'add', 'dev', 'tap', 'mode', 'tap');
  for (const device of ['vx', 'tap']) namespace.ip('link', 'set', device, 'master', 'hand', ...common, 'up');
  namespace.ip('link', 'set', 'hand', ...common, 'up');
  const port = { tap: 'tap', mac: `02:00:5e:20:00:0${number}`, address: `fd43::${number}`, kind: 'manual' } as const;
  return KernelGuest.start(t, namespace, port);
}

/** Returns the median round trip in microseconds. Other work of the machine disturbs a mean for long. */
function latency({ from, to }: Path): number {
  const output = from.namespace.run('ping', '-6', '-n', '-i', '0.002', '-c', values.pings, to);
  return median([...output.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time) * 1000));
}

/** Returns the throughput of TCP in MiB per second. */
const throughput = ({ from, to }: Path): number =>
  mebibytes / Number(from.namespace.run('python3', '-c', sender, to, `${mebibytes}`));

async function measurePaths(t: Test): Promise<void> {
  const lab = new FabricLab(t, 4);
  const [one, two] = [lab.network(100), lab.network(200)];
  const [a, b, c] = [lab.vm(1, one), lab.vm(2, one), lab.vm(2, two)];
  for (const number of [1, 2]) {
    const faults = (await lab.converge(number)) as unknown[];
    if (faults.length > 0) throw new Error(JSON.stringify(faults));
  }
  const [guestA, guestB, guestC] = [await lab.start(a), await lab.start(b), await lab.start(c)];
  const [handA, handB] = [await guestByHand(t, lab, 3), await guestByHand(t, lab, 4)];
  for (const guest of [guestB, guestC, handB]) {
    const child = guest.namespace.spawn('python3', ['-c', receiver], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    if (child.stdout) await once(child.stdout, 'data');
  }
  const path = (name: string, from: KernelGuest, to: KernelGuest): Path => ({
    ...{ name, from, to: to.address, latencies: [], rates: [] },
  });
  const byHand = path('VXLAN by hand', handA, handB);
  const paths = [path('in a network', guestA, guestB), path('between networks', guestA, guestC), byHand];
  for (const each of paths) latency(each);
  for (let round = 0; round < rounds; round++) {
    for (const each of paths) {
      each.latencies.push(latency(each));
      each.rates.push(throughput(each));
    }
  }
  const [round, rate] = [median(byHand.latencies), median(byHand.rates)];
  printTable(
    ['guests on two hosts', 'round trip, µs', 'against by hand', 'TCP, MiB/s', 'against by hand'],
    paths.map(({ name, latencies, rates }) => {
      const [own, ownRate] = [median(latencies), median(rates)];
      return [name, own.toFixed(0), ratio(own, round), ownRate.toFixed(0), ratio(ownRate, rate)];
    }),
  );
}

async function measureCommits(t: Test): Promise<void> {
  const lab = await LabCloud.start(t, { hosts: 3, etcd: 3, hypervisor: 'qemu' });
  const image = await lab.emptyImage();
  const prefix = await lab.member.create('prefixes', { name: 'site', length: 56 });
  const web = await lab.member.create('networks', { name: 'web', prefix: prefix.id });
  const names = [...lab.hosts.keys()];
  const vms = await Promise.all(
    names.map((host) => lab.createVm(`vm-${host}`, host, { image, interfaces: [{ network: web.id }] })),
  );
  for (const { id } of vms) await lab.reaches(id, ({ status }) => status.phase === 'running');
  // The members below belong to no VM, and a scheduler would remove them.
  for (const name of ['scheduler-1', 'scheduler-2']) await lab.ucloud('lab', 'kill', name);

  /** The times of the entries in tunnels, by host, MAC address and change. */
  const seen = new Map<string, number>();
  for (const host of names) {
    const child = lab.node(host).spawn('bridge', ['monitor', 'fdb'], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    if (!child.stdout) throw new Error('no output');
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [, gone, mac] = /^(Deleted )?([0-9a-f:]{17}) dev uv\d+ dst /.exec(line) ?? [];
      const key = `${host} ${mac} ${gone === undefined ? 'added' : 'removed'}`;
      if (mac !== undefined && !seen.has(key)) seen.set(key, performance.now());
    });
  }
  const store = await openStore(lab.store, { logger: silentLogger });
  const times = { added: [] as number[], removed: [] as number[] };
  try {
    for (let number = 0; number < commits; number++) {
      const host = names[number % names.length] ?? '';
      const others = names.filter((name) => name !== host);
      const [high, low] = [number >> 8, number & 255].map((byte) => byte.toString(16).padStart(2, '0'));
      const mac = `02:00:5e:30:${high}:${low}`;
      const member = memberId(idFrom('network', web.id), mac);
      const address = web.cidr.replace(/\/64$/, `5:${number.toString(16)}`);
      const record = { vm: newId('vm'), host: idFrom('host', lab.hosts.get(host) ?? ''), fence: 1, address };
      for (const change of ['added', 'removed'] as const) {
        const write = change === 'added' ? put(networkMembers, member, record) : remove(networkMembers, member);
        const result = await store.commit({ write: [write] });
        const committed = performance.now();
        if (!result.ok) throw new Error('the commit has failed');
        const of = (name: string) => seen.get(`${name} ${mac} ${change}`);
        await until(`the entries of ${mac} are ${change}`, () => others.every((name) => of(name) !== undefined));
        times[change].push(Math.max(0, ...others.map((name) => (of(name) ?? 0) - committed)));
      }
    }
  } finally {
    await store.close();
  }
  const at = (all: readonly number[], part: number) =>
    (all.toSorted((x, y) => x - y)[Math.min(all.length - 1, Math.floor(all.length * part))] ?? 0).toFixed(0);
  printTable(
    ['from a commit to the kernels of all hosts', 'p50, ms', 'p99, ms'],
    Object.entries(times).map(([change, all]) => [`entry ${change}`, at(all, 0.5), at(all, 0.99)]),
  );
}

if (rounds > 0) await withEnd(measurePaths);
if (commits > 0) await withEnd(measureCommits);
