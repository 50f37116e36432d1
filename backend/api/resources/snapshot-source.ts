/** The disk of a snapshot as the source of a new object. */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import * as records from '../../model/records/index.ts';
import { unchanged } from '../../store/collection.ts';
import type { ApiContext } from '../requests/context.ts';
import { fieldError } from '../requests/validation.ts';
import type { Guard } from '../transaction/mutate.ts';

/** A disk of a complete snapshot. */
export interface SnapshotSource {
  /** The snapshot that has the data of the disk: that of the request, or a part of it. */
  readonly snapshot: records.SnapshotRecord;
  /** `root`, or the id of a volume. */
  readonly name: string;
  readonly disk: records.SnapshotRecord['disks'][number];
  readonly guards: readonly Guard[];
}

/** Checks that the snapshot is no part of another object, which removes it. @throws UcloudError `invalid_state` */
export function checkOwn({ id, made_for }: records.SnapshotRecord): void {
  if (made_for === undefined) return;
  const detail = `was made for ${made_for} only, and is removed by itself: create a snapshot of the volume`;
  throw new UcloudError('invalid_state', `${id} ${detail}`, { errors: [{ pointer: '/snapshot', detail }] });
}

/**
 * Finds the disk. The pointers of the errors are `/snapshot` and `/snapshot_disk`.
 * @throws UcloudError `invalid_reference`, `being_deleted`, `rule_violated`; `invalid_state` without a complete copy
 */
export function snapshotSource(
  { mirror }: ApiContext,
  project: Id<'project'>,
  id: Id<'snapshot'>,
  asked: string | undefined,
): SnapshotSource {
  const stored = mirror.get(records.snapshots, id);
  if (stored?.value.project !== project) {
    const detail = `must be the id of an existing snapshot of this project: there is no ${id}`;
    throw fieldError('invalid_reference', '/snapshot', detail);
  }
  const { deleted_at, disks } = stored.value;
  checkOwn(stored.value);
  if (deleted_at !== undefined) throw new UcloudError('being_deleted', `${id} is being deleted (since ${deleted_at})`);
  const names = disks.map(({ volume }) => volume ?? 'root');
  const name = asked ?? (names.length === 1 ? names[0] : undefined);
  const disk = disks.find(({ volume }) => (volume ?? 'root') === name);
  if (name === undefined || disk === undefined) {
    throw fieldError('rule_violated', '/snapshot_disk', `must be a disk of the snapshot: ${names.join(', ')}`);
  }
  const report = mirror.get(records.snapshotReports, id);
  if (report?.value.phase !== 'available') {
    const detail = 'is no complete copy yet: wait until its phase is available';
    throw new UcloudError('invalid_state', `${id} ${detail}`, { errors: [{ pointer: '/snapshot', detail }] });
  }
  const guards = [{ condition: unchanged(stored) }, { condition: unchanged(report) }];
  if (disk.copy === undefined) return { snapshot: stored.value, name, disk, guards };
  const part = mirror.get(records.snapshots, disk.copy);
  if (part === undefined) throw new Error(`${id} has no part ${disk.copy}`);
  return { snapshot: part.value, name, disk, guards: [...guards, { condition: unchanged(part) }] };
}
