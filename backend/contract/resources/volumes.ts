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
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { snapshotDisk } from './snapshots.ts';

/** The phases of a volume. */
export const volumePhases = ['available', 'restoring', 'attached', 'error', 'deleting'] as const;

/** Returns the path of the volume's device in a Linux guest. The serial number of the device is the id. */
export const devicePath = (volume: string): string => `/dev/disk/by-id/virtio-${volume}`;

/** The schema of `device`. */
export const Device = Type.String({
  readOnly: true,
  description:
    'Path of the block device in Linux guests with udev. It never changes. Other names, such as /dev/vdb, change between starts.',
});

/** The resource of volumes. */
export const volume = resource({
  noun: 'volume',
  plural: 'volumes',
  description:
    'A disk with data that outlives VMs. In a pool of the kind `local`, a volume gets its host with its first attachment, and VMs on other hosts cannot use it.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
    pool: Reference('storage_pool', {
      description:
        'Storage pool of the volume. Default: the default pool of the cloud. A volume with the data of a snapshot or of another volume lies in the pool of its source.',
    }),
    image: Type.Optional(
      Reference('image', {
        'x-server-chosen': true,
        description:
          'The image whose content the new volume gets, so that a VM can boot from the volume (`root_volume`). The host copies the image before the first VM gets the volume, and the volume does not depend on the image afterwards. A volume that has no data yet waits for ever when its image is deleted. A volume with the data of a root disk has the image of that disk. Default: an empty volume.',
      }),
    ),
    snapshot: Type.Optional(
      Reference('snapshot', {
        description:
          'The snapshot whose data the new volume gets. The volume lies in the pool of the snapshot and, unless that is a network pool, on its host. It does not depend on the snapshot afterwards. Default: an empty volume.',
      }),
    ),
    snapshot_disk: Type.Optional(
      Type.String({
        ...snapshotDisk,
        description:
          'The disk of a snapshot with several disks: `root` for the disk of the VM, or the id of a volume. Default: the only disk.',
      }),
    ),
    source_volume: Type.Optional(
      Reference('volume', {
        description:
          'The volume whose data the new volume gets, as it is at one instant. Guests may write the source meanwhile. A snapshot is made for this, which counts in the quota and is removed by itself when the new volume has its data. The volume does not depend on its source afterwards. At most one of `image`, `snapshot` and `source_volume` is set. Default: an empty volume.',
      }),
    ),
  },
  mutable: {
    name: Name(),
    description: Description,
    labels: Labels,
    size: Size({
      description:
        'Size of the volume. It can only grow. A running guest sees the new size at once; its file system must then grow too.',
    }),
    max_iops: Type.Integer({
      minimum: 0,
      maximum: 1_000_000,
      default: 0,
      description:
        'Limit of operations per second, reads and writes together. 0: no limit. A change takes effect at once.',
    }),
    max_throughput: Type.Integer({
      minimum: 0,
      maximum: 1_000_000,
      default: 0,
      description: 'Limit in MiB per second, reads and writes together. 0: no limit. A change takes effect at once.',
    }),
    force_detach: Type.Boolean({
      default: false,
      description:
        'While true, the volume may be detached from a running VM. Its guest cannot refuse this: a file system that is still mounted loses writes. While false, a running guest is asked: with a QEMU guest agent, it keeps the volume while it uses it; without one, the VM must be stopped first.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('volume'),
    device: Device,
    status: Type.Object(
      {
        phase: Enum(volumePhases, {
          description:
            'Phase of the volume. restoring: the host copies the data of the image, snapshot or volume. error: the volume has no data and will get none.',
        }),
        reason: Type.Optional(
          Type.String({
            description:
              'Reason why the volume waits, as a constant word: `no_space`, `pool_unreachable`, `image_not_available`, `image_gone`, `source_failed`, …',
          }),
        ),
        message: Type.Optional(Type.String({ description: 'Text for people.' })),
        host: Type.Optional(Reference('host', { description: 'Host of the volume.' })),
        vm: Type.Optional(Reference('vm', { description: 'VM that the volume is attached to.' })),
        size: Type.Optional(
          Size({
            description: 'Size on the host. It is less than the declared size while the volume waits for space.',
          }),
        ),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'Observed state.' },
    ),
    ...common,
  },
  defaulted: ['description', 'labels', 'max_iops', 'max_throughput', 'force_detach', 'delete_protection'],
  optional: ['project', 'pool', 'image', 'snapshot', 'snapshot_disk', 'source_volume'],
});
export type Volume = ItemType<typeof volume>;
export type VolumeCreate = CreateType<typeof volume>;
export type VolumeBody = BodyType<typeof volume>;
export type VolumeUpdate = UpdateType<typeof volume>;

const example: Volume = {
  id: exampleId('volume'),
  project: exampleId('project'),
  pool: exampleId('storage_pool'),
  name: 'web-data',
  description: '',
  labels: {},
  size: '50GiB',
  max_iops: 0,
  max_throughput: 0,
  force_detach: false,
  delete_protection: true,
  device: devicePath(exampleId('volume')),
  status: { phase: 'attached', host: exampleId('host'), vm: exampleId('vm'), size: '50GiB' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 35,
};

/** The endpoints of volumes. */
export const volumeEndpoints = crud(volume, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  createErrors: ['being_deleted', 'invalid_state', ...costErrors],
  updateErrors: ['being_deleted', 'quota_exceeded', ...costErrors],
  deleteErrors: ['delete_protected'],
  asyncDelete: true,
  example: {
    create: { name: 'web-data', size: '50GiB', delete_protection: true },
    item: example,
    update: { size: '80GiB' },
  },
});
