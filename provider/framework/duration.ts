const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
/** setTimeout counts in 32 bits. */
const LONGEST = 2 ** 31 - 1;

/** Milliseconds of a duration as Terraform users write it: `90s`, `20m`, `1h30m`. Undefined when it is not one. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    total += Number(amount) * UNITS[unit as keyof typeof UNITS];
  }
  return total >= 1 && total <= LONGEST ? total : undefined;
}
