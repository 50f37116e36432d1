/** Quotes. They use the mirror alone and write nothing. */
import { meterTable } from '../../contract/resources/meters.ts';
import type { Quote, QuotedObjects, QuoteResult } from '../../contract/resources/quotes.ts';
import { type EstimateLine, estimate, quantityInUnits } from '../../model/billing/estimate.ts';
import { formatAmount, sum } from '../../model/billing/money.ts';
import { QuantitySums } from '../../model/billing/quantity-sums.ts';
import * as records from '../../model/records/index.ts';
import { quotedItems, totalOf } from '../billing/quoted-objects.ts';
import type { ApiContext, Handlers } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { projectOfCreation } from '../transaction/declarations.ts';

/** Returns the currency of a quote: that of the request, of the account, or the only one with prices. */
function currencyOf(api: ApiContext, project: string, asked: string | undefined): string | undefined {
  if (asked !== undefined) return asked;
  const account = api.mirror.get(records.projects, project)?.value.billing_account;
  const known = account && api.mirror.get(records.billingAccounts, account)?.value.currency;
  if (known !== undefined) return known;
  const currencies = api.prices.currencies();
  if (currencies.length > 1) {
    throw fieldError('rule_violated', '/currency', `is required: there are prices in ${currencies.join(', ')}`);
  }
  return currencies[0];
}

/** The handlers of quotes. */
export const quoteHandlers: Handlers = {
  async quote_calculate(api, request) {
    const body = request.body as Quote & QuotedObjects;
    const project = projectOfCreation(api, request.caller, body.project);
    const items = quotedItems(api, body);
    const asked = currencyOf(api, project, body.currency);
    // A currency whose prices all begin later has none.
    const hasPrices = asked !== undefined && !api.prices.of(asked).asOf(request.now.getTime()).isEmpty;
    const currency = hasPrices ? asked : undefined;
    const linesOf = (sums: QuantitySums) => {
      if (currency === undefined) return [];
      const [prices, at] = [api.prices.of(currency), request.now.getTime()];
      return estimate(prices, sums.charged(prices, at), at);
    };
    const lines = linesOf(totalOf(items));
    const { revision } = api.mirror;
    const text = (amount: bigint) => formatAmount(amount, currency);
    const sums = (of: readonly EstimateLine[]) => ({
      monthly: text(sum(of.map(({ monthly }) => monthly))),
      once: text(sum(of.map(({ once }) => once))),
    });
    const result: QuoteResult = {
      ...(currency !== undefined && { currency }),
      ...sums(lines),
      lines: lines.flatMap(({ price, item, monthly, once }) => {
        const product = api.mirror.get(records.products, price.product)?.value;
        if (!product) return [];
        return [
          {
            product: product.id,
            name: product.name,
            meter: item.meter,
            price: price.id as QuoteResult['lines'][number]['price'],
            quantity: quantityInUnits(item),
            unit: meterTable[item.meter].unit,
            monthly: text(monthly),
            once: text(once),
          },
        ];
      }),
      items: items.map(({ pointer, quantities }) => ({
        pointer,
        ...sums(linesOf(new QuantitySums().add(quantities))),
      })),
      revision,
    };
    return { status: 200, body: result, revision };
  },
};
