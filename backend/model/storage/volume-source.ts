/** The first data of a volume. Pure. */
import type { Id } from '../../contract/fields.ts';
import type { ImageRecord, ImageReportRecord, VolumeRecord } from '../records/index.ts';
import { formatSize, roundUpToMiB } from '../text/sizes.ts';

/** The origin of a volume's first data: a disk of a snapshot (`root`, or the id of a volume), or an image. */
export type FillSource = SnapshotSource | { readonly image: Id<'image'> };

/** A disk of a snapshot: `disk` is `root`, or the id of a volume. */
export interface SnapshotSource {
  readonly snapshot: Id<'snapshot'>;
  readonly disk: string;
}

/** Returns the source of the volume; undefined for a volume that begins empty. */
export function sourceOf({
  snapshot,
  snapshot_disk = '',
  image,
}: Pick<VolumeRecord, 'snapshot' | 'snapshot_disk' | 'image'>): FillSource | undefined {
  if (snapshot !== undefined) return { snapshot, disk: snapshot_disk };
  return image === undefined ? undefined : { image };
}

/** The reason why an image cannot fill a volume now, as a constant word and a text. */
export interface ImageWait {
  readonly reason: 'image_gone' | 'image_not_available' | 'volume_too_small';
  readonly message: string;
}

/**
 * Returns why the image cannot fill a volume of this size; undefined if it can.
 * @param size the granted or declared size of the volume, in bytes
 */
export function imageWait(
  image: ImageRecord | undefined,
  report: ImageReportRecord | undefined,
  size: number,
): ImageWait | undefined {
  if (image === undefined) {
    const message = 'The image was deleted before the volume had its content. Delete the volume.';
    return { reason: 'image_gone', message };
  }
  const reason = 'image_not_available';
  if (report?.phase === 'error') {
    return { reason, message: `The image cannot be used. ${report.message ?? 'Its import failed.'}` };
  }
  if (report?.phase !== 'available') return { reason, message: 'The volume waits for the import of its image.' };
  if (report.size === undefined || size >= report.size) return undefined;
  const least = formatSize(roundUpToMiB(report.size));
  return { reason: 'volume_too_small', message: `The volume must grow to the size of its image, ${least}.` };
}
