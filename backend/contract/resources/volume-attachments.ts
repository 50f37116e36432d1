import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, Enum, exampleId, IdOf, Labels, Reference } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { Device, devicePath } from './volumes.ts';

/** The maximum number of volumes of a VM: the number of its slots. */
export const maxVolumes = 16;

/** The phases of an attachment. */
export const attachmentPhases = ['pending', 'ready', 'attached', 'detaching'] as const;

/** The resource of attachments. */
export const volumeAttachment = resource({
  noun: 'volume_attachment',
  plural: 'volume-attachments',
  description:
    'Gives a volume to a VM, also while the VM runs. A VM has at most 16 volumes, and a volume has at most one VM. The deletion of the VM ends its attachments and keeps the volumes.',
  immutable: {
    vm: Reference('vm', { description: 'The VM.' }),
    volume: Reference('volume', { description: 'The volume, of the same project as the VM.' }),
  },
  mutable: { labels: Labels },
  readonly: {
    id: IdOf('volume_attachment'),
    project: Reference('project', { description: 'The project of VM and volume.' }),
    device: Device,
    status: Type.Object(
      {
        phase: Enum(attachmentPhases, {
          description:
            'Phase of the attachment. ready: the VM is stopped, and its guest gets the volume at its next start. attached: the running guest has the volume. detaching: the volume goes as soon as the guest does not use it any more.',
        }),
        reason: Type.Optional(
          Type.String({
            description:
              'Reason why the attachment waits, as a constant word: `no_space`, `other_host`, `in_use` (the guest uses the volume that is being detached), …',
          }),
        ),
        message: Type.Optional(Type.String({ description: 'Text for people.' })),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'Observed state.' },
    ),
    ...common,
  },
  defaulted: ['labels'],
});
export type VolumeAttachment = ItemType<typeof volumeAttachment>;
export type VolumeAttachmentCreate = CreateType<typeof volumeAttachment>;
export type VolumeAttachmentBody = BodyType<typeof volumeAttachment>;
export type VolumeAttachmentUpdate = UpdateType<typeof volumeAttachment>;

const example: VolumeAttachment = {
  id: exampleId('volume_attachment'),
  project: exampleId('project'),
  vm: exampleId('vm'),
  volume: exampleId('volume'),
  labels: {},
  device: devicePath(exampleId('volume')),
  status: { phase: 'attached' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 36,
};

/** The endpoints of attachments. */
export const volumeAttachmentEndpoints = crud(volumeAttachment, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  createErrors: ['being_deleted', 'in_use', 'invalid_state', 'no_capacity'],
  updateErrors: ['being_deleted'],
  deleteErrors: ['invalid_state'],
  asyncDelete: true,
  example: {
    create: { vm: example.vm, volume: example.volume },
    item: example,
    update: { labels: { use: 'database' } },
  },
});
