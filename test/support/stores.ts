/** New stores for tests. For tests on both drivers see both-stores.ts. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type EmbeddedStore, openEmbeddedStore } from '../../backend/store/embedded.ts';

/** Creates a temporary directory, which the test removes at its end. */
export function temporaryDirectory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'ucloud-test-'));
  // The removal retries, because a process that is ending, such as gpg's agent, may still write into the directory.
  t.teardown(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

/**
 * Opens an empty embedded store in a file; the test closes it. `session()` returns further handles, such as one for
 * each tested component. Closing a handle simulates the crash of its component.
 */
export async function withStore(t: Test): Promise<EmbeddedStore> {
  const directory = temporaryDirectory(t);
  const store = await openEmbeddedStore({ path: join(directory, 'store.db') });
  t.teardown(() => store.close());
  return store;
}
