/** Fresh stores for tests. See both-stores.ts for tests that run on either driver. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type EmbeddedStore, openEmbeddedStore } from '../../backend/store/embedded.ts';

/** A directory of the test's own, removed with it. */
export function temporaryDirectory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'ucloud-test-'));
  // Again where a process of the test that is ending, such as gpg's agent, still writes into it.
  t.teardown(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

/**
 * An empty embedded store on a file, closed with the test. `session()` gives further handles, such as one for each
 * component under test; closing one is how a component dies without a word.
 */
export async function withStore(t: Test): Promise<EmbeddedStore> {
  const directory = temporaryDirectory(t);
  const store = await openEmbeddedStore({ path: join(directory, 'store.db') });
  t.teardown(() => store.close());
  return store;
}
