/** The spaces of routes, and their next hops. */
import fc from 'fast-check';
import t from 'tap';
import { idFrom } from '../../backend/model/ids.ts';
import { nextHop, nextHopAddress } from '../../backend/model/network/next-hop.ts';
import {
  contains,
  containsAny,
  networkOf,
  outerKeys,
  overlaps,
  spaceKeys,
  storedPrefix,
} from '../../backend/model/network/prefixes.ts';

t.test('the keys of a space', async (t) => {
  for (const [cidr, keys] of [
    ['2001:db8::/32', ['20010db8']],
    ['2001:db8:0:10::/60', ['20010db80000001']],
    ['2001:db8:0:14::/62', ['20010db800000014', '20010db800000015', '20010db800000016', '20010db800000017']],
    ['2001:db8::1/128', ['20010db8000000000000000000000001']],
  ] as const)
    t.strictSame(spaceKeys(storedPrefix(cidr)), keys, cidr);
  t.strictSame(outerKeys(storedPrefix('2001:db8:0:10::/60'), storedPrefix('2001:db8::/47')), [
    '20010db80000',
    '20010db800000',
    '20010db8000000',
  ]);
});

const outer = storedPrefix('2001:db8::/50');
/** Spaces close to each other, so that they often overlap. */
const space = fc
  .tuple(fc.bigInt({ min: 0n, max: 0xffn }), fc.integer({ min: 50, max: 128 }), fc.constantFrom(60n, 64n, 100n, 120n))
  .map(([bits, length, shift]) => networkOf(outer.address | ((bits << (128n - shift)) & ((1n << 78n) - 1n)), length));

t.test('two spaces overlap if, and only if, the conditions of one find a key of the other', async () => {
  fc.assert(
    fc.property(space, space, (a, b) => {
      const taken = spaceKeys(a);
      const isFound =
        spaceKeys(b).some((key) => taken.some((other) => other.startsWith(key))) ||
        outerKeys(b, outer).some((key) => taken.includes(key));
      return isFound === overlaps(a, b);
    }),
    { numRuns: 2000 },
  );
});

t.test('a search in sorted addresses finds those of a prefix', async () => {
  const address = space.map((one) => one.address);
  fc.assert(
    fc.property(space, fc.array(address, { maxLength: 8 }), (prefix, addresses) => {
      const sorted = addresses.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
      const expected = addresses.some((each) => contains(prefix, { address: each, length: 128 }));
      return containsAny(prefix, sorted) === expected;
    }),
    { numRuns: 2000 },
  );
});

t.test('the next hop is one interface of the VM', async (t) => {
  const id = idFrom('vm', 'vm-0000000000000001');
  const [one, two, three] = [1, 2, 3].map((number) => idFrom('network', `net-000000000000000${number}`));
  if (!one || !two || !three) throw new Error('three networks');
  const port = (network: typeof one, number: number) => ({
    network,
    mac: `02:00:00:00:00:0${number}`,
    address: `2001:db8::${number}`,
  });
  const [a, b, c] = [port(one, 1), port(two, 2), port(two, 3)];
  for (const [interfaces, network, expected] of [
    [[a], undefined, a],
    [[a], one, a],
    [[a, b], one, a],
    [[a, b], undefined, { field: 'network', rule: /must be set, because the VM vm-\w+ has 2 interfaces/ }],
    [[a, b], three, { field: 'network', rule: /has no interface in net-/ }],
    [[a, b, c], two, { field: 'vm', rule: /only one interface in net-\w+: vm-\w+ has 2 there/ }],
  ] as const)
    t.match(nextHop({ id, interfaces: [...interfaces] }, network), expected);
  t.equal(nextHopAddress({ interfaces: [a, b] }, b.mac), b.address);
  t.equal(nextHopAddress({ interfaces: [a] }, b.mac), undefined, 'the interface is gone');
  t.equal(nextHopAddress(undefined, a.mac), undefined, 'the VM is gone');
});
