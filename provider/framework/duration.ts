const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
/** The maximum delay of setTimeout, in milliseconds: 31 bits. */
const LONGEST = 2 ** 31 - 1;

/** Returns the milliseconds of a duration in Terraform's notation: `90s`, `20m`, `1h30m`; undefined for other texts. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    total += Number(amount) * UNITS[unit as keyof typeof UNITS];
  }
  return total >= 1 && total <= LONGEST ? total : undefined;
}
