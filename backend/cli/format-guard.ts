/**
 * Keeps this version away from a database that holds what it would get wrong (docs/adr/0014): it does not start there, and
 * stops when that comes to be so. Running VMs are not touched.
 */
import type { Component, Logger } from '../model/component.ts';
import { currentFormat, formats } from '../model/records/index.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';

const id = 'store';

/**
 * Rejects if the database is not for this version, and with store_unavailable. Afterwards
 * `onNewer` is called, once, if it ceases to be.
 */
export async function guardFormat(store: Store, logger: Logger, onNewer: (error: Error) => void): Promise<Component> {
  const mirror = await openMirror(store, { prefixes: [formats.prefix], kinds: [formats], logger });
  const newer = (): Error | undefined => {
    const reader = mirror.get(formats, id)?.value.reader ?? 1;
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
