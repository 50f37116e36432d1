import fc from 'fast-check';
import t from 'tap';
import {
  comparePrefixes,
  contains,
  firstFree,
  formatPrefix,
  isUnicastSpace,
  networkOf,
  overlaps,
  type Prefix,
  parsePrefix,
  storedPrefix,
  subnetKey,
} from '../../backend/model/network/prefixes.ts';
import { maxVni, randomVni } from '../../backend/model/network/vnis.ts';

const prefix = fc
  .record({ address: fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }), length: fc.integer({ min: 0, max: 128 }) })
  .map(({ address, length }) => networkOf(address, length));

/** Prefixes in a /120, so that they meet. */
const crowded = fc
  .record({ address: fc.bigInt({ min: 0n, max: 255n }), length: fc.integer({ min: 120, max: 128 }) })
  .map(({ address, length }) => networkOf(address, length));
const small: Prefix = { address: 0n, length: 120 };

const addresses = ({ address, length }: Prefix): bigint[] =>
  Array.from({ length: 2 ** (128 - length) }, (_, i) => address + BigInt(i));

t.test('reading and writing', async (t) => {
  fc.assert(
    fc.property(prefix, (one) => {
      const parsed = parsePrefix(formatPrefix(one));
      return parsed.ok && parsed.value.address === one.address && parsed.value.length === one.length;
    }),
  );
  for (const text of [
    '',
    '::',
    '::/129',
    '::/-1',
    '::/1.0',
    '::/064',
    '::1%1/128',
    '10.0.0.0/8',
    '/64',
    '::/64/64',
    'x/64',
  ]) {
    t.match(parsePrefix(text), { ok: false, problem: /must be an IPv6 prefix/ }, JSON.stringify(text));
  }
  t.match(parsePrefix('2001:db8:0:1::/48'), { problem: 'has bits set after /48: the prefix is 2001:db8::/48' });
  t.throws(() => storedPrefix('nonsense'), RangeError);
  t.equal(subnetKey(storedPrefix('2001:db8:0:100::/64')), '20010db800000100');
});

t.test('containing and overlapping, against sets of addresses', async () => {
  fc.assert(
    fc.property(crowded, crowded, (a, b) => {
      const inA = new Set(addresses(a));
      const inB = addresses(b);
      return contains(a, b) === inB.every((one) => inA.has(one)) && overlaps(a, b) === inB.some((one) => inA.has(one));
    }),
  );
});

t.test('the first free prefix, against trying them all', async () => {
  fc.assert(
    fc.property(fc.array(crowded, { maxLength: 12 }), fc.integer({ min: 118, max: 128 }), (used, length) => {
      const found = firstFree(small, length, [...used].sort(comparePrefixes));
      const taken = new Set(used.flatMap(addresses));
      const step = 2n ** BigInt(128 - length);
      let expected: bigint | undefined;
      for (let at = 0n; length >= 120 && at < 256n && expected === undefined; at += step) {
        if (addresses({ address: at, length }).every((one) => !taken.has(one))) expected = at;
      }
      return found?.address === expected;
    }),
    { numRuns: 500 },
  );
});

t.test('filling a pool gives each prefix once, until none is left', async (t) => {
  const space = storedPrefix('2001:db8::/56');
  const used: Prefix[] = [];
  for (let next = firstFree(space, 64, used); next; next = firstFree(space, 64, used)) used.push(next);
  t.equal(used.length, 256);
  t.equal(new Set(used.map(formatPrefix)).size, 256);
  t.ok(used.every((one) => contains(space, one)));
});

t.test('a pool with 50,000 prefixes is searched in one pass', async (t) => {
  const space = storedPrefix('2001:db8::/32');
  const used = Array.from(
    { length: 50_000 },
    (_, i): Prefix => ({ address: space.address + (BigInt(i) << 72n), length: 56 }),
  );
  t.equal(formatPrefix(firstFree(space, 56, used) ?? space), '2001:db8:c3:5000::/56');
});

t.test('which space VMs can have', async (t) => {
  for (const [text, usable] of [
    ['2001:db8::/32', true],
    ['3fff::/20', true],
    ['fd00::/8', true],
    ['fc00::/7', true],
    ['2000::/3', true],
    ['::/0', false],
    ['::/2', false],
    ['fe80::/10', false],
    ['ff00::/8', false],
    ['4000::/3', false],
    ['::ffff:0:0/96', false],
  ] as const) {
    t.equal(isUnicastSpace(storedPrefix(text)), usable, text);
  }
});

t.test('network numbers', async (t) => {
  const taken = new Set<number>();
  for (let i = 0; i < 10_000; i++) {
    const vni = randomVni((number) => taken.has(number)) ?? 0;
    t.notOk(taken.has(vni));
    if (vni < 1 || vni > maxVni) t.fail(`${vni} is out of range`);
    taken.add(vni);
  }
  t.equal(
    randomVni(() => true),
    undefined,
  );
});
