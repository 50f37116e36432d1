/**
 * A prefix is allocated from a pool. Two overlapping prefixes cannot both commit: every allocation rewrites the map of
 * its pool, on the condition that the map is unchanged since the free space was read.
 */

import type { Id } from '../../contract/fields.ts';
import { type PrefixBody, type PrefixUpdate, prefix } from '../../contract/resources/prefixes.ts';
import { newId } from '../../model/ids.ts';
import {
  comparePrefixes,
  contains,
  firstFree,
  formatPrefix,
  minAllocationLength,
  overlaps,
  type Prefix,
  parsePrefix,
  storedPrefix,
} from '../../model/network/prefixes.ts';
import { prefixAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { put, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { refer } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import {
  creation,
  projectOfCreation,
  readPatch,
  removal,
  removeReference,
  replacement,
} from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { prefixPools } from './prefix-pools.ts';

/** The descriptor of prefixes. */
export const prefixes: ResourceDescriptor<records.PrefixRecord> = describe(prefix, {
  kind: records.prefixes,
  scope: 'project',
  show: (_api, record) => ({ delete_protection: false, ...record }),
  quota: prefixAmounts,
  indexes: ['pool'],
  handlers: { prefix_create: createPrefix, prefix_update: updatePrefix, prefix_delete: deletePrefix },
});

type Pool = Stored<records.PrefixPoolRecord>;

interface RequestedPrefix {
  readonly cidr?: Prefix;
  readonly length?: number;
}

function readRequestedPrefix({ cidr, length }: PrefixBody): RequestedPrefix {
  if (cidr === undefined) return length === undefined ? {} : { length };
  const parsed = parsePrefix(cidr);
  if (!parsed.ok) throw fieldError('invalid_input', '/cidr', parsed.problem);
  if (length !== undefined && length !== parsed.value.length) {
    throw fieldError('rule_violated', '/length', `must be ${parsed.value.length}, the length of cidr`);
  }
  if (parsed.value.length > 64) throw fieldError('rule_violated', '/cidr', 'must have a length of at most 64');
  return { cidr: parsed.value };
}

/** Returns the pools to try, in order. @throws UcloudError `invalid_reference`, `rule_violated` */
function poolsFor(api: ApiContext, project: Id<'project'>, body: PrefixBody, requested: RequestedPrefix): Pool[] {
  if (body.pool !== undefined) {
    const pool = refer(api, prefixPools, project, body.pool, '/pool');
    const { cidr, name } = pool.value;
    const space = storedPrefix(cidr);
    if (requested.cidr && !contains(space, requested.cidr)) {
      throw fieldError('rule_violated', '/cidr', `must be within the prefix pool ${name}, which is ${cidr}`);
    }
    if (requested.length !== undefined && requested.length < space.length) {
      throw fieldError(
        'rule_violated',
        '/length',
        `must be at least that of the prefix pool ${name}, which is ${cidr}`,
      );
    }
    return [pool];
  }
  const pools = [...api.mirror.list(records.prefixPools)];
  const { cidr } = requested;
  if (cidr === undefined) return pools.sort((a, b) => (a.value.name < b.value.name ? -1 : 1));
  const holding = pools.filter(({ value }) => contains(storedPrefix(value.cidr), cidr));
  if (holding.length === 0) throw fieldError('rule_violated', '/cidr', 'lies in no prefix pool');
  return holding;
}

/**
 * Returns the pools that allow this length in one allocation. @throws UcloudError `rule_violated` if pools are large
 * enough but do not allow it
 */
function poolsAllowing(pools: readonly Pool[], { cidr, length = cidr?.length }: RequestedPrefix): readonly Pool[] {
  if (length === undefined) return pools;
  const large = pools.filter(({ value }) => storedPrefix(value.cidr).length <= length);
  const limits = large.map(({ value }) => minAllocationLength(storedPrefix(value.cidr), value));
  if (large.length > 0 && limits.every((limit) => length < limit)) {
    const rule = `must be at least ${Math.min(...limits)}: one request may not take more of the prefix pool`;
    throw fieldError('rule_violated', cidr ? '/cidr' : '/length', cidr ? `has a length that ${rule}` : rule);
  }
  return large.filter((_pool, index) => length >= (limits[index] ?? 0));
}

function usedIn(api: ApiContext, pool: Pool): Prefix[] {
  return [...api.mirror.by(records.prefixes, 'pool').list(pool.id)]
    .map(({ value }) => storedPrefix(value.cidr))
    .sort(comparePrefixes);
}

/** Returns the prefix to allocate and its pool. @throws UcloudError `address_taken`, `rule_violated`, `no_capacity` */
function allocatePrefix(
  api: ApiContext,
  pools: readonly Pool[],
  requested: RequestedPrefix,
): { pool: Pool; space: Prefix } {
  const { cidr, length } = requested;
  for (const pool of cidr ? pools : poolsAllowing(pools, requested)) {
    const used = usedIn(api, pool);
    if (cidr) {
      if (used.some((other) => overlaps(other, cidr))) {
        throw fieldError('address_taken', '/cidr', 'overlaps a prefix that is taken');
      }
      poolsAllowing([pool], requested);
      return { pool, space: cidr };
    }
    const space = firstFree(storedPrefix(pool.value.cidr), length ?? pool.value.default_length, used);
    if (space) return { pool, space };
  }
  const what = length === undefined ? 'a prefix' : `a /${length}`;
  throw fieldError(
    'no_capacity',
    length === undefined ? '/pool' : '/length',
    `no prefix pool has free space for ${what}`,
  );
}

async function createPrefix(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as PrefixBody;
  const requested = readRequestedPrefix(body);
  const id = newId('prefix');
  const at = request.now.toISOString();
  const allocate = () =>
    mutate(api, request, async () => {
      const project = projectOfCreation(api, request.caller, body.project);
      const { pool, space } = allocatePrefix(api, poolsFor(api, project, body, requested), requested);
      const map = api.mirror.get(records.prefixMaps, pool.id);
      if (!map) throw new Error(`the prefix pool ${pool.id} has no map`);
      const record: records.PrefixRecord = {
        id,
        project,
        name: body.name,
        labels: body.labels,
        pool: pool.value.id,
        cidr: formatPrefix(space),
        length: space.length,
        delete_protection: body.delete_protection,
        created_at: at,
        updated_at: at,
      };
      return creation(api, prefixes, record, {
        // The map is removed with its pool, so this condition proves that the pool exists.
        guards: [{ condition: unchanged(map) }],
        writes: [
          rewrite(records.prefixMaps, map, { count: map.value.count + 1 }),
          put(records.uses, `${pool.id}/${id}`, {}),
        ],
        message: `Created ${body.name}, ${record.cidr}.`,
      });
    });
  return api.mutexes.run('prefixes', allocate);
}

async function updatePrefix(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = readPatch<PrefixUpdate>(prefix, request.body as PrefixUpdate);
  return changeObject(api, request, prefixes, (stored) => {
    const next = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
    return replacement(api, request, prefixes, stored, next);
  });
}

async function deletePrefix(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, prefixes, (stored) => {
    return removal(api, request, prefixes, stored, { writes: [removeReference(stored.value.pool, id)] });
  });
}
