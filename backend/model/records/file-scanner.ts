/** Records that only the scanner of a file server writes. Each scanner writes those of its own server. */
import { type Static, Type } from '@sinclair/typebox';
import { bytes, id, kind, oneOf, time } from './form.ts';

/** `file-servers/<id>`: the server, and whether its scanner sees the directory. */
export const fileServers = kind('file-servers/', {
  id: id('file_server'),
  name: Type.String(),
  phase: oneOf(['available', 'unavailable']),
  message: Type.Optional(Type.String()),
  /** The time of the last change of the phase. */
  at: time,
  created_at: time,
});
export type FileServerRecord = Static<typeof fileServers.schema>;

/** Returns the name of the scanner's key in `leader/`. */
export const fileScannerTask = (server: FileServerRecord['id']): string => `file-scanner-${server}`;

/** `files/<id>`: a complete file. Its id follows from server, project and name (model/file/names.ts). */
export const files = kind('files/', {
  id: id('file'),
  project: id('project'),
  server: id('file_server'),
  /** The escaped name. */
  name: Type.String(),
  size: bytes,
  sha256: Type.String(),
  modified_at: time,
  /** Inode, size and times. The scanner reads the content again when they differ. */
  fingerprint: Type.String(),
  created_at: time,
  updated_at: time,
});
export type FileRecord = Static<typeof files.schema>;

/**
 * `file-directories/<server>/<project>`: the directory of a project. It is written with every change of the files in it,
 * so that other scanners know the usage of the project.
 */
export const fileDirectories = kind('file-directories/', {
  files: Type.Integer({ minimum: 0 }),
  bytes,
  /** The inode of the directory. */
  inode: Type.Optional(Type.String()),
  /** The reason why the directory cannot be read now. */
  message: Type.Optional(Type.String()),
  /** The number of files that have no record because of the quota. */
  refused: Type.Optional(Type.Integer({ minimum: 0 })),
});
export type FileDirectoryRecord = Static<typeof fileDirectories.schema>;
