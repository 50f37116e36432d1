/** The warning of `ucloud vm create` about a deprecated image. */
import type { Image } from '../contract/resources/images.ts';
import { isDeprecated } from '../model/image/families.ts';
import { call } from './client.ts';
import { tell } from './standard-output.ts';

const readImage = async (id: string): Promise<Image> =>
  (await call({ method: 'GET', path: `/v1/images/${encodeURIComponent(id)}` })) as Image;

/**
 * Warns if the image is deprecated. The warning names its replacement, but not further ones. An image that cannot be read
 * gives no warning, because the creation reports the reason.
 */
export async function warnOfDeprecatedImage(id: unknown): Promise<void> {
  if (typeof id !== 'string') return;
  const image = await readImage(id).catch(() => undefined);
  if (!image || !isDeprecated(image, new Date())) return;
  const { name, deprecated_at, replaced_by } = image;
  const other = replaced_by && (await readImage(replaced_by).catch(() => undefined));
  const advice = other ? ` Use ${other.name} (${other.id}) instead.` : '';
  tell(`Warning: the image ${name} is deprecated since ${deprecated_at}.${advice}`);
}
