/**
 * Seed disks: a small read-only disk with the documents of cloud-init (label CIDATA). The agent writes it anew at each
 * start of the VM, from the current declaration.
 *
 * mtools copies the documents as bytes and interprets nothing in them.
 */
import { mkdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type NoCloudDocuments, noCloudFiles } from '../../model/guest/no-cloud.ts';
import type { Run } from '../system/command.ts';

/** The size in bytes. The largest documents have 128 KiB of user data and 32 keys of 16 KiB. */
const seedBytes = 2 * 1024 ** 2;

/** Writes the seed disk, replacing an earlier one. */
export async function writeSeedDisk(run: Run, path: string, documents: NoCloudDocuments): Promise<void> {
  const image = `${path}.new`;
  const directory = `${path}.files`;
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: 0o700 });
  try {
    for (const name of noCloudFiles) await writeFile(join(directory, name), documents[name], { mode: 0o600 });
    await writeFile(image, '', { mode: 0o600 });
    await truncate(image, seedBytes);
    await run('mkfs.vfat', ['--invariant', '-n', 'CIDATA', image]);
    await run('mcopy', ['-i', image, ...noCloudFiles.map((name) => join(directory, name)), '::']);
    await rename(image, path);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
