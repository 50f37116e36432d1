/** Opens the store that an address names. */
import { UcloudError } from '../contract/errors.ts';
import { openEmbeddedStore } from './embedded.ts';
import type { Store } from './store.ts';

/**
 * `embedded:<path>`, or the path alone: the embedded store in that file; `embedded::memory:` for one that is lost at the
 * end. Rejects with invalid_input if the address is of no known form.
 */
export async function openStore(url: string): Promise<Store> {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(url)?.[1];
  if (scheme === 'embedded') return openEmbeddedStore({ path: url.slice('embedded:'.length) });
  if (scheme === undefined && url !== '') return openEmbeddedStore({ path: url });
  throw new UcloudError('invalid_input', `store address ${url} is not embedded:<path>`);
}
