/** The demo guest image, built once for all tests and kept in the repository's ignored cache. */
import { join } from 'node:path';
import { buildDemoImage } from '../../backend/guest/build-image.ts';

export const cacheDir = new URL('../../.ucloud/cache', import.meta.url).pathname;

/** Writes the image into the directory and gives its path. A few seconds the first time, then a copy. */
export async function demoImage(directory: string): Promise<string> {
  const output = join(directory, 'demo.qcow2');
  await buildDemoImage({ output, cacheDir });
  return output;
}
