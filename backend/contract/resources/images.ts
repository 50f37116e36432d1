import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import {
  common,
  DeleteProtection,
  Description,
  Enum,
  exampleId,
  IdOf,
  Labels,
  Name,
  Reference,
  Size,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

export const architectures = ['x86_64', 'aarch64'] as const;
export type Architecture = (typeof architectures)[number];

export const image = resource({
  noun: 'image',
  plural: 'images',
  description:
    'What the disk of a new VM starts from. The image scanner fetches the source, checks it as hostile input and keeps a clean copy; VMs can use it once its phase is `available`.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
    source: Type.String({
      maxLength: 2048,
      pattern: '^(file:[A-Za-z0-9][A-Za-z0-9._-]{0,127}|https?://[^\\s\\x00-\\x1f]+)$',
      'x-rule': 'an `https://` URL or `file:<name>`',
      description:
        "Where it comes from: an `https://` URL, or `file:<name>` for a file in the project's directory of files on the server. Raw or qcow2; found out by content.",
    }),
    // Absent in answers until the scanner has computed it.
    sha256: Type.Optional(
      Type.String({
        pattern: '^[0-9a-f]{64}$',
        'x-rule': '64 lower-case hex digits',
        description: 'SHA-256 of the source, in hex. Required for a URL; for a file it is computed when left out.',
        'x-server-chosen': true,
      }),
    ),
    architecture: Enum(architectures, { default: 'x86_64', description: 'Processor architecture of its programs.' }),
  },
  mutable: {
    name: Name(),
    description: Description,
    labels: Labels,
    visibility: Enum(['project', 'public'], {
      default: 'project',
      description: 'public: every project can use it. Only operators may say so.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('image'),
    size: Type.Optional(
      Size({ description: 'Size of the disk that the image describes (its virtual size), rounded up to MiB.' }),
    ),
    status: Type.Object(
      {
        phase: Enum(['pending', 'importing', 'available', 'error'], { description: 'How far the import is.' }),
        message: Type.Optional(Type.String({ description: 'Why the import failed or waits.' })),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'State of the import.' },
    ),
    ...common,
  },
  defaulted: ['architecture', 'description', 'labels', 'visibility', 'delete_protection'],
  optional: ['project', 'sha256'],
});
export type Image = ItemType<typeof image>;
export type ImageCreate = CreateType<typeof image>;
export type ImageBody = BodyType<typeof image>;
export type ImageUpdate = UpdateType<typeof image>;

const example: Image = {
  id: exampleId('image'),
  project: exampleId('project'),
  name: 'debian-13',
  description: '',
  source: 'https://images.example.net/debian-13.qcow2',
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  architecture: 'x86_64',
  labels: {},
  visibility: 'project',
  delete_protection: false,
  size: '2GiB',
  status: { phase: 'available' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 12,
};

export const imageEndpoints = crud(image, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  deleteErrors: ['delete_protected'],
  example: {
    create: { name: 'debian-13', source: example.source, sha256: example.sha256 },
    item: example,
    update: { description: 'with our monitoring agent' },
  },
});
