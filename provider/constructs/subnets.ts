/**
 * Where the subnets of a prefix lie, by arithmetic alone.
 *
 * They are placed one after the other in the order in which they are asked for, each at the lowest place that is free
 * and aligned to its length. So a subnet's place depends only on what stands before it: one that is added at the end moves
 * none, and fills a gap that alignment has left if it fits there.
 */

/** Subnets are for networks, whose hosts autoconfigure: longer than /64 is of no use to them (RFC 4862, RFC 7421). */
export const longest = 64;

export interface SubnetWish {
  readonly name: string;
  /** Prefix length, at most 64. */
  readonly length: number;
}

export interface Place extends SubnetWish {
  /** Which of the prefix's subnets of this length it is, counted from 0. */
  readonly index: number;
}

/** What is free: a block aligned to its length, counted in /64 from the start of the prefix. */
interface Block {
  readonly start: number;
  readonly length: number;
}

/** How many /64 a block of this length has. Exact, as a power of two. */
const size = (length: number): number => 2 ** (longest - length);

/**
 * @param length of the prefix that is cut
 * @throws RangeError that names the subnet which has no place, a length out of range, or a name that is there twice
 */
export function placeSubnets(length: number, wishes: readonly SubnetWish[]): Place[] {
  if (!Number.isInteger(length) || length < 16 || length > longest) {
    throw new RangeError(`a prefix to cut has a length from 16 to ${longest}, not ${length}`);
  }
  const names = new Set<string>();
  // Siblings are never both free: blocks are only ever split. So an aligned place that is free lies in one of them.
  const free: Block[] = [{ start: 0, length }];
  return wishes.map((wish) => {
    const what = `subnet "${wish.name}"`;
    if (wish.name === '') throw new RangeError('a subnet has no name');
    if (names.has(wish.name)) throw new RangeError(`${what} is there twice`);
    names.add(wish.name);
    if (!Number.isInteger(wish.length) || wish.length < length || wish.length > longest) {
      throw new RangeError(`${what} must have a length from ${length} to ${longest}, not ${wish.length}`);
    }
    const at = free.findIndex((block) => block.length <= wish.length);
    const [block] = at < 0 ? [] : free.splice(at, 1);
    if (!block) throw new RangeError(`${what}, a /${wish.length}, has no room left in the /${length}`);
    // Its lower end is taken; of the rest, the halves that were split off stay free, the small ones lowest.
    const rest: Block[] = [];
    for (let half = wish.length; half > block.length; half--) {
      rest.push({ start: block.start + size(half), length: half });
    }
    free.splice(at, 0, ...rest);
    return { ...wish, index: block.start / size(wish.length) };
  });
}
