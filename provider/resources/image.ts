/** An image. Additions to the derived resource: rules for `source`, and a creation that waits for the import. */
import type { Item } from '../client/item.ts';
import { deriveResource } from '../derive/resource.ts';
import { waitFor } from '../derive/wait-for-state.ts';
import { schemaOf } from '../schema/resources.gen.ts';

interface Status {
  readonly phase: string;
  readonly message?: string;
  readonly step?: string;
  readonly progress?: number;
}
const statusOf = (item: Item) => item.status as Status;

export const image = deriveResource(schemaOf('image'), {
  timeouts: { create: '30m' },
  validate({ config, diagnostics }) {
    const { source, sha256, sha512 } = config;
    if (typeof source !== 'string' || !/^https?:/.test(source)) return;
    const url = URL.canParse(source) ? new URL(source) : undefined;
    if (!url)
      diagnostics.error('The source is not a valid URL', `\`source\` is ${JSON.stringify(source)}.`, ['source']);
    else if (url.username || url.password) {
      diagnostics.error('The source has credentials', 'The URL must not contain a user name or a password.', [
        'source',
      ]);
    }
    if (sha256 === null && sha512 === null) {
      diagnostics.error(
        'The source needs a checksum',
        'Set `sha256` or `sha512`: a source that is a URL requires one of them.',
        ['sha256'],
      );
    }
    if (typeof sha256 === 'string' && typeof sha512 === 'string') {
      diagnostics.error('The source has two checksums', 'A URL has either `sha256` or `sha512`.', ['sha512']);
    }
  },
  waitForState: (item, ctx) =>
    waitFor(ctx, schemaOf('image').path, item, {
      what: `Image "${String(item.name)}" is not available`,
      reached: (now) => statusOf(now).phase === 'available',
      failed: (now) => (statusOf(now).phase === 'error' ? (statusOf(now).message ?? 'The import failed.') : undefined),
      state: (now) => {
        const { phase, message, step, progress } = statusOf(now);
        const done = step ? ` (${step}, ${progress ?? 0} %)` : '';
        return `It is ${phase}${done}${message ? `: ${message}` : ''}.`;
      },
    }),
});
