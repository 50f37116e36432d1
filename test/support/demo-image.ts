/** The demo guest image. The first test builds it, and the repository's ignored cache keeps it. */
import { join } from 'node:path';
import { buildDemoImage } from '../../backend/guest/build-image.ts';

export const cacheDir = new URL('../../.ucloud/cache', import.meta.url).pathname;

/** Writes the image into the directory and returns its path. The first call builds it; later calls copy it. */
export async function demoImage(directory: string): Promise<string> {
  const output = join(directory, 'demo.qcow2');
  await buildDemoImage({ output, cacheDir });
  return output;
}
