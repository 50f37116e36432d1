/**
 * The id of a file server is in a file in its root. If the root is an NFS mount and is not mounted, this file is missing.
 * So an empty mount point is never taken for a server without files.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../contract/fields.ts';
import { serverMarker } from '../model/file/names.ts';
import { newId } from '../model/ids.ts';
import type { FileServerRecord } from '../model/records/index.ts';
import { Directory } from './directory.ts';

/** Returns the id in the root; undefined if there is none. */
export async function readServerId(root: Directory): Promise<Id<'file_server'> | undefined> {
  const file = await root.file(serverMarker);
  if (!file) return undefined;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(64), 0, 64, 0);
    const text = buffer.toString('latin1', 0, bytesRead).trim();
    return /^fsrv-[0-9a-hjkmnp-tv-z]{16}$/.test(text) ? (text as Id<'file_server'>) : undefined;
  } finally {
    await file.close();
  }
}

async function writeServerId(path: string, id: string): Promise<void> {
  const temporary = join(path, `${serverMarker}-${randomUUID()}`);
  const file = await open(temporary, 'wx', 0o644);
  try {
    await file.write(`${id}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(path, serverMarker));
  const directory = await open(path, constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Returns the id of the server with this root and name. A root without an id gets that of the known server of this name:
 * its directory is not mounted now.
 */
export async function serverIdOf(
  path: string,
  name: string,
  known: Iterable<FileServerRecord>,
): Promise<Id<'file_server'>> {
  const root = await Directory.open(path);
  try {
    const found = root && (await readServerId(root));
    if (found) return found;
    for (const server of known) if (server.name === name) return server.id;
    if (!root) throw new Error(`there is no directory ${path}`);
  } finally {
    await root?.close();
  }
  const id = newId('file_server');
  await writeServerId(path, id);
  return id;
}
