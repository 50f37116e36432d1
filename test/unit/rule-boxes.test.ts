/** The boxes of rules: each packet that a rule allows is in a box, and no other packet is in any. */
import fc from 'fast-check';
import t from 'tap';
import { type Protocol, protocolNumbers } from '../../backend/contract/resources/security-groups.ts';
import { formatIpv6, storedIpv6 } from '../../backend/model/network/addresses.ts';
import { formatPrefix, storedPrefix } from '../../backend/model/network/prefixes.ts';
import { boxesWith, boxesWithoutPrefixes, boxesWithPrefixes, union } from '../../backend/model/network/rule-boxes.ts';
import { parsePorts } from '../../backend/model/network/security-groups.ts';

const protocols = Object.keys(protocolNumbers) as Protocol[];
/** Few addresses and ports, so that rules overlap often. */
const address = fc.nat(15).map((last) => formatIpv6(storedIpv6('2001:db8::') + BigInt(last)));
const prefix = fc.oneof(
  fc.constantFrom('::/0', '2001:db8::/32', 'fe80::/10'),
  fc.tuple(fc.nat(15), fc.integer({ min: 124, max: 128 })).map(([last, length]) => {
    const bits = BigInt(128 - length);
    return formatPrefix({ address: ((storedIpv6('2001:db8::') + BigInt(last)) >> bits) << bits, length });
  }),
);
const number = fc.constantFrom(1, 2, 3, 4, 79, 80, 81, 65_534, 65_535);
const ports = fc.tuple(number, number).map(([a, b]) => (a === b ? `${a}` : `${Math.min(a, b)}-${Math.max(a, b)}`));
const rule = fc
  .record({
    protocol: fc.constantFrom(...protocols),
    prefixes: fc.uniqueArray(prefix, { minLength: 1, maxLength: 3 }),
    ports: fc.option(fc.uniqueArray(ports, { minLength: 1, maxLength: 3 }), { nil: undefined }),
    icmp_types: fc.option(fc.uniqueArray(fc.nat(255), { minLength: 1, maxLength: 3 }), { nil: undefined }),
  })
  .map(({ protocol, prefixes, ports: some, icmp_types }) => ({
    protocol,
    prefixes,
    ...(some && ['tcp', 'udp', 'sctp'].includes(protocol) && { ports: some }),
    ...(icmp_types && protocol === 'icmpv6' && { icmp_types }),
  }));
type Rule = typeof rule extends fc.Arbitrary<infer R> ? R & { ports?: string[]; icmp_types?: number[] } : never;
const packet = fc.record({
  address: fc.oneof(address, fc.constantFrom('fe80::1', '2001:db9::1')),
  protocol: fc.constantFrom(6, 17, 132, 58, 50, 47, 0, 255, 5, 7),
  port: fc.oneof(number, fc.nat(255)),
});

function allows(
  { protocol, prefixes, ports: some, icmp_types }: Rule,
  p: { address: string; protocol: number; port: number },
) {
  const inPrefix = prefixes.some((text) => {
    const { address: start, length } = storedPrefix(text);
    return (storedIpv6(p.address) ^ start) >> BigInt(128 - length) === 0n;
  });
  const { [protocol]: wanted } = protocolNumbers;
  if (!inPrefix || (wanted !== undefined && wanted !== p.protocol)) return false;
  if (icmp_types !== undefined) return icmp_types.includes(p.port);
  if (some === undefined) return true;
  return some.some((text) => {
    const range = parsePorts(text);
    return range !== undefined && range.from <= p.port && p.port <= range.to;
  });
}

t.test('a packet is in a box if a rule allows it, and in at most one of each level', async (t) => {
  fc.assert(
    fc.property(
      fc.array(rule, { maxLength: 8 }),
      fc.array(packet, { minLength: 1, maxLength: 20 }),
      (rules, packets) => {
        const levels = boxesWithPrefixes(rules);
        for (const each of packets) {
          // Types of ICMPv6 have 8 bits.
          if (each.protocol === 58 && each.port > 255) continue;
          const found = levels.map((boxes) => boxesWith(boxes, each));
          if (Math.max(0, ...found) > 1) return false;
          if (rules.some((one) => allows(one, each)) !== found.includes(1)) return false;
        }
        return true;
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});

t.test('rules for one set of addresses are the same without prefixes', async (t) => {
  fc.assert(
    fc.property(
      fc.array(rule, { maxLength: 8 }),
      fc.array(packet, { minLength: 1, maxLength: 20 }),
      (rules, packets) => {
        const everywhere = rules.map((one) => ({ ...one, prefixes: ['::/0'] }));
        const boxes = boxesWithoutPrefixes(rules);
        return packets.every(
          (each) =>
            (each.protocol === 58 && each.port > 255) ||
            boxesWith(boxes, each) === (everywhere.some((one) => allows(one, each)) ? 1 : 0),
        );
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

t.test('nested prefixes have levels, and a prefix has the union of its services', async (t) => {
  const rules = Array.from({ length: 1000 }, (_, index) => ({
    protocol: 'tcp' as const,
    ports: [`${1 + index}`],
    prefixes: ['::/0', `2001:db8:${(index % 10).toString(16)}::/48`],
  }));
  const [all, nested, ...others] = boxesWithPrefixes(rules);
  t.strictSame(all?.services, [{ prefix: '::/0', protocols: { from: 6, to: 6 }, ports: { from: 1, to: 1000 } }]);
  t.equal(nested?.services.length, 1000);
  t.strictSame(others, []);
});

t.test('ranges are merged', async (t) => {
  const ranges = [
    { from: 5, to: 6 },
    { from: 1, to: 2 },
    { from: 3, to: 3 },
  ];
  t.strictSame(union(ranges), [
    { from: 1, to: 3 },
    { from: 5, to: 6 },
  ]);
});
