/** The cost of quantities before they are used: quotes, prices in plans, and budgets. Pure. */
import { meterTable } from '../../contract/resources/meters.ts';
import { quotedMonthHours } from '../../contract/resources/quotes.ts';
import type { Metered } from './meters.ts';
import { formatAmount, multiplyToMinor, oneUnit, roundHalfUp } from './money.ts';
import type { PriceFacts, PriceList } from './price-list.ts';
import { chargesUpTo } from './rating.ts';

const monthMs = quotedMonthHours * 3_600_000;
const bytesPerUnit = 2n ** 30n;

/** The cost of a quantity by one price, rounded to the smallest amount of the currency. */
export interface EstimateLine {
  readonly price: PriceFacts;
  readonly item: Metered;
  readonly monthly: bigint;
  readonly once: bigint;
}

/** Returns the cost of quantities in a month of 730 hours from an instant on, by the prices of that instant. */
export function estimate(prices: PriceList, items: readonly Metered[], at: number): EstimateLine[] {
  const month = { from: at, to: at + monthMs };
  const current = prices.asOf(at);
  return items.flatMap((item) => {
    const charges = chargesUpTo(current, [{ ...item, resource: '', from: at }], month, month.to);
    return charges.map(({ price, numerator, denominator }): EstimateLine => {
      const amount = multiplyToMinor(1n, { numerator, denominator }, prices.currency);
      return { price, item, ...(price.per === 'once' ? { monthly: 0n, once: amount } : { monthly: amount, once: 0n }) };
    });
  });
}

/** Returns the quantity in units of the meter, as a decimal text: bytes in GiB. */
export function quantityInUnits({ meter, quantity }: Metered): string {
  if (!meterTable[meter].bytes) return String(quantity);
  return formatAmount(roundHalfUp(BigInt(quantity) * oneUnit, bytesPerUnit));
}
