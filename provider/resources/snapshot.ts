/** A snapshot. Addition to the derived resource: an apply waits until the copy is complete. */
import type { Item } from '../client/item.ts';
import { deriveResource } from '../derive/resource.ts';
import { waitFor } from '../derive/wait-for-state.ts';
import type { components } from '../schema/api.gen.ts';
import { schemaOf } from '../schema/resources.gen.ts';

type Status = components['schemas']['Snapshot']['status'];
const statusOf = (item: Item): Status => item.status as Status;
const { path } = schemaOf('snapshot');

export const snapshot = deriveResource(schemaOf('snapshot'), {
  timeouts: { create: '60m', delete: '20m' },
  waitForState: (item, ctx) =>
    waitFor(ctx, path, item, {
      what: `Snapshot "${String(item.name)}" is not complete`,
      reached: (now) => statusOf(now).phase === 'available',
      failed: (now) =>
        statusOf(now).phase === 'error' ? (statusOf(now).message ?? 'The host could not copy the disks.') : undefined,
      state: (now) => {
        const { phase, message } = statusOf(now);
        return `The snapshot is ${phase}${message ? `: ${message}` : '.'}`;
      },
    }),
});
