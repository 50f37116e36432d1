/** Quotes. They use the mirror alone and write nothing. */
import { meterTable } from '../../contract/resources/meters.ts';
import { maxQuotedObjects, type Quote, type QuoteResult } from '../../contract/resources/quotes.ts';
import { estimate, quantityInUnits } from '../../model/billing/estimate.ts';
import { type Metered, prefixQuantities, vmQuantities, volumeQuantities } from '../../model/billing/meters.ts';
import { formatAmount, sum } from '../../model/billing/money.ts';
import * as records from '../../model/records/index.ts';
import { builtInPool } from '../../model/storage/pool.ts';
import { sizeInBytes } from '../../model/text/sizes.ts';
import { QuantitySums } from '../read-model/project-use.ts';
import type { ApiContext, Handlers } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { projectOfCreation } from '../transaction/declarations.ts';

/** A quote with the defaults of the contract. */
type Body = Quote & Required<Pick<Quote, 'vms' | 'volumes' | 'snapshots' | 'prefixes'>>;

const times = (count: number | undefined, items: readonly Metered[]): Metered[] =>
  items.map((item) => ({ ...item, quantity: item.quantity * (count ?? 1) }));

/** Returns the quantities of the objects of a quote. @throws UcloudError `rule_violated`, `invalid_reference` */
function quantitiesOf(api: ApiContext, { vms, volumes, snapshots, prefixes }: Body): readonly Metered[] {
  const count = [...vms, ...volumes, ...snapshots, ...prefixes].reduce((total, each) => total + (each.count ?? 1), 0);
  if (count > maxQuotedObjects) {
    throw fieldError('rule_violated', '', `must contain at most ${maxQuotedObjects} objects in total`);
  }
  const poolOf = (pool: string | undefined, pointer: string) => {
    if (pool !== undefined && !api.mirror.get(records.storagePools, pool)) {
      throw fieldError('invalid_reference', pointer, `must be the id of an existing storage pool: there is no ${pool}`);
    }
    return pool ?? builtInPool;
  };
  const sums = new QuantitySums();
  for (const { count, cpus = 1, memory = '512MiB', disk_size, power_state = 'running' } of vms) {
    const disk = disk_size === undefined ? 0 : sizeInBytes(disk_size);
    sums.add(times(count, vmQuantities({ cpus, memory: sizeInBytes(memory), disk_size: disk, power_state })));
  }
  for (const [index, { count, size, pool }] of volumes.entries()) {
    const place = poolOf(pool, `/volumes/${index}/pool`);
    sums.add(times(count, volumeQuantities({ size: sizeInBytes(size), pool: place })));
  }
  for (const [index, { count, size, pool }] of snapshots.entries()) {
    const place = poolOf(pool, `/snapshots/${index}/pool`);
    sums.add(times(count, [{ meter: 'snapshot', pool: place, quantity: sizeInBytes(size) }]));
  }
  for (const { count, length } of prefixes) sums.add(times(count, prefixQuantities({ length })));
  for (const { quantity } of sums.items) {
    if (!Number.isSafeInteger(quantity))
      throw fieldError('rule_violated', '', 'must contain at most 8388607 TiB in total');
  }
  return sums.items;
}

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
  async quote_create(api, request) {
    const body = request.body as Body;
    const project = projectOfCreation(api, request.caller, body.project);
    const items = quantitiesOf(api, body);
    const currency = currencyOf(api, project, body.currency);
    const lines = currency === undefined ? [] : estimate(api.prices.of(currency), items, request.now.getTime());
    const { revision } = api.mirror;
    const text = (amount: bigint) => formatAmount(amount, currency);
    const result: QuoteResult = {
      ...(currency !== undefined && { currency }),
      monthly: text(sum(lines.map(({ monthly }) => monthly))),
      once: text(sum(lines.map(({ once }) => once))),
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
      revision,
    };
    return { status: 200, body: result, revision };
  },
};
