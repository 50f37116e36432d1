/**
 * The deletion of snapshots that the API has made for one new volume or image, and of the parts of snapshots. A snapshot goes
 * when the object has its data, when the snapshot could not be made, or when the object is gone. These conditions hold for
 * ever, so any number of collectors may act on them. The host then removes the data, as for each deleted snapshot.
 */
import type { Id } from '../../contract/fields.ts';
import { newEvent } from '../../model/events.ts';
import { idFrom, isIdOf } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, rewrite, unchanged } from '../../store/collection.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { Commit } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';
import type { Removal } from './collector.ts';

/** The end of a purpose, with the conditions and writes of its commit. */
interface End extends Required<Pick<Commit, 'require' | 'write'>> {
  readonly message: string;
}

/** Returns the end of the purpose of a snapshot that was made for a volume; undefined while the volume needs it. */
function endOfVolume(
  { mirror }: ApiContext,
  snapshot: records.SnapshotRecord,
  id: Id<'volume'>,
  now: Date,
): End | undefined {
  const volume = mirror.get(records.volumes, id);
  if (volume === undefined) return { require: [absent(records.volumes, id)], write: [], message: `${id} is gone.` };
  const same = [unchanged(volume)];
  if (volume.value.deleted_at !== undefined) return { require: same, write: [], message: `${id} is being deleted.` };
  if (mirror.get(records.volumeReports, id) !== undefined) {
    return { require: same, write: [], message: `${id} has the data.` };
  }
  const report = mirror.get(records.snapshotReports, snapshot.id)?.value;
  if (report?.phase !== 'error') return undefined;
  const message = `The snapshot of ${snapshot.volume} could not be made. ${report.message ?? ''}`.trim();
  const next = { ...volume.value, source_error: { message }, updated_at: now.toISOString() };
  const event = newEvent(now, volume.value, { severity: 'error', reason: 'source_failed', message });
  return { require: same, write: [rewrite(records.volumes, volume, next), put(records.events, ...event)], message };
}

/** Returns the end of the purpose of a snapshot that was made for an image; undefined while the import needs it. */
function endOfImage({ mirror }: ApiContext, id: string): End | undefined {
  if (mirror.get(records.images, id) === undefined) {
    return { require: [absent(records.images, id)], write: [], message: `${id} is gone.` };
  }
  const phase = mirror.get(records.imageReports, id)?.value.phase;
  if (phase !== 'available' && phase !== 'error') return undefined;
  return { require: [], write: [], message: `The import of ${id} has ended.` };
}

/** Returns the end of a part; undefined while the snapshot needs it. A deleted snapshot may be in use, until it is gone. */
function endOfPart({ mirror }: ApiContext, id: string): End | undefined {
  if (mirror.get(records.snapshots, id) === undefined) {
    return { require: [absent(records.snapshots, id)], write: [], message: `${id} is gone.` };
  }
  if (mirror.get(records.snapshotReports, id)?.value.phase !== 'error') return undefined;
  return { require: [], write: [], message: `${id} could not be made.` };
}

function endOf(api: ApiContext, id: string, now: Date): End | undefined {
  const snapshot = api.mirror.get(records.snapshots, id)?.value;
  if (snapshot?.made_for === undefined || snapshot.deleted_at !== undefined) return undefined;
  const target = snapshot.made_for;
  if (isIdOf('snapshot', target)) return endOfPart(api, target);
  return isIdOf('volume', target) ? endOfVolume(api, snapshot, idFrom('volume', target), now) : endOfImage(api, target);
}

/** The deletion of these snapshots, for the collector. */
export const madeSnapshotRemoval: Removal = {
  noun: 'snapshot',
  *initial({ mirror }) {
    for (const { id, value } of mirror.list(records.snapshots)) if (value.made_for !== undefined) yield id;
  },
  *affected(change, { mirror }) {
    if (isChangeOf(records.snapshots, change) || isChangeOf(records.snapshotReports, change)) yield change.id;
    const isTarget =
      isChangeOf(records.snapshots, change) ||
      isChangeOf(records.snapshotReports, change) ||
      isChangeOf(records.volumes, change) ||
      isChangeOf(records.volumeReports, change) ||
      isChangeOf(records.images, change) ||
      isChangeOf(records.imageReports, change);
    if (!isTarget) return;
    for (const { id } of mirror.by(records.snapshots, 'made_for').list(change.id)) yield id;
  },
  isDue: (api, id) => endOf(api, id, new Date()) !== undefined,
  async remove(api, id) {
    const now = new Date();
    const stored = api.mirror.get(records.snapshots, id);
    const end = endOf(api, id, now);
    if (stored === undefined || end === undefined) return true;
    const at = now.toISOString();
    const event = { severity: 'info', reason: 'deletion_requested', message: `It is removed: ${end.message}` } as const;
    const { ok } = await api.store.commit({
      require: [unchanged(stored), ...end.require],
      write: [
        rewrite(records.snapshots, stored, { ...stored.value, deleted_at: at, updated_at: at }),
        put(records.events, ...newEvent(now, stored.value, event)),
        ...end.write,
      ],
    });
    return ok;
  },
};
