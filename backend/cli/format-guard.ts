/**
 * Protects a database in a newer format (docs/adr/0014). This version does not start with it, and stops when the format
 * changes. Running VMs continue.
 */
import type { Component, Logger } from '../model/component.ts';
import { currentFormat, formats, storeFormat } from '../model/records/index.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';

/**
 * Checks the format of the database. Later, `onNewer` is called once if the format becomes too new. @throws Error if
 * the format is too new @throws UcloudError `store_unavailable`
 */
export async function guardFormat(store: Store, logger: Logger, onNewer: (error: Error) => void): Promise<Component> {
  const mirror = await openMirror(store, { prefixes: [formats.prefix], kinds: [formats], logger });
  const newer = (): Error | undefined => {
    const reader = mirror.get(formats, storeFormat)?.value.reader ?? 1;
    if (reader <= currentFormat) return undefined;
    const what = `the database has records of format ${reader}; this version understands ${currentFormat}`;
    return new Error(`${what}: upgrade it`);
  };
  const stop = mirror.subscribe(() => {
    const error = newer();
    if (error === undefined) return;
    stop();
    onNewer(error);
  });
  const error = newer();
  if (error) {
    await mirror.close();
    throw error;
  }
  return mirror;
}
