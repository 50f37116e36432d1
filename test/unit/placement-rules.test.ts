/** Rules of operators and users for placement: host selectors and cordons. */
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import {
  defaultHostPolicy,
  firstRejectingFilter,
  type HostPolicy,
  type ResourceRequest,
} from '../../backend/model/placement/filters.ts';
import { HostPool, type PoolHost } from '../../backend/model/placement/host-pool.ts';
import { hostSelectorOf, unpublishedLabels } from '../../backend/model/placement/host-selector.ts';

const hostId = (n: number) => `host-${String(n).padStart(16, '0')}` as Id<'host'>;
const host = (n: number, policy: Partial<HostPolicy> = {}, cpus = 8): PoolHost => ({
  id: hostId(n),
  architecture: 'x86_64',
  alive: true,
  capacity: { cpus, memory: cpus * 100, disk: cpus * 100 },
  policy: { ...defaultHostPolicy, cpu_overcommit: 1, ...policy },
});
const poolOf = (hosts: readonly PoolHost[]) => {
  const pool = new HostPool();
  for (const each of hosts) pool.setHost(each);
  return pool;
};
const request = (selector?: string, cpus = 1): ResourceRequest => {
  const host_selector = selector === undefined ? undefined : hostSelectorOf({ host_selector: selector });
  return { cpus, memory: 1, disk: 1, architecture: 'x86_64', ...(host_selector && { host_selector }) };
};
const rack = (name: string) => ({ labels: { rack: name } });

t.test('a VM is placed only on hosts that match its selector, and reads why none does', async (t) => {
  const hosts = [host(1, rack('a')), host(2, rack('b')), host(3, { labels: { rack: 'b', gpu: '' } }), host(4)];
  const table: [selector: string, hosts: readonly number[], message: string | undefined][] = [
    ['rack=a', [1], undefined],
    ['rack in (a,b)', [1, 2, 3], undefined],
    ['rack=b,!gpu', [2], undefined],
    ['gpu', [3], undefined],
    ['rack!=b', [1, 4], undefined],
    ['rack=c', [], 'no host matches the host selector rack=c'],
    ['constructor', [], 'no host matches the host selector constructor'],
    ['rack=', [], 'no host matches the host selector rack='],
    ['a selector of a later version', [], 'no host matches the host selector a selector of a later version'],
  ];
  for (const [selector, able, message] of table) {
    const pool = poolOf(hosts);
    const matching = pool.hosts().filter((each) => firstRejectingFilter(each, request(selector)) === undefined);
    t.strictSame(
      matching.map(({ id }) => id),
      able.map(hostId),
      selector,
    );
    t.equal(pool.find(request(selector)), able[0] === undefined ? undefined : hostId(able[0]), selector);
    if (message) t.equal(pool.explain(request(selector)).message, message);
  }
});

t.test('the reason counts each host once, with the selector', async (t) => {
  const small = [3, 4].map((n) => host(n, rack('a'), 1));
  const pool = poolOf([host(1, rack('b')), host(2), ...small, host(5, { ...rack('a'), cordoned: true })]);
  t.strictSame(pool.explain(request('rack=a', 2)), {
    refusals: [
      { filter: 'capacity', hosts: 2, message: 'needs 2 cpus, largest free host has 1 cpu' },
      { filter: 'host_selector', hosts: 2, message: '2 of 5 hosts are not matched by the host selector rack=a' },
      { filter: 'cordoned', hosts: 1, message: '1 of 5 hosts is cordoned' },
    ],
    message:
      'needs 2 cpus, largest free host has 1 cpu; 2 of 5 hosts are not matched by the host selector rack=a; 1 of 5 hosts is cordoned',
  });
});

t.test('a selector also holds for a VM whose volumes bind it to a host', async (t) => {
  const pool = poolOf([host(1, rack('a')), host(2, rack('b'))]);
  const bound = (selector: string) => ({ ...request(selector), volume_hosts: [hostId(1)] });
  t.equal(pool.find(bound('rack=a')), hostId(1));
  t.equal(pool.find(bound('rack=b')), undefined);
  t.equal(
    pool.explain(bound('rack=b')).message,
    '1 of 2 hosts is not the host of its volumes; 1 of 2 hosts is not matched by the host selector rack=b',
  );
});

t.test('a cordoned host gets no VM, keeps its VMs, and comes back', async (t) => {
  const pool = poolOf([host(1)]);
  pool.setPlacement(hostId(1), 'a', request());
  pool.setHost(host(1, { cordoned: true }));
  t.equal(pool.find(request()), undefined);
  t.equal(pool.explain(request()).message, 'the only host is cordoned');
  t.equal(pool.get(hostId(1))?.free.cpus, 7, 'its VM still counts');
  pool.setHost(host(1));
  t.equal(pool.find(request()), hostId(1));
});

t.test('labels that operators have not published', async (t) => {
  const of = (selector: string, ...published: string[]) => {
    const parsed = hostSelectorOf({ host_selector: selector });
    return parsed && unpublishedLabels(parsed, published);
  };
  t.strictSame(of('zone=a,zone!=b', 'zone'), []);
  t.strictSame(of('zone=a,!gpu,rack in (a),rack', 'zone'), ['gpu', 'rack'], 'each once, in every kind of requirement');
  t.strictSame(of('Zone', 'zone'), ['Zone']);
  t.strictSame(of('zone'), ['zone']);
});
