/** Prices. They never change, so that the past has the prices that users saw. A deletion ends a price that applies. */
import { UcloudError } from '../../contract/errors.ts';
import { meterTable } from '../../contract/resources/meters.ts';
import { type PriceBody, type PriceUpdate, price } from '../../contract/resources/prices.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { parseTimestamp } from '../../model/text/timestamps.ts';
import { absent, present, put, remove } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, removal, removeReference, replacement } from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';

/** The descriptor of prices. */
export const prices: ResourceDescriptor<records.PriceRecord> = describe(price, {
  kind: records.prices,
  scope: 'cloud',
  show: ({ mirror }, record) => {
    const meter = mirror.get(records.products, record.product)?.value.meter;
    return { ...record, unit: meter === undefined ? '' : meterTable[meter].unit };
  },
  indexes: ['product'],
  list: { selectedBy: 'product' },
  alsoMirrored: [records.endedPrices],
  handlers: { price_create: createPrice, price_update: updatePrice, price_delete: deletePrice },
});

/** Clocks of clients differ, so a time of the last minute counts as now. */
const toleranceMs = 60_000;

/** Returns the instant from which the price applies. @throws UcloudError `rule_violated` */
function validFrom(asked: string | undefined, now: Date): string {
  if (asked === undefined) return now.toISOString();
  const at = parseTimestamp(asked)?.getTime() ?? Number.NaN;
  if (at >= now.getTime()) return new Date(at).toISOString();
  if (at >= now.getTime() - toleranceMs) return now.toISOString();
  throw fieldError('rule_violated', '/valid_from', 'must not be in the past: prices of the past never change');
}

function checkRules({ per, minimum_seconds, monthly_cap }: PriceBody): void {
  if (per === 'once' && minimum_seconds > 0) {
    throw fieldError('rule_violated', '/minimum_seconds', 'must be 0 for a price that applies once');
  }
  if (per !== 'hour' && monthly_cap !== undefined) {
    throw fieldError('rule_violated', '/monthly_cap', 'must be missing unless the price is per hour');
  }
}

const startKey = ({ product, currency, per, valid_from }: records.PriceRecord): string =>
  `${product}/${currency}/${per === 'once' ? 'once' : 'recurring'}/${valid_from}`;

const startIsFree = (record: records.PriceRecord): Guard => ({
  condition: absent(records.priceStarts, startKey(record)),
  otherwise: ([entry]) => {
    const holder: unknown = entry && JSON.parse(entry.value).id;
    const detail = `the price ${String(holder)} applies from ${record.valid_from} on, too`;
    return new UcloudError('price_exists', detail, { errors: [{ pointer: '/valid_from', detail }] });
  },
});

async function createPrice(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const body = request.body as PriceBody;
  checkRules(body);
  const record: records.PriceRecord = {
    id: newId('price'),
    ...body,
    valid_from: validFrom(body.valid_from, request.now),
    created_at: at,
    updated_at: at,
  };
  return mutate(api, request, () => {
    if (!api.mirror.get(records.products, record.product)) {
      const rule = `must be the id of an existing product: there is no ${record.product}`;
      throw fieldError('invalid_reference', '/product', rule);
    }
    return creation(api, prices, record, {
      guards: [startIsFree(record), { condition: present(records.products, record.product) }],
      writes: [
        put(records.priceStarts, startKey(record), { id: record.id }),
        put(records.uses, `${record.product}/${record.id}`, {}),
      ],
    });
  });
}

async function updatePrice(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, prices, (stored) => {
    const changed: records.PriceRecord = patched(price, stored.value, request.body as PriceUpdate);
    return replacement(api, request, prices, stored, { ...changed, updated_at: request.now.toISOString() });
  });
}

/** A price that applies ends now. A price of the future goes without a trace. */
async function deletePrice(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, prices, (stored) => {
    const { valid_from, product } = stored.value;
    const ended_at = request.now.toISOString();
    const applies = Date.parse(valid_from) <= request.now.getTime();
    return removal(api, request, prices, stored, {
      writes: [
        removeReference(product, stored.id),
        applies
          ? put(records.endedPrices, stored.id, { ...stored.value, ended_at })
          : remove(records.priceStarts, startKey(stored.value)),
      ],
    });
  });
}
