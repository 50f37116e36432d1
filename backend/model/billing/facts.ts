/** Products and prices in the form that calculations need, from their records. Pure. */
import type { EndedPriceRecord, PriceRecord, ProductRecord } from '../records/index.ts';
import { amountOf } from './money.ts';
import type { PriceFacts, ProductFacts } from './price-list.ts';

/** Returns a product for the price list. Each booked product is a part of the meter of its own. */
export const productFacts = ({ id, name, meter, pool, length, includes }: ProductRecord): ProductFacts => ({
  ...{ id, name, meter, pool, length, includes },
  ...(meter === 'booked' && { product: id }),
});

/** Returns a price for the price list. */
export const priceFacts = (price: PriceRecord | EndedPriceRecord): PriceFacts => ({
  id: price.id,
  product: price.product,
  currency: price.currency,
  amount: amountOf(price.amount),
  per: price.per,
  minimumMs: price.minimum_seconds * 1_000,
  validFrom: Date.parse(price.valid_from),
  ...('ended_at' in price && { validTo: Date.parse(price.ended_at) }),
  ...(price.monthly_cap !== undefined && { monthlyCap: amountOf(price.monthly_cap) }),
});
