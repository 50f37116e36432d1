/** Products: the quantities that cost money. */

import { UcloudError } from '../../contract/errors.ts';
import { type ProductBody, type ProductUpdate, product } from '../../contract/resources/products.ts';
import { partKey } from '../../model/billing/meters.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, present, put, remove } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, removal, replacement } from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';

/** The descriptor of products. */
export const products: ResourceDescriptor<records.ProductRecord> = describe(product, {
  kind: records.products,
  scope: 'cloud',
  show: (_api, record) => record,
  alsoMirrored: [records.endedProducts],
  handlers: { product_create: createProduct, product_update: updateProduct, product_delete: deleteProduct },
});

/** Checks that the fields fit the meter. @throws UcloudError `rule_violated`, `invalid_reference` */
function checkPart(api: ApiContext, { meter, pool, length }: ProductBody): void {
  if (pool !== undefined && meter !== 'volume' && meter !== 'snapshot') {
    throw fieldError('rule_violated', '/pool', `must be missing with the meter ${meter}`);
  }
  if (length !== undefined && meter !== 'prefix') {
    throw fieldError('rule_violated', '/length', `must be missing with the meter ${meter}`);
  }
  if (pool !== undefined && !api.mirror.get(records.storagePools, pool)) {
    throw fieldError('invalid_reference', '/pool', `must be the id of an existing storage pool: there is no ${pool}`);
  }
}

/** Returns the guard that the part of the meter has no other product. */
const partIsFree = (part: string): Guard => ({
  condition: absent(records.meterProducts, part),
  otherwise: ([entry]) => {
    const holder: unknown = entry && JSON.parse(entry.value).id;
    const detail = `the product ${String(holder)} charges ${part} already`;
    return new UcloudError('meter_taken', detail, { errors: [{ pointer: '/meter', detail: `is taken: ${detail}` }] });
  },
});

async function createProduct(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const at = request.now.toISOString();
  const body = request.body as ProductBody;
  const record: records.ProductRecord = { id: newId('product'), ...body, created_at: at, updated_at: at };
  const part = partKey(record);
  return mutate(api, request, () => {
    checkPart(api, body);
    const isBooked = body.meter === 'booked';
    return creation(api, products, record, {
      guards: [
        ...(isBooked ? [] : [partIsFree(part)]),
        ...(body.pool === undefined ? [] : [{ condition: present(records.storagePools, body.pool) }]),
      ],
      writes: isBooked ? [] : [put(records.meterProducts, part, { id: record.id })],
    });
  });
}

async function updateProduct(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, products, (stored) => {
    const changed: records.ProductRecord = patched(product, stored.value, request.body as ProductUpdate);
    return replacement(api, request, products, stored, { ...changed, updated_at: request.now.toISOString() });
  });
}

/** A product whose prices have all ended goes. Bills of the past need it, so its record stays among the ended ones. */
async function deleteProduct(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, products, (stored) => {
    const { value } = stored;
    return removal(api, request, products, stored, {
      writes: [
        ...(value.meter === 'booked' ? [] : [remove(records.meterProducts, partKey(value))]),
        put(records.endedProducts, stored.id, { ...value, ended_at: request.now.toISOString() }),
      ],
    });
  });
}
