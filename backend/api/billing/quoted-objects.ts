/** The quantities of objects that do not exist yet, from a request that describes them: for quotes and for plans. */
import { maxQuotedObjects, type QuotedObjects } from '../../contract/resources/quotes.ts';
import { type Metered, prefixQuantities, vmQuantities, volumeQuantities } from '../../model/billing/meters.ts';
import { QuantitySums } from '../../model/billing/quantity-sums.ts';
import { cloudSettings } from '../../model/placement/pool-records.ts';
import * as records from '../../model/records/index.ts';
import { builtInPool } from '../../model/storage/pool.ts';
import { sizeInBytes } from '../../model/text/sizes.ts';
import type { ApiContext } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';

/** An item of the request: a number of equal objects. */
export interface QuotedItem {
  readonly pointer: string;
  readonly count: number;
  /** The quantities of one object. */
  readonly quantities: readonly Metered[];
}

/**
 * Returns the items of a request.
 * @param at the pointer to the objects in the request
 * @throws UcloudError `rule_violated`, `invalid_reference`
 */
export function quotedItems(
  api: Pick<ApiContext, 'mirror'>,
  { vms, volumes, snapshots, prefixes }: QuotedObjects,
  at = '',
): QuotedItem[] {
  const all = [...vms, ...volumes, ...snapshots, ...prefixes];
  if (all.reduce((total, { count = 1 }) => total + count, 0) > maxQuotedObjects) {
    throw fieldError('rule_violated', at, `must contain at most ${maxQuotedObjects} objects in total`);
  }
  const defaultPool = api.mirror.get(records.settings, cloudSettings)?.value.default_storage_pool ?? builtInPool;
  const poolOf = (pool: string | undefined, standard: string, pointer: string) => {
    if (pool !== undefined && !api.mirror.get(records.storagePools, pool)) {
      const detail = `must be the id of an existing storage pool: there is no ${pool}`;
      throw fieldError('invalid_reference', `${pointer}/pool`, detail);
    }
    return pool ?? standard;
  };
  const itemsOf = <T extends { readonly count?: number }>(
    kind: keyof QuotedObjects,
    list: readonly T[],
    quantities: (each: T, pointer: string) => readonly Metered[],
  ) =>
    list.map((each, index): QuotedItem => {
      const pointer = `${at}/${kind}/${index}`;
      return { pointer, count: each.count ?? 1, quantities: quantities(each, pointer) };
    });
  return [
    ...itemsOf('vms', vms, ({ cpus = 1, memory = '512MiB', disk_size, power_state = 'running' }) => {
      const disk = disk_size === undefined ? 0 : sizeInBytes(disk_size);
      return vmQuantities({ cpus, memory: sizeInBytes(memory), disk_size: disk, power_state });
    }),
    ...itemsOf('volumes', volumes, ({ size, pool }, pointer) =>
      volumeQuantities({ size: sizeInBytes(size), pool: poolOf(pool, defaultPool, pointer) }),
    ),
    ...itemsOf('snapshots', snapshots, ({ size, pool }, pointer) => [
      { meter: 'snapshot', pool: poolOf(pool, builtInPool, pointer), quantity: sizeInBytes(size) },
    ]),
    ...itemsOf('prefixes', prefixes, ({ length }) => prefixQuantities({ length })),
  ];
}

/** Returns the quantities of all objects. @throws UcloudError `rule_violated` */
export function totalOf(items: readonly QuotedItem[], at = ''): QuantitySums {
  const sums = new QuantitySums();
  for (const { count, quantities } of items) sums.add(quantities, count);
  if (sums.items.some(({ quantity }) => !Number.isSafeInteger(quantity))) {
    throw fieldError('rule_violated', at, 'must contain at most 8191 TiB in total');
  }
  return sums;
}
