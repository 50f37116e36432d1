import { Type } from '@sinclair/typebox';
import { crud, type Endpoint } from '../endpoint.ts';
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
  Whole,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The processor architectures of images and hosts. */
export const architectures = ['x86_64', 'aarch64'] as const;
export type Architecture = (typeof architectures)[number];

/**
 * The forms of cloud-init's network configuration. No form suits all images: netplan and systemd-networkd take both,
 * NetworkManager and ifupdown of older distributions only version 1.
 */
export const networkConfigs = ['v1', 'v2'] as const;
export type NetworkConfig = (typeof networkConfigs)[number];
export const defaultNetworkConfig: NetworkConfig = 'v1';

/** The kinds of firmware that start a guest. */
export const firmwares = ['bios', 'uefi'] as const;
export type Firmware = (typeof firmwares)[number];
export const defaultFirmware: Firmware = 'bios';

/** The maximum number of projects that get an image. */
export const maxSharedWith = 64;
/** The maximum number of images that a project shares with another one. */
export const maxSharedImages = 100;

/** The maximum number of images from an image over its `replaced_by` to the last one. */
export const maxReplacements = 16;

/** The schema of the name of a family. */
const Family = (description: string) => Name({ description });

/** The steps of an import. A source that is not compressed needs no unpacking. */
export const importSteps = ['downloading', 'unpacking', 'converting', 'checking'] as const;

/** The resource of images. */
export const image = resource({
  noun: 'image',
  plural: 'images',
  description:
    'The initial content of the disk of a VM. The image scanner fetches the source, checks it as hostile input and keeps a clean copy. VMs can use an image when its phase is `available`.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
    source: Type.Optional(
      Type.String({
        maxLength: 2048,
        pattern: '^(file:[A-Za-z0-9][A-Za-z0-9._-]{0,127}|https?://[^\\s\\x00-\\x1f]+)$',
        'x-rule': 'an `https://` URL, or `file:` with the name or id of a file',
        description:
          'Source of the image: an `https://` URL, or `file:<name>` or `file:<id>` for a file of the project. The scanner imports a recorded file only with the recorded content. The scanner recognises qcow2, raw, VMDK, VDI and VHDX by the content, also if the file is compressed with gzip, xz or zstd. Exactly one of `source`, `snapshot` and `volume` is set.',
      }),
    ),
    snapshot: Type.Optional(
      Reference('snapshot', {
        description:
          'The snapshot with the disk of the image, of the same project. The bytes of this disk are the content, whatever format they look like. The image does not depend on the snapshot after the import.',
      }),
    ),
    snapshot_disk: Type.Optional(
      Type.String({
        pattern: '^(root|vol-[0-9a-hjkmnp-tv-z]{16})$',
        'x-rule': '`root`, or the id of a volume of the snapshot',
        description:
          'The disk of a snapshot with several disks: `root` for the disk of the VM, or the id of a volume. Default: the only disk.',
      }),
    ),
    volume: Type.Optional(
      Reference('volume', {
        description:
          'The volume with the content of the image, of the same project. The image shows it at one instant; guests may write it meanwhile. A snapshot is made for this, which counts in the quota and is removed by itself when the import has ended. The bytes are the content, whatever format they look like.',
      }),
    ),
    // Responses lack this field until the scanner has computed it.
    sha256: Type.Optional(
      Type.String({
        pattern: '^[0-9a-f]{64}$',
        'x-rule': '64 lower-case hex digits',
        description:
          'SHA-256 of the source as it arrives, in hex. A URL requires exactly one of `sha256` and `sha512`. For a snapshot or a volume, it is that of the whole disk. The scanner computes it for all sources but URLs if both are omitted.',
        'x-server-chosen': true,
      }),
    ),
    sha512: Type.Optional(
      Type.String({
        pattern: '^[0-9a-f]{128}$',
        'x-rule': '128 lower-case hex digits',
        description: 'SHA-512 of the source as it arrives, in hex. A URL may have it instead of `sha256`.',
      }),
    ),
    architecture: Enum(architectures, { default: 'x86_64', description: 'Processor architecture of the image.' }),
    firmware: Enum(firmwares, {
      default: defaultFirmware,
      description: 'Firmware that starts the guest. `uefi` is UEFI without secure boot.',
    }),
  },
  mutable: {
    name: Name(),
    description: Description,
    labels: Labels,
    visibility: Enum(['project', 'public'], {
      default: 'project',
      description: 'public: every project can use the image. Only operators may set this.',
    }),
    shared_with: Type.Optional(
      Type.Array(Reference('project', { 'x-foreign': true }), {
        maxItems: maxSharedWith,
        uniqueItems: true,
        default: [],
        description: `Ids of other projects that see the image and may create VMs from it. They cannot change the image. VMs that use the image stay when a project is removed from the list. A project shares at most ${maxSharedImages} images with another one. Only the project of the image sees this list.`,
      }),
    ),
    family: Type.Optional(
      Family(
        'Family of the image, such as `debian-12`: 1 to 63 lower-case letters, digits and inner hyphens. Its images replace one another, so give each architecture a family of its own. Families belong to their project, and need no creation.',
      ),
    ),
    deprecated_at: Type.Optional(
      Timestamp({
        description:
          'Time from which the image is deprecated (RFC 3339). It may be in the future. A deprecated image is not the newest of its family. New VMs can still use it: `ucloud` and plans of Terraform then warn.',
      }),
    ),
    replaced_by: Type.Optional(
      Reference('image', {
        description: `The image to use instead, for warnings: of this project, public, or shared with this project. It may be deleted. Images that replace one another must not form a circle, or a chain of more than ${maxReplacements} images.`,
      }),
    ),
    network_config: Enum(networkConfigs, {
      default: defaultNetworkConfig,
      description:
        'Version of the network configuration that cloud-init in the guests gets. `v1` suits all common images. `v2` keeps the names of the interfaces; use it for images with netplan or systemd-networkd. cloud-init reads it at the first boot of a VM. Images without cloud-init ignore it.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('image'),
    shared: Type.Boolean({
      description:
        'true: another project shares the image with the project of the token. Neither names nor families select such an image, unless the request names the project that it belongs to.',
    }),
    size: Type.Optional(Size({ description: 'Virtual size of the disk in the image, rounded up to MiB.' })),
    status: Type.Object(
      {
        phase: Enum(['pending', 'importing', 'available', 'error'], { description: 'Phase of the import.' }),
        message: Type.Optional(Type.String({ description: 'Reason why the import failed or waits.' })),
        step: Type.Optional(Enum(importSteps, { description: 'Current step of a running import.' })),
        progress: Type.Optional(
          Type.Integer({ minimum: 0, maximum: 100, description: 'Percentage of a running import that is done.' }),
        ),
        bytes: Type.Optional(Whole({ description: 'Bytes that the current step of a running import has read.' })),
        total_bytes: Type.Optional(Whole({ description: 'Bytes that the current step reads, if this is known.' })),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'State of the import.' },
    ),
    ...common,
  },
  defaulted: [
    'architecture',
    'firmware',
    'description',
    'labels',
    'visibility',
    'shared_with',
    'network_config',
    'delete_protection',
  ],
  optional: [
    'project',
    'source',
    'snapshot',
    'snapshot_disk',
    'volume',
    'sha256',
    'sha512',
    'family',
    'deprecated_at',
    'replaced_by',
  ],
});
export type Image = ItemType<typeof image>;
export type ImageCreate = CreateType<typeof image>;
export type ImageBody = BodyType<typeof image>;
export type ImageUpdate = UpdateType<typeof image>;

const source = 'https://images.example.net/debian-13.qcow2';
const example: Image = {
  id: exampleId('image'),
  project: exampleId('project'),
  name: 'debian-13',
  description: '',
  source,
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  architecture: 'x86_64',
  firmware: 'bios',
  labels: {},
  visibility: 'project',
  shared_with: [],
  shared: false,
  family: 'debian-13',
  network_config: 'v1',
  delete_protection: false,
  size: '2GiB',
  status: { phase: 'available' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 12,
};

/** The endpoints of images. */
export const imageEndpoints = {
  ...crud(image, {
    read: 'viewer',
    write: 'member',
    scoped: true,
    createErrors: ['being_deleted', 'invalid_state'],
    updateErrors: ['invalid_reference'],
    deleteErrors: ['delete_protected'],
    extraListQuery: { family: Type.Optional(Family('Only images of this family.')) },
    example: {
      create: { name: 'debian-13', source, sha256: example.sha256, family: 'debian-13' },
      item: example,
      update: { description: 'with our monitoring agent' },
    },
  }),
  newest: {
    id: 'image_newest',
    method: 'GET',
    path: '/v1/image-families/{family}',
    tag: 'images',
    summary: 'Get the newest image of a family',
    description:
      'Returns the image of the family that new VMs should use: the newest one that is available and not deprecated. Images of the project come first, then public ones. An image that another project shares is returned only with `owner`. The newest image is the one with the latest `created_at`.',
    access: 'viewer',
    params: Type.Object({ family: Family('The family.') }),
    query: Type.Object(
      {
        project: Type.Optional(
          Reference('project', {
            description:
              'Project of the VMs. Default: the project of the token. A token without a project gets only public images by default.',
          }),
        ),
        owner: Type.Optional(
          Reference('project', { description: 'Only images that belong to this project, and that `project` may use.' }),
        ),
      },
      { additionalProperties: false },
    ),
    success: { status: 200, description: 'The image.', schema: image.Item, example },
    errors: ['not_found'],
  },
} as const satisfies Record<string, Endpoint>;
