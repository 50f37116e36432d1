/** The scheduler with labels of hosts, cordons, and the operator's order of hosts. */
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { hosts, placements, settings } from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put } from '../../backend/store/collection.ts';
import { type Cluster, GiB, withCluster } from '../support/cluster.ts';
import { silentLogger } from '../support/silent-logger.ts';

async function withScheduler(t: Test): Promise<Cluster> {
  const cluster = await withCluster(t);
  const component = await startScheduler({ store: cluster.store, logger: silentLogger, leaseSeconds: 30 });
  t.teardown(() => component.close());
  return cluster;
}

const hostOf = (cluster: Cluster, id: Id<'vm'>) => cluster.schedule(id)?.host;
const inRack = (rack: string) => ({ policy: { labels: { rack } } });

t.test('a VM waits for a host that matches its selector, with the reason, and gets it', async (t) => {
  const cluster = await withScheduler(t);
  const [a, b] = [await cluster.addHost(inRack('a')), await cluster.addHost(inRack('b'))];
  const inB = await cluster.createVm({ host_selector: 'rack=b' });
  await cluster.until('placed', () => hostOf(cluster, inB) === b);
  const inC = await cluster.createVm({ host_selector: 'rack in (c,d)' });
  await cluster.until('a reason', () => cluster.schedule(inC)?.reason === 'no_host');
  t.match(cluster.schedule(inC), {
    message: 'no host matches the host selector rack in (c,d)',
    refusals: [{ filter: 'host_selector', hosts: 2 }],
  });
  const anywhere = await cluster.createVm();
  await cluster.until('others do not wait', () => hostOf(cluster, anywhere) !== undefined);
  await cluster.setPolicy(a, { labels: { rack: 'd' } });
  await cluster.until('the label is enough', () => hostOf(cluster, inC) === a);
  await cluster.setPolicy(b, { labels: {} });
  const next = await cluster.createVm({ host_selector: 'rack=b' });
  await cluster.until('the label is gone', () => cluster.schedule(next)?.reason === 'no_host');
  t.equal(hostOf(cluster, inB), b, 'a VM on a host without the label stays');
});

t.test('a large VM on a host that matches says both that others do not match and that this is full', async (t) => {
  const cluster = await withScheduler(t);
  await cluster.addHost(inRack('a'));
  await cluster.addHost(inRack('b'));
  const vm = await cluster.createVm({ host_selector: 'rack=a', memory: 64 * GiB });
  const text =
    'needs 64GiB of memory, largest free host has 16GiB; 1 of 2 hosts is not matched by the host selector rack=a';
  await cluster.until('both', () => cluster.schedule(vm)?.message === text);
});

t.test('a cordoned host keeps and resizes its VMs, and gets new ones afterwards', async (t) => {
  const cluster = await withScheduler(t);
  const host = await cluster.addHost();
  const vm = await cluster.createVm();
  await cluster.until('placed', () => hostOf(cluster, vm) === host);
  await cluster.setPolicy(host, { cordoned: true });
  const next = await cluster.createVm();
  await cluster.until('the next waits', () => cluster.schedule(next)?.message === 'the only host is cordoned');
  await cluster.updateVm(vm, { cpus: 2 });
  await cluster.until('the resize', () => cluster.mirror.get(placements, `${host}/${vm}`)?.value.cpus === 2);
  await cluster.setPolicy(host, { cordoned: false });
  await cluster.until('the next is placed', () => hostOf(cluster, next) === host);
});

t.test('pack fills one host before the next, and a change of the setting takes effect at once', async (t) => {
  const cluster = await withScheduler(t);
  const set = (placement_strategy: 'spread' | 'pack') =>
    cluster.write(put(settings, 'cloud', { placement_strategy, updated_at: new Date().toISOString() }));
  await set('pack');
  const capacity = { cpus: 2, memory: 16 * GiB, disk: 100 * GiB };
  const all = [
    await cluster.addHost({ capacity }),
    await cluster.addHost({ capacity }),
    await cluster.addHost({ capacity }),
  ];
  await cluster.until('all hosts', () => cluster.mirror.size(hosts) === all.length);
  const place = async () => {
    const vm = await cluster.createVm();
    await cluster.until('placed', () => hostOf(cluster, vm) !== undefined);
    return hostOf(cluster, vm);
  };
  const [one, two, three] = [await place(), await place(), await place()];
  t.equal(one, two, 'two fill a host');
  t.not(two, three, 'the third begins another');
  await set('spread');
  const four = await place();
  t.notOk([one, three].includes(four), 'the empty host');
});
