/** The failures of an import. The messages are for the owner of the image. */

/** The source cannot become an image. Further attempts would fail too. */
export class ImageRejected extends Error {
  override readonly name = 'ImageRejected';
}

/**
 * There is no file with the name. The scanner checks again later, because a user may declare an image before its file.
 */
export class FileMissing extends Error {
  override readonly name = 'FileMissing';
}

/** The import failed, and a later attempt may succeed. */
export class SourceUnavailable extends Error {
  override readonly name = 'SourceUnavailable';
}

/** Returns the failure for a full image store. */
export const notEnoughSpace = (): SourceUnavailable =>
  new SourceUnavailable('The image store has not enough free space for the image.');

/** The source has not begun to answer, because it has other work. Such an attempt does not count. */
export class SourceBusy extends SourceUnavailable {}
