/** The places of subnets in a PrefixPlan: they do not overlap, and later subnets do not move them. */
import fc from 'fast-check';
import t from 'tap';
import { placeSubnets, type SubnetRequest } from '../../provider/constructs/subnets.ts';
import { contains, formatPrefix, parsePrefix, subnet } from '../../provider/net/ipv6.ts';

const asked = (...lengths: number[]): SubnetRequest[] =>
  lengths.map((length, index) => ({ name: `n${index}`, length }));
const placed = (cidr: string, ...lengths: number[]): string[] => {
  const prefix = parsePrefix(cidr);
  if (!prefix) throw new Error(cidr);
  return placeSubnets(prefix.length, asked(...lengths)).map(({ length, index }) => {
    const found = subnet(prefix, length, BigInt(index));
    return found ? formatPrefix(found) : 'none';
  });
};

t.test('each at the lowest place that is free and aligned', async (t) => {
  t.strictSame(placed('2001:db8::/56'), []);
  t.strictSame(placed('2001:db8::/64', 64), ['2001:db8::/64']);
  t.strictSame(placed('2001:db8::/56', 64, 64, 64), ['2001:db8::/64', '2001:db8:0:1::/64', '2001:db8:0:2::/64']);
  t.strictSame(
    placed('2001:db8::/56', 64, 60, 64, 62, 64, 60),
    [
      '2001:db8::/64',
      '2001:db8:0:10::/60',
      '2001:db8:0:1::/64',
      '2001:db8:0:4::/62',
      '2001:db8:0:2::/64',
      '2001:db8:0:20::/60',
    ],
    'the gaps that alignment leaves are filled',
  );
  t.strictSame(placed('2001::/16', 17, 64, 64), ['2001::/17', '2001:8000::/64', '2001:8000:0:1::/64']);
});

t.test('an impossible subnet is refused with its name', async (t) => {
  const refuse = (length: number, wishes: SubnetRequest[], message: string) =>
    t.throws(() => placeSubnets(length, wishes), { name: 'RangeError', message });
  refuse(63, asked(64, 64, 64), 'subnet "n2", a /64, has no room left in the /63');
  refuse(56, asked(57, 64, 57), 'subnet "n2", a /57, has no room left in the /56');
  refuse(56, asked(48), 'subnet "n0" must have a length from 56 to 64, not 48');
  refuse(56, asked(64, 65), 'subnet "n1" must have a length from 56 to 64, not 65');
  refuse(56, asked(60.5), 'subnet "n0" must have a length from 56 to 64, not 60.5');
  refuse(15, [], 'the prefix of a plan must have a length from 16 to 64, not 15');
  refuse(65, [], 'the prefix of a plan must have a length from 16 to 64, not 65');
  refuse(56, [...asked(64), ...asked(60)], 'subnet "n0" occurs twice');
  refuse(56, [{ name: '', length: 64 }], 'a subnet has no name');
});

t.test('or each at the number that it says, in any order', async (t) => {
  const wish = (name: string, length: number, index?: number): SubnetRequest => ({ name, length, index });
  const [a, b, c] = [wish('a', 64, 3), wish('b', 60, 1), wish('c', 64, 0)];
  t.strictSame(placeSubnets(56, [a, b, c]), [a, b, c]);
  t.strictSame(placeSubnets(56, [c, a]), [c, a], 'whichever is taken out');
  t.strictSame(placeSubnets(64, [c]), [c]);

  const refuse = (wishes: SubnetRequest[], message: string) =>
    t.throws(() => placeSubnets(56, wishes), { name: 'RangeError', message });
  refuse([a, wish('d', 64)], 'subnet "a" has an index, so every subnet of the plan needs one');
  refuse([b, wish('d', 64, 16)], 'subnet "d" overlaps "b"');
  refuse([wish('d', 64, 31), b], 'subnet "b" overlaps "d"');
  refuse([wish('d', 64, 256)], 'subnet "d", a /64 of a /56, must have an index from 0 to 255, not 256');
  refuse([wish('d', 64, -1)], 'subnet "d", a /64 of a /56, must have an index from 0 to 255, not -1');
  refuse([wish('d', 56, 0.5)], 'subnet "d", a /56 of a /56, must have an index from 0 to 0, not 0.5');
});

/** Small enough that plans get full. */
const plan = fc
  .integer({ min: 16, max: 64 })
  .chain((length) =>
    fc.tuple(fc.constant(length), fc.array(fc.integer({ min: Math.max(length, 58), max: 64 }), { maxLength: 40 })),
  );

/** As many of them as there is room for, one after the other. */
function placeAll(length: number, lengths: readonly number[]) {
  const wishes: SubnetRequest[] = [];
  const refused: { length: number; after: number }[] = [];
  for (const wish of asked(...lengths)) {
    try {
      placeSubnets(length, [...wishes, wish]);
      wishes.push(wish);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refused.push({ length: wish.length, after: wishes.length });
    }
  }
  return { wishes, refused };
}

t.test('for any plan', async () => {
  fc.assert(
    fc.property(plan, ([length, lengths]) => {
      const prefix = { network: 0x2001_0db8_0000_0000n << 64n, length: Math.max(length, 32) };
      const { wishes, refused } = placeAll(prefix.length, lengths);
      const places = placeSubnets(prefix.length, wishes);
      const pieces = places.map((place) => {
        const piece = subnet(prefix, place.length, BigInt(place.index));
        if (!piece) throw new Error(`${place.name} lies outside`);
        return piece;
      });
      // Each inside, none in another, each as wished.
      for (const [index, piece] of pieces.entries()) {
        if (!contains(prefix, piece) || piece.length !== wishes[index]?.length) return false;
        if (pieces.some((other, at) => at !== index && contains(other, piece))) return false;
      }
      // The first subnets have the same place as without the appended ones.
      for (let end = 0; end < wishes.length; end++) {
        const alone = placeSubnets(prefix.length, wishes.slice(0, end));
        if (JSON.stringify(alone) !== JSON.stringify(places.slice(0, end))) return false;
      }
      // By number, the same plan in any order.
      const numbered = [...places].reverse();
      if (JSON.stringify(placeSubnets(prefix.length, numbered)) !== JSON.stringify(numbered)) return false;
      // Refused only when there was no aligned place left, which trying them all shows.
      return refused.every((wish) => {
        const taken = pieces.slice(0, wish.after);
        if (wish.length - prefix.length > 12) return false; // 40 subnets cannot fill that
        return Array.from({ length: 2 ** (wish.length - prefix.length) }, (_, index) =>
          subnet(prefix, wish.length, BigInt(index)),
        ).every((free) => free && taken.some((piece) => contains(piece, free) || contains(free, piece)));
      });
    }),
    { numRuns: 300 },
  );
});
