/** The cost of a tenant's changes for agents of hosts without a VM of the tenant. */
import t from 'tap';
import { openOwnView } from '../../backend/host/view.ts';
import { networkCarriers, placements } from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { readAll } from '../../backend/store/collection.ts';
import { withCluster } from '../support/cluster.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSimulatedHost } from '../support/simulated-host.ts';

t.test('changes of VMs elsewhere cause no events at an agent', async (t) => {
  const cluster = await withCluster(t);
  const { store } = cluster;
  const scheduler = await startScheduler({ store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  t.teardown(cluster.collect());
  const underlay = (number: number) => ({ underlay: { address: `fd00:f::${number}`, mtu: 9000 } });
  const one = await startSimulatedHost(t, store, underlay(1));
  const busy = await startSimulatedHost(t, store, underlay(2));
  await cluster.setPolicy(one.id, { cordoned: true });
  const first = await cluster.createVm();
  await cluster.until('the first VM runs', () => cluster.phase(first) === 'running');
  await until('its network has a carrier', async () => {
    for await (const { value } of readAll(store, networkCarriers)) if (value.hosts.includes(busy.id)) return true;
    return false;
  });
  const view = await openOwnView(store, silentLogger, one.id);
  t.teardown(() => view.close());
  const changes = () => ('watchedChanges' in view.mirror ? Number(view.mirror.watchedChanges) : Number.NaN);
  await view.mirror.catchUp();
  const before = changes();

  const created = await Promise.all(Array.from({ length: 10 }, () => cluster.createVm()));
  await cluster.until('they run', () => created.every((id) => cluster.phase(id) === 'running'));
  for (const id of created) await cluster.rebootVm(id, true);
  for (const id of created) await cluster.updateVm(id, { labels: { many: 'x'.repeat(50) } });
  for (const id of created) await cluster.deleteVm(id);
  await until('they are gone', async () => {
    for await (const { id } of readAll(store, placements)) if (!id.endsWith(first)) return false;
    return true;
  });
  await view.mirror.catchUp();
  t.equal(changes() - before, 0, 'the agent gets none of it');
  t.equal(view.mirror.size(placements), 0);
});
