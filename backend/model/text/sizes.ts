/** Sizes: integers of bytes inside ucloud, and texts such as `512MiB` in the API. */

const MiB = 2 ** 20;
const units = [
  ['TiB', 2 ** 40],
  ['GiB', 2 ** 30],
  ['MiB', MiB],
] as const;
const smallUnits = [
  ['KiB', 2 ** 10],
  [' bytes', 1],
] as const;

/** The maximum size, 512 TiB. It has nine digits in MiB, and sums of sizes stay exact integers. */
export const maxSizeBytes = 2 ** 49;

/** Returns the bytes of a text such as `20GiB`; undefined for other texts and sizes above 512 TiB. */
export function parseSize(text: string): number | undefined {
  const match = /^([1-9][0-9]{0,8})(MiB|GiB|TiB)$/.exec(text);
  const unit = units.find(([name]) => name === match?.[2]);
  if (!match || !unit) return undefined;
  const bytes = Number(match[1]) * unit[1];
  return bytes <= maxSizeBytes ? bytes : undefined;
}

/** Returns the bytes of a valid size. @throws RangeError for other texts */
export function sizeInBytes(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new RangeError(`${text} is no size`);
  return bytes;
}

/** Returns the bytes, rounded up to a whole MiB. */
export const roundUpToMiB = (bytes: number): number => Math.ceil(bytes / MiB) * MiB;

/** Returns the size in the largest exact unit, rounded up to a MiB. */
export function formatSize(bytes: number): string {
  const whole = roundUpToMiB(bytes);
  const [name, factor] = units.find(([, size]) => whole >= size && whole % size === 0) ?? ['MiB', MiB];
  return `${whole / factor}${name}`;
}

/**
 * Returns the size for a message, rounded down to one decimal: `12.5GiB`, `100 bytes`. A message must not name more than
 * there is.
 */
export function describeSize(bytes: number): string {
  const [name, factor] = [...units, ...smallUnits].find(([, size]) => bytes >= size) ?? ['MiB', MiB];
  return `${Math.floor((bytes / factor) * 10) / 10}${name}`;
}
