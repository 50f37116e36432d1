/** A bird that hangs or changes its mind, and the VMs and the database beside it. */
import t from 'tap';
import type { Bird } from '../../backend/host/bgp/bird.ts';
import type { Session } from '../../backend/host/bgp/bird-sessions.ts';
import { newId } from '../../backend/model/ids.ts';
import { bgpPeers, bgpReports, hosts } from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put } from '../../backend/store/collection.ts';
import { withCluster } from '../support/cluster.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSimulatedHost } from '../support/simulated-host.ts';

t.test('VMs stop although bird hangs, and a session that fails again and again is reported once', async (t) => {
  const cluster = await withCluster(t);
  const scheduler = await startScheduler({ store: cluster.store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  const peer = newId('bgp_peer');
  let hangs = false;
  let looks = 0;
  const bird = {
    isInstalled: async () => true,
    converge: () => (hangs ? new Promise<void>(() => undefined) : Promise.resolve()),
    // Each attempt has a time of its own.
    sessions: async (): Promise<Session[]> => {
      looks++;
      return [{ peer, state: 'connecting', since: new Date(1e12 + looks * 1000).toISOString(), imported: 0 }];
    },
    passwordOf: async () => undefined,
    stop: async () => [],
  } as unknown as Bird;
  const host = await startSimulatedHost(t, cluster.store, { underlay: { address: 'fd00:f::1', mtu: 1500 }, bird });
  await cluster.until('the host is entered', () => cluster.mirror.get(hosts, host.id) !== undefined);
  const at = new Date().toISOString();
  const common = { name: 'spine', description: '', labels: {}, created_at: at, updated_at: at };
  await cluster.write(
    put(bgpPeers, peer, { ...common, id: peer, address: 'fe80::a%up', asn: 65001, local_asn: 65002 }),
  );
  const all = [await cluster.createVm(), await cluster.createVm(), await cluster.createVm()];
  await cluster.until('all run', () => all.every((vm) => cluster.phase(vm) === 'running'));
  await cluster.until('the session is reported', () => cluster.mirror.get(bgpReports, host.id) !== undefined);
  const report = cluster.mirror.get(bgpReports, host.id)?.revision;
  const seen = looks;
  await cluster.until('more looks at the session', () => looks > seen);

  hangs = true;
  for (const vm of all) await cluster.updateVm(vm, { power_state: 'stopped' });
  await cluster.until('all have stopped', () => all.every((vm) => cluster.phase(vm) === 'stopped'));
  t.equal(cluster.mirror.get(bgpReports, host.id)?.revision, report, 'the report is the first one');
});
