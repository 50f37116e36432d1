/** The choice of an image from a family, and the replacements of deprecated images. */

/** The fields of an image that the choice depends on. */
export interface FamilyImage {
  readonly id: string;
  readonly created_at: string;
  readonly deprecated_at?: string;
}

/** Tells whether the image is deprecated at this time. */
export const isDeprecated = ({ deprecated_at }: Pick<FamilyImage, 'deprecated_at'>, now: Date): boolean =>
  deprecated_at !== undefined && Date.parse(deprecated_at) <= now.getTime();

/**
 * Returns the newest image that is not deprecated. The id decides between images of the same time, so that all servers
 * choose the same one. Undefined if there is no such image.
 */
export function newestOf<I extends FamilyImage>(images: Iterable<I>, now: Date): I | undefined {
  let newest: I | undefined;
  for (const image of images) {
    if (isDeprecated(image, now)) continue;
    const difference = newest === undefined ? 1 : Date.parse(image.created_at) - Date.parse(newest.created_at);
    if (newest === undefined || difference > 0 || (difference === 0 && image.id > newest.id)) newest = image;
  }
  return newest;
}

/** The images that replace an image, one after the other, or the fault of this chain. */
export type Replacements<I> = { readonly chain: readonly I[] } | { readonly fault: 'circle' | 'too long' };

/**
 * Follows the replacements of an image.
 * @param id the image that gets the replacement `first`
 * @param find returns an image; undefined if there is none, which ends the chain
 * @param max the maximum number of images in the chain
 */
export function replacementsOf<I extends { readonly id: string; readonly replaced_by?: string }>(
  id: string,
  first: I,
  find: (id: string) => I | undefined,
  max: number,
): Replacements<I> {
  const chain: I[] = [];
  for (let next: I | undefined = first; next !== undefined; ) {
    if (next.id === id) return { fault: 'circle' };
    if (chain.length === max) return { fault: 'too long' };
    chain.push(next);
    next = next.replaced_by === undefined ? undefined : find(next.replaced_by);
  }
  return { chain };
}
