/** The volumes of a VM: the keys of their slots, and the next steps of the agent for them. Pure. */
import type { Id } from '../../contract/fields.ts';
import { maxVolumes } from '../../contract/resources/volume-attachments.ts';
import type {
  AttachmentReportRecord,
  VolumeAttachmentRecord,
  VolumePlacementRecord,
  VolumeRecord,
  VolumeReportRecord,
} from '../records/index.ts';
import { isNetworkPool, type PoolSpec } from '../storage/pool.ts';
import { sourceOf } from '../storage/volume-source.ts';

/** Returns the id of the record of a slot. */
export const volumeSlotKey = (vm: Id<'vm'>, slot: number): string => `${vm}/${String(slot).padStart(2, '0')}`;

/** The slot of a root volume. It follows those of the other volumes. */
export const rootSlot = maxVolumes;

/** A volume for a guest. */
export interface VolumeSpec {
  readonly id: Id<'volume'>;
  /** The host of the guest. */
  readonly host: Id<'host'>;
  readonly pool: PoolSpec;
  /** The slot of the VM, from 0. */
  readonly slot: number;
  /** The VM boots from the volume. */
  readonly root?: true;
  /** Bytes. */
  readonly size: number;
  /** Operations per second; 0 for no limit. */
  readonly max_iops: number;
  /** Bytes per second; 0 for no limit. */
  readonly max_throughput: number;
  /** A host has reported the data of the volume, so it must be there. */
  readonly created: boolean;
}

/** The volumes of a guest after an attempt to set them. */
export interface VolumeOutcome {
  /** The volumes that the guest has, including those that it has not released yet. */
  readonly present: readonly Id<'volume'>[];
  /** The errors by volume. The other volumes are as they should be. */
  readonly faults: ReadonlyMap<Id<'volume'>, unknown>;
}

/** A sentence for each volume that a guest uses, or may use; undefined for volumes that it does not use. */
export type VolumeUses = ReadonlyMap<Id<'volume'>, string | undefined>;

/** An attachment with the records that a decision depends on. */
export interface AttachmentFacts {
  readonly attachment: VolumeAttachmentRecord;
  readonly volume: VolumeRecord | undefined;
  readonly placement: VolumePlacementRecord | undefined;
  readonly report: AttachmentReportRecord | undefined;
  /** The pool of the volume; undefined if it is not known. */
  readonly pool: PoolSpec | undefined;
  /** The report on the data of the volume. */
  readonly data: VolumeReportRecord | undefined;
}

const mebibyte = 1024 ** 2;

/**
 * Returns the volume for the guest on this host; undefined if the guest must not have it, or not yet. A running guest
 * keeps a volume that is being detached until it ends, unless the volume has `force_detach`.
 */
export function volumeSpec(
  { attachment, volume, placement, report, data, pool }: AttachmentFacts,
  host: Id<'host'>,
): VolumeSpec | undefined {
  if (volume === undefined || volume.deleted_at !== undefined) return undefined;
  const keeps = report !== undefined && !volume.force_detach;
  if (attachment.deleted_at !== undefined && !keeps) return undefined;
  if (placement?.host !== host || pool === undefined) return undefined;
  const { id, size, max_iops, max_throughput } = volume;
  // A volume has at most its granted size, so that the volumes of a host fit into its space.
  const granted = Math.min(size, placement.size);
  const created = data?.phase === 'available' && (data.host === host || isNetworkPool(pool.settings));
  // The host first copies the data of the snapshot or image.
  if (sourceOf(volume) !== undefined && !created) return undefined;
  return {
    id,
    host,
    pool,
    slot: attachment.slot,
    ...(attachment.root && { root: true }),
    size: granted,
    max_iops,
    max_throughput: max_throughput * mebibyte,
    created,
  };
}
