/** An image. Additions to the derived resource: rules for `source`, and a creation that waits for the import. */
import type { Item } from '../client/item.ts';
import { deriveResource } from '../derive/resource.ts';
import { waitFor } from '../derive/wait-for-state.ts';
import { schemaOf } from '../schema/resources.gen.ts';

interface Status {
  readonly phase: string;
  readonly message?: string;
}
const statusOf = (item: Item) => item.status as Status;

export const image = deriveResource(schemaOf('image'), {
  timeouts: { create: '30m' },
  validate({ config, diagnostics }) {
    const { source, sha256 } = config;
    if (typeof source !== 'string' || !/^https?:/.test(source)) return;
    const url = URL.canParse(source) ? new URL(source) : undefined;
    if (!url)
      diagnostics.error('The source is not a valid URL', `\`source\` is ${JSON.stringify(source)}.`, ['source']);
    else if (url.username || url.password) {
      diagnostics.error('The source has credentials', 'The URL must not contain a user name or a password.', [
        'source',
      ]);
    }
    if (sha256 === null) {
      diagnostics.error('The source needs its SHA-256', 'Set `sha256`: a source that is a URL requires it.', [
        'sha256',
      ]);
    }
  },
  waitForState: (item, ctx) =>
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
