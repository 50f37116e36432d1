/** Agents that announce the prefixes of their VMs to a router of the fabric, by bird. The VMs are simulated. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Bird } from '../../backend/host/bgp/bird.ts';
import { run } from '../../backend/host/system/command.ts';
import { newId } from '../../backend/model/ids.ts';
import { interfaceAddresses } from '../../backend/model/network/interface-addresses.ts';
import {
  type BgpPeerRecord,
  bgpPeers,
  bgpReports,
  hostPolicies,
  hosts,
  vms,
} from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put, remove } from '../../backend/store/collection.ts';
import { BgpLab, spinePeer, underlayAddress } from '../support/bgp-lab.ts';
import { type Cluster, withCluster } from '../support/cluster.ts';
import { until } from '../support/eventually.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { type SimulatedHostOptions, startSimulatedHost } from '../support/simulated-host.ts';
import { temporaryDirectory } from '../support/stores.ts';

const skip = noNamespaces('bird');
const underlay = { address: underlayAddress, mtu: 1500 };
const network = `2001:db8::/64 via ${underlayAddress}`;
const addressRoute = (address: string) => `${address} via ${underlayAddress}`;

async function cloud(t: Test): Promise<Cluster> {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  t.teardown(cluster.collect());
  return cluster;
}

/** Starts a host with a label. */
async function startHost(t: Test, cluster: Cluster, rack: string, options: SimulatedHostOptions = {}) {
  const host = await startSimulatedHost(t, cluster.store, options);
  await cluster.until('the host is entered', () => cluster.mirror.get(hosts, host.id) !== undefined);
  const policy = { draining: false, cpu_overcommit: 4, memory_overcommit: 1, updated_at: new Date().toISOString() };
  await cluster.write(put(hostPolicies, host.id, { ...policy, labels: { rack } }));
  return host;
}

async function declarePeer(cluster: Cluster, change: Partial<BgpPeerRecord> = {}): Promise<BgpPeerRecord> {
  const at = new Date().toISOString();
  const { address, asn, local_asn } = spinePeer;
  const fixed = { id: newId('bgp_peer'), name: 'spine', description: '', labels: {}, created_at: at, updated_at: at };
  const peer = { ...fixed, ...{ address, asn, local_asn }, ...change };
  await cluster.write(put(bgpPeers, peer.id, peer));
  return peer;
}

const sessionsOf = (cluster: Cluster, host: string) => cluster.mirror.get(bgpReports, host)?.value.sessions ?? [];

t.test('prefixes of running VMs are announced, and withdrawn before a VM stops', { skip }, async (t) => {
  const lab = new BgpLab(t);
  lab.startSpine();
  const cluster = await cloud(t);
  const dataDir = temporaryDirectory(t);
  const options = { dataDir, underlay, simulated: { shutdownMs: 600_000 } };
  const host = await startHost(t, cluster, 'r1', { ...options, bird: lab.bird() });
  const peer = await declarePeer(cluster, { host_selector: 'rack=r1' });
  await cluster.until('the session is reported', () => sessionsOf(cluster, host.id)[0]?.state === 'established');
  t.match(sessionsOf(cluster, host.id), [{ peer: peer.id, imported: 1 }]);
  t.strictSame(lab.announced(), [], 'without VMs there is nothing to announce');

  const vm = await cluster.createVm({ host_selector: 'rack=r1' });
  const addressesOf = (id: typeof vm) =>
    (cluster.mirror.get(vms, id)?.value.interfaces ?? []).flatMap(interfaceAddresses).map(addressRoute).toSorted();
  await cluster.until('the network is announced', () => lab.announced().includes(network));
  t.strictSame(lab.announced(), [network]);

  const other = await startHost(t, cluster, 'r2');
  const interfaces = [{ network: cluster.network, mac: '02:00:00:00:01:00', address: '2001:db8::2' }];
  const elsewhere = await cluster.createVm({ host_selector: 'rack=r2', interfaces });
  await cluster.until('the address is announced as well', () => lab.announced().length > 1);
  t.strictSame(lab.announced(), [network, ...addressesOf(vm)].toSorted());
  t.strictSame(sessionsOf(cluster, other.id), [], 'a host that the peer does not select has no session');

  await cluster.write(
    put(hostPolicies, host.id, {
      ...{ labels: { rack: 'r1' }, draining: true, cpu_overcommit: 4, memory_overcommit: 1 },
      updated_at: new Date().toISOString(),
    }),
  );
  await cluster.until(
    'a host that is drained leaves the network to the other',
    () => !lab.announced().includes(network),
  );
  t.strictSame(lab.announced(), addressesOf(vm));
  await cluster.updateVm(elsewhere, { deleted_at: new Date().toISOString() });
  await cluster.until('alone, it announces the network', () => lab.announced().includes(network));
  await cluster.until('and no address', () => lab.announced().length === 1);

  const [before] = sessionsOf(cluster, host.id);
  const processes = await lab.bird().find();
  await host.close();
  t.strictSame(lab.announced(), [network], 'bird goes on without the agent');
  const next = await startHost(t, cluster, 'r1', { ...options, bird: lab.bird() });
  t.equal(next.id, host.id);
  await cluster.until('the VM is adopted', () => cluster.phase(vm) === 'running');
  t.strictSame(await lab.bird().find(), processes);

  await cluster.updateVm(vm, { power_state: 'stopped' });
  await cluster.until('the network is withdrawn', () => lab.announced().length === 0);
  t.equal(cluster.phase(vm), 'stopping', 'while the guest still shuts down');
  t.match(sessionsOf(cluster, host.id), [{ ...before }], 'in the same session');

  await cluster.write(remove(bgpPeers, peer.id));
  await cluster.until('the report is gone', () => sessionsOf(cluster, host.id).length === 0);
  await until('bird has ended', async () => (await lab.bird().find()).length === 0);
});

t.test('a session that cannot be is reported with its reason, and others go on', { skip }, async (t) => {
  const lab = new BgpLab(t);
  lab.startSpine();
  const cluster = await cloud(t);
  const host = await startHost(t, cluster, 'r1', { underlay, bird: lab.bird() });
  const file = join(lab.directory, 'password');
  const spine = await declarePeer(cluster);
  const guarded = await declarePeer(cluster, { address: '2001:db8::99', password_file: file });
  const twin = await declarePeer(cluster, { id: `${spine.id.slice(0, -1)}z` as BgpPeerRecord['id'] });
  const session = (peer: BgpPeerRecord) => sessionsOf(cluster, host.id).find((each) => each.peer === peer.id);
  await cluster.until('the spine is reached', () => session(spine)?.state === 'established');
  await cluster.until('the others are reported', () => session(guarded) !== undefined && session(twin) !== undefined);
  t.match(session(guarded), { state: 'down', message: /password_file: .*password does not exist/ });
  t.match(session(twin), { state: 'down', message: /a peer of the same address/ });

  writeFileSync(file, 'secret', { mode: 0o644 });
  await cluster.until('the fault is another one', () => /with mode 600/.test(session(guarded)?.message ?? ''));
  chmodSync(file, 0o600);
  await cluster.until('the right password is used', () => session(guarded)?.state === 'connecting');
  t.equal(session(spine)?.state, 'established');
  await lab.bird().stop();
});

t.test('a host without bird says which package is missing, and one without peers needs none', { skip }, async (t) => {
  class NoBird extends Bird {
    override isInstalled(): Promise<boolean> {
      return Promise.resolve(false);
    }
  }
  const lab = new BgpLab(t);
  const cluster = await cloud(t);
  const ran: string[] = [];
  const bird = new NoBird({
    directory: join(lab.directory, 'bird'),
    run: (program, ...rest) => {
      ran.push(program);
      return run(program, ...rest);
    },
  });
  const host = await startHost(t, cluster, 'r1', { underlay, bird });
  const vm = await cluster.createVm();
  await cluster.until('a VM runs', () => cluster.phase(vm) === 'running');
  t.strictSame([sessionsOf(cluster, host.id), ran], [[], []]);
  const peer = await declarePeer(cluster);
  await cluster.until('the session is reported', () => sessionsOf(cluster, host.id).length === 1);
  t.match(sessionsOf(cluster, host.id), [{ peer: peer.id, state: 'down', message: /apt-get install bird2/ }]);
  t.strictSame(ran, []);
});
