import type { SettingsUpdate } from '../../contract/resources/settings.ts';
import { limitsOf, type SomeAmounts, showQuota } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, rewrite, unchanged } from '../../store/collection.ts';
import type { ApiContext, Handlers } from '../requests/context.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';

const id = 'cloud';

/** Returns the default quota of new projects, and the guard that it is unchanged. */
export function defaultQuota({ mirror }: ApiContext): {
  readonly quota: SomeAmounts | undefined;
  readonly guard: Guard;
} {
  const stored = mirror.get(records.settings, id);
  const condition = stored ? unchanged(stored) : absent(records.settings, id);
  return { quota: stored?.value.default_quota, guard: { condition } };
}

function show({ mirror }: ApiContext) {
  const stored = mirror.get(records.settings, id);
  const { default_quota, updated_at } = stored?.value ?? {};
  return {
    default_quota: showQuota(default_quota),
    ...(updated_at === undefined ? {} : { updated_at }),
    revision: stored?.revision ?? 0,
  };
}

/** The handlers of settings. */
export const settingsHandlers: Handlers = {
  async settings_get(api) {
    return { status: 200, body: show(api), revision: api.mirror.revision };
  },

  async settings_update(api, request) {
    const { default_quota: asked } = request.body as SettingsUpdate;
    const updated_at = request.now.toISOString();
    return mutate(api, request, () => {
      const stored = api.mirror.get(records.settings, id);
      const { default_quota: before } = stored?.value ?? {};
      const quota = asked === undefined ? before : limitsOf(asked ?? {});
      const next = { updated_at, ...(quota ? { default_quota: quota } : {}) };
      return {
        guards: [defaultQuota(api).guard],
        writes: [stored ? rewrite(records.settings, stored, next) : put(records.settings, id, next)],
        target: id,
        quotaDelta: undefined,
        reason: 'updated',
        message: 'Changed: default_quota.',
        answer: (revision) => ({ status: 200, body: show(api), revision }),
      };
    });
  },
};
