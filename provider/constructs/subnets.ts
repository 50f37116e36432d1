/**
 * Where the subnets of a prefix lie, by arithmetic alone. There are two ways to say it, and a plan has one of them:
 *
 * - By order: they are placed one after the other in the order in which they are asked for, each at the lowest place that
 *   is free and aligned to its length. So a subnet's place depends only on what stands before it: one that is added at the
 *   end moves none, and fills a gap that alignment has left if it fits there.
 * - By number: each says which of the prefix's subnets of its length it is. Its place depends on nothing else, so the order
 *   means nothing, and any may come or go.
 *
 * A mixture would have neither property, so there is none.
 */

/** Subnets are for networks, whose hosts autoconfigure: longer than /64 is of no use to them (RFC 4862, RFC 7421). */
export const longest = 64;

export interface SubnetWish {
  readonly name: string;
  /** Prefix length, at most 64. */
  readonly length: number;
  /** Which of the prefix's subnets of this length, counted from 0. */
  readonly index?: number | undefined;
}

export interface Place {
  readonly name: string;
  readonly length: number;
  /** Which of the prefix's subnets of this length it is, counted from 0. */
  readonly index: number;
}

/** How many /64 a block of this length has. Exact, as a power of two. */
const size = (length: number): number => 2 ** (longest - length);

/**
 * @param length of the prefix that is cut
 * @throws RangeError that names the subnet which has no place or another's, a length or number out of range, a name that is
 *   there twice, or the subnet that says a number where others do not
 */
export function placeSubnets(length: number, wishes: readonly SubnetWish[]): Place[] {
  if (!Number.isInteger(length) || length < 16 || length > longest) {
    throw new RangeError(`a prefix to cut has a length from 16 to ${longest}, not ${length}`);
  }
  const names = new Set<string>();
  for (const wish of wishes) {
    const what = `subnet "${wish.name}"`;
    if (wish.name === '') throw new RangeError('a subnet has no name');
    if (names.has(wish.name)) throw new RangeError(`${what} is there twice`);
    names.add(wish.name);
    if (!Number.isInteger(wish.length) || wish.length < length || wish.length > longest) {
      throw new RangeError(`${what} must have a length from ${length} to ${longest}, not ${wish.length}`);
    }
  }
  const numbered = wishes.filter((wish): wish is Place => wish.index !== undefined);
  if (numbered.length === wishes.length) return placeByNumber(length, numbered);
  const [stray] = numbered;
  if (stray) throw new RangeError(`subnet "${stray.name}" has an index, so every subnet of the plan needs one`);
  return placeByOrder(length, wishes);
}

function placeByNumber(length: number, wishes: readonly Place[]): Place[] {
  const taken: { readonly name: string; readonly start: number; readonly end: number }[] = [];
  return wishes.map(({ name, length: own, index }) => {
    const last = 2 ** (own - length) - 1;
    if (!Number.isInteger(index) || index < 0 || index > last) {
      throw new RangeError(
        `subnet "${name}", a /${own} of a /${length}, must have an index from 0 to ${last}, not ${index}`,
      );
    }
    const piece = { name, start: index * size(own), end: (index + 1) * size(own) };
    const other = taken.find((each) => each.start < piece.end && piece.start < each.end);
    if (other) throw new RangeError(`subnet "${name}" overlaps "${other.name}"`);
    taken.push(piece);
    return { name, length: own, index };
  });
}

/** What is free: a block aligned to its length, counted in /64 from the start of the prefix. */
interface Block {
  readonly start: number;
  readonly length: number;
}

function placeByOrder(length: number, wishes: readonly SubnetWish[]): Place[] {
  // Siblings are never both free: blocks are only ever split. So an aligned place that is free lies in one of them.
  const free: Block[] = [{ start: 0, length }];
  return wishes.map((wish) => {
    const at = free.findIndex((block) => block.length <= wish.length);
    const [block] = at < 0 ? [] : free.splice(at, 1);
    if (!block) throw new RangeError(`subnet "${wish.name}", a /${wish.length}, has no room left in the /${length}`);
    // Its lower end is taken; of the rest, the halves that were split off stay free, the small ones lowest.
    const rest: Block[] = [];
    for (let half = wish.length; half > block.length; half--) {
      rest.push({ start: block.start + size(half), length: half });
    }
    free.splice(at, 0, ...rest);
    return { name: wish.name, length: wish.length, index: block.start / size(wish.length) };
  });
}
