/** How an import can end badly. The messages are for the owner of the image. */

/** The source will not become an image, however often it is tried. */
export class ImageRejected extends Error {
  override readonly name = 'ImageRejected';
}

/** It did not work now and may work later. */
export class SourceUnavailable extends Error {
  override readonly name = 'SourceUnavailable';
}
