/** An image can be used once the image scanner has checked and imported its source: creation waits for that. */
import type { Item } from '../client/client.ts';
import { deriveResource } from '../derive/resource.ts';
import { waitFor } from '../derive/settle.ts';
import { schemaOf } from './schema.gen.ts';

interface Status {
  readonly phase: string;
  readonly message?: string;
}
const statusOf = (item: Item) => item.status as Status;

export const image = deriveResource(schemaOf('image'), {
  timeouts: { create: '30m' },
  settle: (item, ctx) =>
    waitFor(ctx, schemaOf('image').path, item, {
      what: `Image "${String(item.name)}" is not available`,
      reached: (now) => statusOf(now).phase === 'available',
      failed: (now) => (statusOf(now).phase === 'error' ? (statusOf(now).message ?? 'The import failed.') : undefined),
      state: (now) => {
        const { phase, message } = statusOf(now);
        return `It is ${phase}${message ? `: ${message}` : ''}.`;
      },
    }),
});
