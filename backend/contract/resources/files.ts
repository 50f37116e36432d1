import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, Enum, exampleId, IdOf, Reference, Timestamp, Whole } from '../fields.ts';
import { type ItemType, resource } from '../resource.ts';

/** The maximum length of a name in the API: each of 255 bytes may be escaped. */
const maxNameLength = 3 * 255;

/** The resource of files. */
export const file = resource({
  noun: 'file',
  plural: 'files',
  description:
    "A file in the project's directory on a file server. Files arrive there by upload, SFTP, rsync or NFS. The file scanner of the server records a file after it has been complete and unchanged for some seconds. It ignores names that begin with a dot, directories, links, and files with several hard links. The same name on two servers is two files with two ids.",
  immutable: {},
  mutable: {},
  readonly: {
    id: IdOf('file'),
    project: Reference('project', { description: 'Project of the file.' }),
    name: Type.String({
      maxLength: maxNameLength,
      description:
        'Name of the file. Bytes that are not UTF-8, control characters, characters that change the direction of text, and `%` are written as `%` and two hex digits for each byte.',
    }),
    server: Reference('file_server', { description: 'File server of the file.' }),
    size: Whole({ description: 'Size in bytes.' }),
    sha256: Type.String({ description: 'SHA-256 of the content, in hex.' }),
    modified_at: Timestamp({ description: 'Time of the last change of the content, as the file system tells it.' }),
    status: Type.Object(
      {
        phase: Enum(['available', 'unavailable', 'deleting'], {
          description:
            'Phase of the file. `unavailable`: the file server or its directory cannot be reached now, and the other fields are as last seen.',
        }),
        message: Type.Optional(Type.String({ description: 'Reason why the file is not available.' })),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'State of the file.' },
    ),
    ...common,
  },
});
export type File = ItemType<typeof file>;

const example: File = {
  id: exampleId('file'),
  project: exampleId('project'),
  name: 'debian-13.qcow2',
  server: exampleId('file_server'),
  size: 402653184,
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  modified_at: '2026-01-01T00:00:00.000Z',
  status: { phase: 'available' },
  created_at: '2026-01-01T00:00:10.000Z',
  updated_at: '2026-01-01T00:00:10.000Z',
  revision: 12,
};

const {
  list,
  get,
  delete: remove,
} = crud(file, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  asyncDelete: true,
  extraListQuery: {
    name: Type.Optional(
      Type.String({ maxLength: maxNameLength, description: 'Only files with this name, on all file servers.' }),
    ),
  },
  example: { create: {}, item: example, update: {} },
});
/** The endpoints of files. Files are created by the file scanner and by uploads. */
export const fileEndpoints = { list, get, delete: remove };
