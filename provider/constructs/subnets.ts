/**
 * Computes the places of subnets in a prefix. A plan uses one of two ways:
 *
 * - By order: the subnets are placed one after the other in the order of the list. Each gets the lowest free place that
 *   is aligned to its length. So the place of a subnet depends only on the subnets before it. A subnet at the end of
 *   the list moves no other subnet, and may fill a gap that alignment has left.
 * - By index: each subnet has an index among the subnets of its length. Its place depends on the index alone. So the
 *   order has no meaning, and adding or removing a subnet moves no other.
 *
 * A plan with both ways would have neither property, so `placeSubnets` rejects it.
 */

/**
 * The maximum prefix length of a subnet. Hosts configure addresses automatically only in a /64 (RFC 4862, RFC 7421).
 */
export const maxSubnetLength = 64;

/** A subnet to place. */
export interface SubnetRequest {
  readonly name: string;
  /** The prefix length, at most 64. */
  readonly length: number;
  /** The index among the subnets of this length, from 0. */
  readonly index?: number | undefined;
}

/** A placed subnet. */
export interface SubnetPlacement {
  readonly name: string;
  readonly length: number;
  /** The index among the subnets of this length, from 0. */
  readonly index: number;
}

/** Returns the number of /64 subnets in a block of this length. The result is a power of two and therefore exact. */
const blockSize = (length: number): number => 2 ** (maxSubnetLength - length);

/**
 * Places the subnets in a prefix.
 * @param length the length of the prefix
 * @throws RangeError that names the subnet without a place, with an overlap, with an invalid length or index, with a
 * duplicate name, or with an index that other subnets lack
 */
export function placeSubnets(length: number, requests: readonly SubnetRequest[]): SubnetPlacement[] {
  if (!Number.isInteger(length) || length < 16 || length > maxSubnetLength) {
    throw new RangeError(`the prefix of a plan must have a length from 16 to ${maxSubnetLength}, not ${length}`);
  }
  const names = new Set<string>();
  for (const request of requests) {
    const what = `subnet "${request.name}"`;
    if (request.name === '') throw new RangeError('a subnet has no name');
    if (names.has(request.name)) throw new RangeError(`${what} occurs twice`);
    names.add(request.name);
    if (!Number.isInteger(request.length) || request.length < length || request.length > maxSubnetLength) {
      throw new RangeError(`${what} must have a length from ${length} to ${maxSubnetLength}, not ${request.length}`);
    }
  }
  const numbered = requests.filter((request): request is SubnetPlacement => request.index !== undefined);
  if (numbered.length === requests.length) return placeByIndex(length, numbered);
  const [stray] = numbered;
  if (stray) throw new RangeError(`subnet "${stray.name}" has an index, so every subnet of the plan needs one`);
  return placeByOrder(length, requests);
}

function placeByIndex(length: number, requests: readonly SubnetPlacement[]): SubnetPlacement[] {
  const taken: { readonly name: string; readonly start: number; readonly end: number }[] = [];
  return requests.map(({ name, length: own, index }) => {
    const last = 2 ** (own - length) - 1;
    if (!Number.isInteger(index) || index < 0 || index > last) {
      throw new RangeError(
        `subnet "${name}", a /${own} of a /${length}, must have an index from 0 to ${last}, not ${index}`,
      );
    }
    const piece = { name, start: index * blockSize(own), end: (index + 1) * blockSize(own) };
    const other = taken.find((each) => each.start < piece.end && piece.start < each.end);
    if (other) throw new RangeError(`subnet "${name}" overlaps "${other.name}"`);
    taken.push(piece);
    return { name, length: own, index };
  });
}

/** A free block, aligned to its length. `start` counts /64 subnets from the start of the prefix. */
interface FreeBlock {
  readonly start: number;
  readonly length: number;
}

function placeByOrder(length: number, requests: readonly SubnetRequest[]): SubnetPlacement[] {
  // The algorithm only splits blocks, so two sibling blocks are never both free. Every free aligned place is therefore
  // inside one block.
  const free: FreeBlock[] = [{ start: 0, length }];
  return requests.map((request) => {
    const at = free.findIndex((block) => block.length <= request.length);
    const [block] = at < 0 ? [] : free.splice(at, 1);
    if (!block)
      throw new RangeError(`subnet "${request.name}", a /${request.length}, has no room left in the /${length}`);
    // The subnet takes the lower end of the block. The split-off halves stay free, in ascending order of their size.
    const rest: FreeBlock[] = [];
    for (let half = request.length; half > block.length; half--) {
      rest.push({ start: block.start + blockSize(half), length: half });
    }
    free.splice(at, 0, ...rest);
    return { name: request.name, length: request.length, index: block.start / blockSize(request.length) };
  });
}
