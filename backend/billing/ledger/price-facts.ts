/** The price list of a currency, from a mirror. Prices and products that have ended count for the past. */
import type { BilledProduct } from '../../model/billing/bills.ts';
import { priceFacts, productFacts } from '../../model/billing/facts.ts';
import { PriceList } from '../../model/billing/price-list.ts';
import * as records from '../../model/records/index.ts';
import type { Mirror } from '../../store/mirror.ts';

/** The kinds of records that a mirror must contain. */
export const priceKinds = [records.products, records.endedProducts, records.prices, records.endedPrices] as const;

/** Returns the price list of a currency, and the products by their ids. */
export function priceFactsOf(mirror: Mirror, currency: string) {
  const products = new Map<string, BilledProduct>();
  for (const { value } of [...mirror.list(records.products), ...mirror.list(records.endedProducts)]) {
    products.set(value.id, { ...productFacts(value), description: value.description });
  }
  const prices = [...mirror.list(records.prices), ...mirror.list(records.endedPrices)]
    .filter(({ value }) => value.currency === currency)
    .map(({ value }) => priceFacts(value));
  return { products, prices: new PriceList(currency, products.values(), prices) };
}
