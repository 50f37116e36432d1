/**
 * The removal of deleted volumes, snapshots and attachments.
 *
 * An attachment goes when its host has no report on it: the guest then does not have the volume, and the agent gives it to
 * no guest, because it requires the attachment without `deleted_at`. The same holds after the removal of its VM. A volume or a
 * snapshot goes when it has no placement: the host has removed the data, or there never was any.
 */
import type { TSchema } from '@sinclair/typebox';
import type { Id } from '../../contract/fields.ts';
import { newEvent } from '../../model/events.ts';
import * as records from '../../model/records/index.ts';
import { poolOf } from '../../model/storage/pool.ts';
import { volumeSlotKey } from '../../model/vm/volumes.ts';
import { absent, put, remove, unchanged } from '../../store/collection.ts';
import { isChangeOf } from '../../store/mirror.ts';
import type { RecordKind } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import { releaseName, removeReference } from '../transaction/declarations.ts';
import type { Removal } from './collector.ts';
import { isTornDown } from './vm-removal.ts';

/** Returns the writes that remove an attachment with everything that it holds. */
const leftovers = ({ id, vm, volume, slot }: records.VolumeAttachmentRecord): Write[] => [
  remove(records.volumeAttachments, id),
  remove(records.volumeSlots, volumeSlotKey(vm, slot)),
  remove(records.volumeHolders, volume),
  remove(records.attachmentReports, id),
];

/** The removal of attachments, for the collector. */
export const attachmentRemoval: Removal = {
  noun: 'attachment',
  *initial({ mirror }) {
    for (const { id } of mirror.list(records.volumeAttachments)) yield id;
  },
  *affected(change, { mirror }) {
    if (isChangeOf(records.volumeAttachments, change) || isChangeOf(records.attachmentReports, change)) yield change.id;
    if (!isChangeOf(records.vms, change) && !isChangeOf(records.schedules, change)) return;
    for (const { id } of mirror.by(records.volumeAttachments, 'vm').list(change.id)) yield id;
  },
  isDue({ mirror }, id) {
    const attachment = mirror.get(records.volumeAttachments, id)?.value;
    if (attachment === undefined || mirror.get(records.attachmentReports, id)) return false;
    return attachment.deleted_at !== undefined || isTornDown(mirror, attachment.vm);
  },
  async remove(api, id) {
    const stored = api.mirror.get(records.volumeAttachments, id);
    if (stored === undefined) return true;
    const { vm, volume } = stored.value;
    const message = `Detached ${volume} from ${vm}.`;
    const { ok } = await api.store.commit({
      require: [unchanged(stored), absent(records.attachmentReports, id)],
      write: [
        ...leftovers(stored.value),
        put(records.events, ...newEvent(new Date(), stored.value, { severity: 'info', reason: 'detached', message })),
      ],
    });
    return ok;
  },
};

/** The fields of a declaration that a removal needs. */
interface Declared {
  readonly project: Id<'project'>;
  readonly id: string;
  readonly name: string;
  readonly deleted_at?: string;
}

/** The kinds of the records of objects with data on a host, by their ids. */
interface DataKinds<T extends Declared> {
  readonly declared: RecordKind<TSchema & { static: T }>;
  readonly placements: RecordKind<TSchema & { static: { host?: Id<'host'> } }>;
  readonly reports: RecordKind;
  /** Returns the writes that remove the references of the object. */
  readonly references?: (value: T) => readonly Write[];
}

/** Returns the removal of objects with data on a host, for the collector. */
const dataRemoval = <T extends Declared>(
  noun: 'volume' | 'snapshot',
  { declared, placements, reports, references = () => [] }: DataKinds<T>,
): Removal => ({
  noun,
  *initial({ mirror }) {
    for (const { id } of mirror.list(declared)) yield id;
  },
  affected: (change) => (isChangeOf(declared, change) || isChangeOf(placements, change) ? [change.id] : []),
  isDue: ({ mirror }, id) =>
    mirror.get(declared, id)?.value.deleted_at !== undefined && mirror.get(placements, id)?.value.host === undefined,
  async remove(api, id) {
    const stored = api.mirror.get(declared, id);
    if (stored === undefined) return true;
    const placement = api.mirror.get(placements, id);
    const { project, name } = stored.value;
    const { ok } = await api.store.commit({
      require: [unchanged(stored), placement === undefined ? absent(placements, id) : unchanged(placement)],
      write: [
        remove(declared, id),
        releaseName(noun, project, name),
        ...references(stored.value),
        remove(placements, id),
        remove(reports, id),
        put(
          records.events,
          ...newEvent(new Date(), stored.value, { severity: 'info', reason: 'deleted', message: `${name} is gone.` }),
        ),
      ],
    });
    return ok;
  },
});

/** The removal of volumes. */
export const volumeRemoval = dataRemoval('volume', {
  declared: records.volumes,
  placements: records.volumePlacements,
  reports: records.volumeReports,
  references: (volume: records.VolumeRecord) => [removeReference(poolOf(volume), volume.id)],
});

/** The removal of snapshots. */
export const snapshotRemoval = dataRemoval('snapshot', {
  declared: records.snapshots,
  placements: records.snapshotPlacements,
  reports: records.snapshotReports,
  references: ({ id, pool }: records.SnapshotRecord) => (pool === undefined ? [] : [removeReference(pool, id)]),
});
