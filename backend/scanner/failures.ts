/** How an import can end badly. The messages are for the owner of the image. */

/** The source will not become an image, however often it is tried. */
export class ImageRejected extends Error {
  override readonly name = 'ImageRejected';
}

/** There is no file of the name. It is looked for from time to time, as files may come after their declaration. */
export class FileMissing extends Error {
  override readonly name = 'FileMissing';
}

/** It did not work now and may work later. */
export class SourceUnavailable extends Error {
  override readonly name = 'SourceUnavailable';
}

export const noRoom = (): SourceUnavailable =>
  new SourceUnavailable('There is not enough free space for it where images are kept.');
