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
  snapshot_part,
  image,
}: Pick<VolumeRecord, 'snapshot' | 'snapshot_disk' | 'snapshot_part' | 'image'>): FillSource | undefined {
  if (snapshot !== undefined) return { snapshot: snapshot_part ?? snapshot, disk: snapshot_disk };
  return image === undefined ? undefined : { image };
}

/** Returns the snapshot with the data of a new volume or image; undefined if the data does not come from a snapshot. */
export const snapshotWithData = ({
  snapshot,
  snapshot_part,
}: Pick<VolumeRecord | ImageRecord, 'snapshot' | 'snapshot_part'>): Id<'snapshot'> | undefined =>
  snapshot_part ?? snapshot;

/** The reason why an image cannot fill a volume now, as a constant word and a text. */
export interface ImageWait {
  readonly reason: 'image_gone' | 'image_not_available' | 'volume_too_small';
  readonly message: string;
}

/** Tells whether volumes of the project may get their content from the image: it is its own, public or shared with it. */
export const mayFill = (
  project: Id<'project'>,
  image: Pick<ImageRecord, 'project' | 'visibility' | 'shared_with'>,
): boolean =>
  image.project === project || image.visibility === 'public' || image.shared_with?.includes(project) === true;

/**
 * Returns why the image cannot fill a volume of this size; undefined if it can. An image that the project may no longer use
 * is like a deleted one.
 * @param project the project of the volume
 * @param size the granted or declared size of the volume, in bytes
 */
export function imageWait(
  project: Id<'project'>,
  image: ImageRecord | undefined,
  report: ImageReportRecord | undefined,
  size: number,
): ImageWait | undefined {
  if (image === undefined || !mayFill(project, image)) {
    const message = 'The image was deleted or withdrawn before the volume had its content. Delete the volume.';
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
