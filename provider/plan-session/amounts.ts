/** Amounts of money in the provider: integers of 10⁻⁸ units. The API writes them as decimal texts such as `42.10`. */

const decimals = 8;

/** Returns the amount of a text of the API. */
export function amountOf(text: string): bigint {
  const [whole = '0', fraction = ''] = text.replace('-', '').split('.');
  const amount = BigInt(whole + fraction.padEnd(decimals, '0'));
  return text.startsWith('-') ? -amount : amount;
}

/** Returns the text of an amount without its sign, with at least the given number of decimals. */
export function textOf(amount: bigint, least: number): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(decimals + 1, '0');
  const fraction = digits.slice(-decimals).replace(/0+$/, '').padEnd(least, '0');
  return `${digits.slice(0, -decimals)}${fraction === '' ? '' : `.${fraction}`}`;
}

/** Returns the number of decimals of a text. */
export const decimalsOf = (text: string): number => text.split('.')[1]?.length ?? 0;
