/** Products: the quantities that cost money. */

import { UcloudError } from '../../contract/errors.ts';
import { type IncludedMeter, includedMeters, type Meter } from '../../contract/resources/meters.ts';
import { type ProductBody, type ProductUpdate, product } from '../../contract/resources/products.ts';
import { inclusionProblem } from '../../model/billing/inclusions.ts';
import { partKey } from '../../model/billing/meters.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, noneBelow, present, put, remove } from '../../store/collection.ts';
import type { Write } from '../../store/store.ts';
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

const isIncluded = (meter: Meter): meter is IncludedMeter => (includedMeters as readonly Meter[]).includes(meter);

/** Checks what a composed product includes. @throws UcloudError `rule_violated` */
function checkInclusions({ meter, includes = [] }: Pick<ProductBody, 'meter' | 'includes'>): void {
  for (const [index, each] of includes.entries()) {
    const pointer = `/includes/${index}/meter`;
    if (!isIncluded(meter)) throw fieldError('rule_violated', '/includes', `must be missing with the meter ${meter}`);
    const problem = inclusionProblem(meter, each.meter);
    if (problem !== undefined) throw fieldError('rule_violated', pointer, problem);
    if (includes.findIndex((other) => other.meter === each.meter) < index) {
      throw fieldError('rule_violated', pointer, `must be given once: ${each.meter} is included already`);
    }
  }
}

const roleKey = (meter: Meter, role: 'whole' | 'part', product: string): string => `${meter}/${role}/${product}`;

/** Returns the guards and writes that keep meters of composed products apart from the meters that others include. */
function takeRoles({ id, meter, includes = [] }: records.ProductRecord): { guards: Guard[]; writes: Write[] } {
  if (includes.length === 0) return { guards: [], writes: [] };
  const isFree = (of: Meter, role: 'whole' | 'part', pointer: string, rule: string): Guard => ({
    condition: noneBelow(records.meterRoles, roleKey(of, role, '')),
    otherwise: ([entry]) => {
      const holder = entry?.key.slice(entry.key.lastIndexOf('/') + 1);
      return fieldError('rule_violated', pointer, `must ${rule}: see the product ${String(holder)}`);
    },
  });
  return {
    guards: [
      isFree(meter, 'part', '/includes', 'be missing, because a composed product includes the meter'),
      ...includes.map((each, index) =>
        isFree(each.meter, 'whole', `/includes/${index}/meter`, 'not be the meter of a composed product'),
      ),
    ],
    writes: rolesOf({ id, meter, includes }).map((key) => put(records.meterRoles, key, {})),
  };
}

const rolesOf = ({ id, meter, includes = [] }: Pick<records.ProductRecord, 'id' | 'meter' | 'includes'>): string[] =>
  includes.length === 0
    ? []
    : [roleKey(meter, 'whole', id), ...includes.map((each) => roleKey(each.meter, 'part', id))];

/** Checks that the fields fit the meter. @throws UcloudError `rule_violated`, `invalid_reference` */
function checkPart(api: ApiContext, { meter, pool, length, includes }: ProductBody): void {
  if (pool !== undefined && meter !== 'volume' && meter !== 'snapshot') {
    throw fieldError('rule_violated', '/pool', `must be missing with the meter ${meter}`);
  }
  if (length !== undefined && meter !== 'prefix') {
    throw fieldError('rule_violated', '/length', `must be missing with the meter ${meter}`);
  }
  checkInclusions({ meter, includes });
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
    const roles = takeRoles(record);
    return creation(api, products, record, {
      guards: [
        ...(isBooked ? [] : [partIsFree(part)]),
        ...roles.guards,
        ...(body.pool === undefined ? [] : [{ condition: present(records.storagePools, body.pool) }]),
      ],
      writes: [...(isBooked ? [] : [put(records.meterProducts, part, { id: record.id })]), ...roles.writes],
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
        ...rolesOf(value).map((key) => remove(records.meterRoles, key)),
        put(records.endedProducts, stored.id, { ...value, ended_at: request.now.toISOString() }),
      ],
    });
  });
}
