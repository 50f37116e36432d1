import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, Enum, exampleId, IdOf, Timestamp } from '../fields.ts';
import { type ItemType, resource } from '../resource.ts';

/** The resource of file servers. */
export const fileServer = resource({
  noun: 'file_server',
  plural: 'file-servers',
  description:
    'A directory with the files of all projects, and the file scanner that watches it. The scanner registers it at the first start.',
  immutable: {},
  mutable: {},
  readonly: {
    id: IdOf('file_server'),
    name: Type.String({ description: 'Name that the operator gave to the file scanner.' }),
    status: Type.Object(
      {
        phase: Enum(['available', 'unavailable'], { description: 'Whether the scanner runs and sees its directory.' }),
        message: Type.Optional(Type.String({ description: 'Reason why the server is not available.' })),
        since: Timestamp({ description: 'Time of the last change of the phase.' }),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'State of the file server.' },
    ),
    ...common,
  },
});
export type FileServer = ItemType<typeof fileServer>;

const example: FileServer = {
  id: exampleId('file_server'),
  name: 'files1',
  status: { phase: 'available', since: '2026-01-01T00:00:00.000Z' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 12,
};

const { list, get } = crud(fileServer, {
  read: 'operator',
  write: 'operator',
  scoped: false,
  extraListQuery: {
    name: Type.Optional(Type.String({ maxLength: 253, description: 'Only the file server with this name.' })),
  },
  example: { create: {}, item: example, update: {} },
});
/** The endpoints of file servers. */
export const fileServerEndpoints = { list, get };
