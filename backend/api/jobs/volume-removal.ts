/**
 * The removal of deleted volumes and attachments.
 *
 * An attachment goes when its host has no report on it: the guest then does not have the volume, and the agent gives it to
 * no guest, because it requires the attachment without `deleted_at`. The same holds after the removal of its VM. A volume goes when it has no placement: the host has
 * removed the data, or there never was any.
 */
import { newEvent } from '../../model/events.ts';
import * as records from '../../model/records/index.ts';
import { poolOf } from '../../model/storage/pool.ts';
import { volumeSlotKey } from '../../model/vm/volumes.ts';
import { absent, put, remove, unchanged } from '../../store/collection.ts';
import { isChangeOf } from '../../store/mirror.ts';
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

/** The removal of volumes, for the collector. */
export const volumeRemoval: Removal = {
  noun: 'volume',
  *initial({ mirror }) {
    for (const { id } of mirror.list(records.volumes)) yield id;
  },
  affected: (change) =>
    isChangeOf(records.volumes, change) || isChangeOf(records.volumePlacements, change) ? [change.id] : [],
  isDue: ({ mirror }, id) =>
    mirror.get(records.volumes, id)?.value.deleted_at !== undefined &&
    mirror.get(records.volumePlacements, id)?.value.host === undefined,
  async remove(api, id) {
    const stored = api.mirror.get(records.volumes, id);
    if (stored === undefined) return true;
    const placement = api.mirror.get(records.volumePlacements, id);
    const { project, name } = stored.value;
    const { ok } = await api.store.commit({
      require: [
        unchanged(stored),
        placement === undefined ? absent(records.volumePlacements, id) : unchanged(placement),
      ],
      write: [
        remove(records.volumes, id),
        releaseName('volume', project, name),
        removeReference(poolOf(stored.value), id),
        remove(records.volumePlacements, id),
        remove(records.volumeReports, id),
        put(
          records.events,
          ...newEvent(new Date(), stored.value, { severity: 'info', reason: 'deleted', message: `${name} is gone.` }),
        ),
      ],
    });
    return ok;
  },
};
