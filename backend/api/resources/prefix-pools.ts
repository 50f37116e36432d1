import { type PrefixPoolBody, type PrefixPoolUpdate, prefixPool } from '../../contract/resources/prefix-pools.ts';
import { newId } from '../../model/ids.ts';
import {
  formatPrefix,
  isUnicastSpace,
  minLengthOf,
  overlaps,
  type Prefix,
  parsePrefix,
  storedPrefix,
} from '../../model/network/prefixes.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, remove, rewrite, unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, readPatch, removal, replacement } from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';

/** The descriptor of prefix pools. */
export const prefixPools: ResourceDescriptor<records.PrefixPoolRecord> = describe(prefixPool, {
  kind: records.prefixPools,
  scope: 'cloud',
  show: (_api, record) => ({
    delete_protection: false,
    ...record,
    min_length: minLengthOf(storedPrefix(record.cidr), record),
  }),
  alsoMirrored: [records.prefixMaps],
  handlers: {
    prefix_pool_create: createPrefixPool,
    prefix_pool_update: updatePrefixPool,
    prefix_pool_delete: deletePrefixPool,
  },
});

const shortest = 16;
const longest = 60;
/** The id of the record that every new pool rewrites, so that two overlapping pools cannot both commit. */
const allPools = 'pools';

/** Returns the space of a pool. @throws UcloudError `invalid_input`, `rule_violated` */
function readSpace(cidr: string): Prefix {
  const parsed = parsePrefix(cidr);
  if (!parsed.ok) throw fieldError('invalid_input', '/cidr', parsed.problem);
  const { value } = parsed;
  if (value.length < shortest || value.length > longest) {
    throw fieldError('rule_violated', '/cidr', `must have a length of ${shortest} to ${longest}`);
  }
  if (!isUnicastSpace(value)) {
    throw fieldError('rule_violated', '/cidr', 'must be global unicast (2000::/3) or unique local (fc00::/7)');
  }
  return value;
}

function checkDefaultLength(space: Prefix, length: number): void {
  if (length >= space.length) return;
  throw fieldError('rule_violated', '/default_length', `must be at least the length of the pool, ${space.length}`);
}

function checkOverlap(api: ApiContext, space: Prefix): void {
  for (const { value } of api.mirror.list(records.prefixPools)) {
    if (overlaps(space, storedPrefix(value.cidr))) {
      throw fieldError(
        'address_taken',
        '/cidr',
        `overlaps ${value.cidr} of the prefix pool ${value.name} (${value.id})`,
      );
    }
  }
}

async function createPrefixPool(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as PrefixPoolBody;
  const space = readSpace(body.cidr);
  checkDefaultLength(space, body.default_length);
  const id = newId('prefix_pool');
  const at = request.now.toISOString();
  const record: records.PrefixPoolRecord = {
    id,
    ...body,
    cidr: formatPrefix(space),
    created_at: at,
    updated_at: at,
  };
  return mutate(api, request, () => {
    checkOverlap(api, space);
    const map = api.mirror.get(records.prefixMaps, allPools);
    const alone: Guard = { condition: map ? unchanged(map) : absent(records.prefixMaps, allPools) };
    return creation(api, prefixPools, record, {
      guards: [alone],
      writes: [
        put(records.prefixMaps, id, { count: 0 }),
        map
          ? rewrite(records.prefixMaps, map, { count: map.value.count + 1 })
          : put(records.prefixMaps, allPools, { count: 1 }),
      ],
    });
  });
}

async function updatePrefixPool(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { min_length: asked, ...body } = request.body as PrefixPoolUpdate;
  const patch = readPatch<PrefixPoolUpdate>(prefixPool, body);
  return changeObject(api, request, prefixPools, (stored) => {
    const { min_length: before, ...others } = stored.value;
    const min_length = asked === undefined ? before : (asked ?? undefined);
    const next: records.PrefixPoolRecord = {
      ...others,
      ...patch,
      ...(min_length === undefined ? {} : { min_length }),
      updated_at: request.now.toISOString(),
    };
    checkDefaultLength(storedPrefix(next.cidr), next.default_length);
    return replacement(api, request, prefixPools, stored, next);
  });
}

async function deletePrefixPool(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, prefixPools, (stored) => {
    return removal(api, request, prefixPools, stored, { writes: [remove(records.prefixMaps, id)] });
  });
}
