import fc from 'fast-check';
import t from 'tap';
import { type RoutingHost, staticRoutes } from '../../backend/model/network/static-routes.ts';

const host = (number: number, change: Partial<RoutingHost> = {}): RoutingHost => ({
  ...{ id: `host-${number}`, alive: true, draining: false, underlay: { address: `fd00:f::${number}` } },
  ...change,
});
const network = (number: number) => ({ id: `net-${number}`, cidr: `2001:db8:0:${number}::/64` });

t.test('each network has routes through two hosts that can take them', async (t) => {
  const { underlay: _none, ...alone } = host(3);
  const hosts = [host(1), host(2), alone, host(4, { alive: false }), host(5, { draining: true })];
  const [first, second] = staticRoutes([network(1), network(2)], hosts);
  t.equal(first?.cidr, '2001:db8:0:1::/64');
  t.strictSame(first?.via.toSorted(), ['fd00:f::1', 'fd00:f::2']);
  t.strictSame(second?.via.toSorted(), ['fd00:f::1', 'fd00:f::2']);
  t.strictSame(staticRoutes([network(1)], [host(1)]), [{ cidr: '2001:db8:0:1::/64', via: ['fd00:f::1'] }]);
  t.strictSame(staticRoutes([network(1)], []), [{ cidr: '2001:db8:0:1::/64', via: [] }]);
  t.strictSame(staticRoutes([], hosts), []);
});

t.test('a host more or less changes only its own routes, and all hosts get some', async (t) => {
  const networks = Array.from({ length: 200 }, (_, i) => network(i));
  fc.assert(
    fc.property(fc.integer({ min: 3, max: 12 }), fc.integer({ min: 0, max: 11 }), (count, gone) => {
      const hosts = Array.from({ length: count }, (_, i) => host(i));
      const before = staticRoutes(networks, hosts);
      const left = hosts[gone % count]?.underlay?.address;
      const after = staticRoutes(networks, hosts.filter(({ underlay }) => underlay?.address !== left).toReversed());
      return before.every(
        ({ via }, i) => via.includes(left ?? '') || JSON.stringify(via) === JSON.stringify(after[i]?.via),
      );
    }),
    { numRuns: 30 },
  );
  const used = new Set(
    staticRoutes(
      networks,
      Array.from({ length: 8 }, (_, i) => host(i)),
    ).map(({ via }) => via[0]),
  );
  t.equal(used.size, 8);
});
