import { Type } from '@sinclair/typebox';
import { costErrors, crud } from '../endpoint.ts';
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
  Timestamp,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The phases of a snapshot. */
export const snapshotPhases = ['pending', 'creating', 'available', 'error', 'deleting'] as const;

/** The ways to make a snapshot. */
export const consistencies = ['crash', 'filesystem'] as const;
export type Consistency = (typeof consistencies)[number];

/** The form of the name of a disk in a snapshot. */
export const snapshotDisk = {
  pattern: '^(root|vol-[0-9a-hjkmnp-tv-z]{16})$',
  'x-rule': '`root`, or the id of a volume of the snapshot',
} as const;

/** The resource of snapshots. */
export const snapshot = resource({
  noun: 'snapshot',
  plural: 'snapshots',
  description:
    'A copy of a volume, or of all disks of a VM, at one instant. Each disk of the copy lies in the storage pool of its source, takes space of its own, and stays when its source is deleted.',
  immutable: {
    volume: Type.Optional(
      Reference('volume', {
        description:
          'The volume to copy, in any storage pool. It has data from its first attachment on. Exactly one of `volume` and `vm` is set.',
      }),
    ),
    vm: Type.Optional(
      Reference('vm', {
        description:
          'The VM whose disks are copied: the disk of the VM and its volumes in all storage pools, all at the same instant.',
      }),
    ),
    consistency: Enum(consistencies, {
      default: 'crash',
      description:
        'crash: the copy is what the disks contain at that instant, as after a power failure. File systems with a journal and databases recover from it. filesystem: the guest agent first writes all data of the guest and freezes its file systems for at most 10 s. A running VM needs the QEMU guest agent for that. Without a running VM, both are the same.',
    }),
  },
  mutable: {
    name: Name(),
    description: Description,
    labels: Labels,
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('snapshot'),
    schedule: Type.Optional(
      Reference('snapshot_schedule', { description: 'The schedule that has made the snapshot. It may be deleted.' }),
    ),
    made_for: Type.Optional(
      Type.String({
        pattern: '^(vol|img|snap)-[0-9a-hjkmnp-tv-z]{16}$',
        description:
          'Id of the object that the snapshot was made for. That is a new volume or image (`source_volume` of a volume, `volume` of an image), or the snapshot of a VM with a volume outside of the built-in storage pool. Such a snapshot cannot be changed. It is removed by itself when the new object has its data, or when the object is deleted.',
      }),
    ),
    project: Reference('project', { description: 'The project of the source.' }),
    pool: Reference('storage_pool', {
      description:
        'The storage pool of the data: that of the volume. For a VM, it is the built-in pool, except for disks with a pool of their own.',
    }),
    size: Size({ description: 'Size of all disks together. A new volume of the only disk has at least this size.' }),
    disks: Type.Array(
      Type.Object(
        {
          volume: Type.Optional(
            Reference('volume', { description: 'The copied volume. None for the disk of the VM.' }),
          ),
          image: Type.Optional(
            Reference('image', {
              description: 'The image of a root disk, which may be gone. VMs can boot from a volume with this disk.',
            }),
          ),
          pool: Type.Optional(
            Reference('storage_pool', {
              description: 'The storage pool of this disk, if it is another one than `pool`.',
            }),
          ),
          size: Size({ description: 'Size of the disk.' }),
        },
        { additionalProperties: false },
      ),
      { description: 'The copied disks.' },
    ),
    status: Type.Object(
      {
        phase: Enum(snapshotPhases, {
          description:
            'Phase of the snapshot. pending: it waits for space on its host. creating: the host copies. error: there is no copy, and there will be none.',
        }),
        reason: Type.Optional(
          Type.String({
            description:
              'Reason of the phase, as a constant word: `no_space`, `source_gone`, `no_guest_agent`, `freeze_failed`, `failed`, …',
          }),
        ),
        message: Type.Optional(Type.String({ description: 'Text for people.' })),
        host: Type.Optional(Reference('host', { description: 'Host of the snapshot.' })),
        taken_at: Type.Optional(Timestamp({ description: 'The instant that the copy shows.' })),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'Observed state.' },
    ),
    ...common,
  },
  defaulted: ['consistency', 'description', 'labels', 'delete_protection'],
  optional: ['volume', 'vm'],
});
export type Snapshot = ItemType<typeof snapshot>;
export type SnapshotCreate = CreateType<typeof snapshot>;
export type SnapshotBody = BodyType<typeof snapshot>;
export type SnapshotUpdate = UpdateType<typeof snapshot>;

const example: Snapshot = {
  id: exampleId('snapshot'),
  project: exampleId('project'),
  pool: exampleId('storage_pool'),
  name: 'web-data-monday',
  description: '',
  labels: {},
  volume: exampleId('volume'),
  consistency: 'crash',
  delete_protection: false,
  size: '50GiB',
  disks: [{ volume: exampleId('volume'), size: '50GiB' }],
  status: { phase: 'available', host: exampleId('host'), taken_at: '2026-01-01T00:00:01.000Z' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 37,
};

/** The endpoints of snapshots. */
export const snapshotEndpoints = crud(snapshot, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  createErrors: ['being_deleted', 'invalid_state', ...costErrors],
  updateErrors: ['being_deleted', 'in_use'],
  deleteErrors: ['delete_protected'],
  asyncDelete: true,
  example: {
    create: { name: 'web-data-monday', volume: exampleId('volume') },
    item: example,
    update: { labels: { keep: 'a-year' } },
  },
});
