/** Amounts of bytes: integers inside, `512MiB` at the edge. */

const MiB = 2 ** 20;
const units = [
  ['TiB', 2 ** 40],
  ['GiB', 2 ** 30],
  ['MiB', MiB],
] as const;

/** The largest amount that is taken, 512 TiB. It has nine digits in MiB, and sums of amounts stay exact integers. */
export const maxSizeBytes = 2 ** 49;

/** Bytes of a text such as `20GiB`, or undefined if it is not one or exceeds 512 TiB. */
export function parseSize(text: string): number | undefined {
  const match = /^([1-9][0-9]{0,8})(MiB|GiB|TiB)$/.exec(text);
  const unit = units.find(([name]) => name === match?.[2]);
  if (!match || !unit) return undefined;
  const bytes = Number(match[1]) * unit[1];
  return bytes <= maxSizeBytes ? bytes : undefined;
}

/** The same of a size that validation has let through. Throws RangeError for another. */
export function sizeInBytes(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new RangeError(`${text} is no size`);
  return bytes;
}

export const roundUpToMiB = (bytes: number): number => Math.ceil(bytes / MiB) * MiB;

/** In the largest unit that fits exactly; what is no multiple of a MiB is rounded up to one. */
export function formatSize(bytes: number): string {
  const whole = roundUpToMiB(bytes);
  const [name, factor] = units.find(([, size]) => whole >= size && whole % size === 0) ?? ['MiB', MiB];
  return `${whole / factor}${name}`;
}
