import type { Id } from '../../contract/fields.ts';
import type { SettingsUpdate } from '../../contract/resources/settings.ts';
import { cloudSettings } from '../../model/placement/pool-records.ts';
import { limitsOf, type SomeAmounts, showQuota } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { builtInPool } from '../../model/storage/pool.ts';
import { absent, present, put, rewrite, unchanged } from '../../store/collection.ts';
import type { ApiContext, Handlers } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';

const id = cloudSettings;

/** Returns the guard that the settings are unchanged. */
function settingsGuard({ mirror }: ApiContext): Guard {
  const stored = mirror.get(records.settings, id);
  return { condition: stored ? unchanged(stored) : absent(records.settings, id) };
}

/** Returns the default quota of new projects, and the guard that it is unchanged. */
export const defaultQuota = (api: ApiContext): { readonly quota: SomeAmounts | undefined; readonly guard: Guard } => ({
  quota: api.mirror.get(records.settings, id)?.value.default_quota,
  guard: settingsGuard(api),
});

/** Returns the storage pool of new volumes that name none. */
export const defaultPool = ({ mirror }: ApiContext): Id<'storage_pool'> =>
  mirror.get(records.settings, id)?.value.default_storage_pool ?? builtInPool;

/** Returns the guard that the default pool is unchanged. */
export const defaultPoolGuard = settingsGuard;

/** Returns the labels of hosts that all users may name in selectors, and the guard that the list is unchanged. */
export const selectableHostLabels = (api: ApiContext): { readonly keys: readonly string[]; readonly guard: Guard } => ({
  keys: api.mirror.get(records.settings, id)?.value.selectable_host_labels ?? [],
  guard: settingsGuard(api),
});

function show(api: ApiContext) {
  const stored = api.mirror.get(records.settings, id);
  const { default_quota, placement_strategy, selectable_host_labels, billing, updated_at } = stored?.value ?? {};
  return {
    default_quota: showQuota(default_quota),
    default_storage_pool: defaultPool(api),
    placement_strategy: placement_strategy ?? 'spread',
    selectable_host_labels: selectable_host_labels ?? [],
    billing: billing ?? 'optional',
    ...(updated_at === undefined ? {} : { updated_at }),
    revision: stored?.revision ?? 0,
  };
}

/** The settings that a record contains as the request states them. */
type PlainSettings = Pick<SettingsUpdate, 'placement_strategy' | 'selectable_host_labels' | 'billing'>;

/** Returns the settings without those that a request sets to their default. */
const withoutNull = ({ placement_strategy: strategy, selectable_host_labels: labels, billing }: PlainSettings) => ({
  ...(strategy != null && { placement_strategy: strategy }),
  ...(labels != null && { selectable_host_labels: labels }),
  ...(billing != null && { billing }),
});

/** The handlers of settings. */
export const settingsHandlers: Handlers = {
  async settings_get(api) {
    return { status: 200, body: show(api), revision: api.mirror.revision };
  },

  async settings_update(api, request) {
    const { default_quota: asked, default_storage_pool: askedPool, ...others } = request.body as SettingsUpdate;
    const updated_at = request.now.toISOString();
    return mutate(api, request, () => {
      const stored = api.mirror.get(records.settings, id);
      const { default_quota: before, default_storage_pool: poolBefore, ...othersBefore } = stored?.value ?? {};
      const quota = asked === undefined ? before : limitsOf(asked ?? {});
      const pool = askedPool === undefined ? poolBefore : (askedPool ?? undefined);
      if (pool !== undefined && !api.mirror.get(records.storagePools, pool)) {
        const rule = `must be the id of an existing storage pool: there is no ${pool}`;
        throw fieldError('invalid_reference', '/default_storage_pool', rule);
      }
      const next = {
        ...withoutNull({ ...othersBefore, ...others }),
        updated_at,
        ...(quota ? { default_quota: quota } : {}),
        ...(pool === undefined ? {} : { default_storage_pool: pool }),
      };
      return {
        guards: [
          settingsGuard(api),
          ...(pool === undefined ? [] : [{ condition: present(records.storagePools, pool) }]),
        ],
        writes: [stored ? rewrite(records.settings, stored, next) : put(records.settings, id, next)],
        target: id,
        quotaDelta: undefined,
        reason: 'updated',
        message: `Changed: ${Object.keys(request.body as object).join(', ')}.`,
        answer: (revision) => ({ status: 200, body: show(api), revision }),
      };
    });
  },
};
