/** Removes the files of requested deletions, and the records of files that are gone. */
import { setImmediate as immediate } from 'node:timers/promises';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { bytesOfName } from '../model/file/name-text.ts';
import { files } from '../model/records/index.ts';
import { read } from '../store/collection.ts';
import type { Store } from '../store/store.ts';
import { type Directory, isOfEntry, isPlainFile } from './directory.ts';
import { maxBatch, type Recorder } from './recorder.ts';
import type { Work } from './turns.ts';

/** The files that are compared in one step. */
const sliceFiles = 10_000;

interface Removal {
  readonly store: Store;
  readonly logger: Logger;
  readonly recorder: Recorder;
  readonly project: Id<'project'>;
  readonly directory: Directory;
}

/** Removes the files and records of requested deletions. */
export async function* removeDoomed(removal: Removal, doomed: ReadonlyMap<Id<'file'>, Buffer>): Work {
  const { logger, recorder, project, directory } = removal;
  let removed: Id<'file'>[] = [];
  let failed = 0;
  for (const [id, name] of doomed) {
    if (await directory.unlink(name)) removed.push(id);
    else failed++;
    if (removed.length < maxBatch) continue;
    await recorder.commit(project, { remove: removed });
    removed = [];
    yield;
  }
  if (removed.length > 0) await recorder.commit(project, { remove: removed });
  if (failed > 0) logger.warn({ project, files: failed }, 'files that are to be deleted cannot be removed');
}

/** Removes the records of the files that are gone. An item is undefined for a file that needs no look. */
export async function* removeGone(removal: Removal, unseen: Iterable<Id<'file'> | undefined>): Work {
  let batch: Id<'file'>[] = [];
  let compared = 0;
  for (const id of unseen) {
    if (id !== undefined) batch.push(id);
    if (batch.length >= maxBatch) {
      await removeIfGone(removal, batch);
      batch = [];
      yield;
    }
    if (++compared % sliceFiles === 0) {
      await immediate();
      yield;
    }
  }
  await removeIfGone(removal, batch);
}

/**
 * A listing may miss a file that another one replaces meanwhile: on tmpfs and btrfs the new file has another place in the
 * directory. So the name of each file decides.
 */
async function removeIfGone(removal: Removal, unseen: readonly Id<'file'>[]): Promise<void> {
  const { store, recorder, project, directory } = removal;
  const gone: Id<'file'>[] = [];
  for (const id of unseen) {
    const record = await read(store, files, id);
    const stats =
      record &&
      (await directory.lstat(bytesOfName(record.value.name)).catch((error: unknown) => {
        if (isOfEntry(error)) return 'unknown' as const;
        throw error;
      }));
    if (stats === 'unknown') continue;
    if (!stats || !isPlainFile(stats)) gone.push(id);
  }
  if (gone.length > 0) await recorder.commit(project, { remove: gone });
}
