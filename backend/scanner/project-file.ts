/** The file that a source `file:<name or id>` means, and the record that the file scanner has of it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Id } from '../contract/fields.ts';
import { bytesOfName } from '../model/file/name-text.ts';
import { fileId, serverMarker } from '../model/file/names.ts';
import { type FileRecord, files } from '../model/records/index.ts';
import { read } from '../store/collection.ts';
import type { Store } from '../store/store.ts';
import { FileMissing, ImageRejected } from './failures.ts';

/** A file of a project. */
export interface ProjectFile {
  /** The name for messages. */
  readonly text: string;
  /** The name on disk. */
  readonly name: Buffer;
  /** The record; undefined if no file scanner has recorded the file yet. */
  readonly record: FileRecord | undefined;
}

type Source = { readonly project: Id<'project'>; readonly source: string };
/** Finds the file of a source. @throws ImageRejected, FileMissing */
export type FindFile = (image: Source) => Promise<ProjectFile>;

const fileName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const idForm = /^file-[0-9a-hjkmnp-tv-z]{16}$/;

/** Returns the name in the source. */
const nameIn = ({ source }: Source): string => source.slice('file:'.length);

/** Finds files by name, without records. */
export const findByName: FindFile = async (image) => {
  const text = nameIn(image);
  if (!fileName.test(text)) throw new ImageRejected(`"${text}" is not the name of a file.`);
  return { text, name: Buffer.from(text), record: undefined };
};

/** Returns the search for files in a directory of a file server. */
export const findWithRecords =
  (store: Store, filesDir: string): FindFile =>
  async (image) => {
    const file = await findByName(image);
    const { text, name } = file;
    const server = (await readFile(join(filesDir, serverMarker), 'latin1').catch(() => '')).trim() as Id<'file_server'>;
    const byName = (await read(store, files, fileId(server, image.project, name)))?.value;
    if (byName) return { ...file, record: byName };
    if (!idForm.test(text)) return file;
    const byId = (await read(store, files, text))?.value;
    if (!byId || byId.project !== image.project) throw new FileMissing(`The project has no file ${text}.`);
    if (byId.server !== server)
      throw new ImageRejected(`The file ${text} is on a file server that this scanner cannot read.`);
    return { text: byId.name, name: bytesOfName(byId.name), record: byId };
  };
