import { Type } from '@sinclair/typebox';
import { costErrors, crud, type Endpoint, idParams, mutationHeaders } from '../endpoint.ts';
import {
  common,
  DeleteProtection,
  Description,
  Enum,
  exampleId,
  IdOf,
  Ipv6,
  LabelSelector,
  Labels,
  MacAddress,
  Name,
  Reference,
  Size,
  Timestamp,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { operation, operationExample } from './operations.ts';
import { snapshotDisk } from './snapshots.ts';
import { Interfaces, InterfacesInput } from './vm-interfaces.ts';

/** The phases of a VM for its owner, derived from the declaration, the placement and the report. */
export const vmPhases = [
  'pending',
  'scheduled',
  'preparing',
  'starting',
  'running',
  'stopping',
  'stopped',
  'deleting',
  'error',
  'unknown',
] as const;

/** The fields whose change can wait for the next start of the VM. */
export const restartFields = ['cpus', 'memory', 'disk_size', 'user_data', 'interfaces'] as const;
export type RestartField = (typeof restartFields)[number];

/** The results of user data. A hostile guest can report anything, so the API accepts only these words. */
export const userDataResults = ['none', 'ok', 'failed', 'ignored', 'interrupted', 'unavailable'] as const;
export type UserDataResult = (typeof userDataResults)[number];

/** The modes in which a VM avoids hosts with other VMs of its group. */
export const antiAffinityModes = ['required', 'preferred'] as const;

const antiAffinityFields = {
  group: Name({
    description:
      'Name of the group. VMs of the project with the same group are kept on different hosts. A group needs no creation. 1 to 63 lower-case letters, digits and inner hyphens.',
  }),
  mode: Enum(antiAffinityModes, {
    default: 'required',
    description:
      '`required`: the VM never shares a host with another VM of the group, and waits until a host without one has free resources. `preferred`: the VM shares a host if no other has free resources, unless a VM of the group there has `required`.',
  }),
};
const antiAffinity = {
  description:
    'Keeps VMs of one group on different hosts, so that the failure of a host affects only one of them. A VM that is being deleted counts until it is removed. A VM changes its host only when an operator moves it, so a change replaces the VM.',
};
const AntiAffinity = Type.Object(antiAffinityFields, { additionalProperties: false, ...antiAffinity });
/** The schema of `anti_affinity` in requests. */
export const AntiAffinityCreate = Type.Object(
  { group: antiAffinityFields.group, mode: Type.Optional(antiAffinityFields.mode) },
  { additionalProperties: false, ...antiAffinity },
);

/** The schema of `host_selector`. */
export const HostSelector = LabelSelector({
  description:
    'Label selector for the hosts of the VM, in the syntax of Kubernetes: `zone=a,disk in (ssd,nvme),!gpu`. The VM gets only a host whose labels match, and waits until such a host has room. The labels that a selector may name are those of the setting `selectable_host_labels`; operators may name all. A later change of the labels of hosts moves no VM. A VM changes its host only when an operator moves it, so a change replaces the VM.',
});

/** The defaults of a VM. */
export const vmDefaults = { cpus: 1, memory: '512MiB' } as const;

/** The resource of VMs. */
export const vm = resource({
  noun: 'vm',
  plural: 'vms',
  description: 'A virtual machine.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
    image: Reference('image', {
      description:
        'The initial content of the disk. Exactly one of `image` and `root_volume` must be set. With `root_volume`, it is the image of that volume, which may be gone.',
    }),
    root_volume: Type.Optional(
      Reference('volume', {
        description:
          'The volume that the VM boots from, instead of a disk of its own. Its data stays when the VM is deleted, and another VM can boot from it. The volume has an image: it was created with the image, or from a snapshot of a root disk. It stays attached while the VM exists, and does not count among the 16 volumes.',
      }),
    ),
    anti_affinity: Type.Optional(AntiAffinity),
    host_selector: Type.Optional(HostSelector),
  },
  mutable: {
    interfaces: Interfaces,
    name: Name({ description: 'Name, unique in the project, and host name of the guest: an RFC 1123 label.' }),
    description: Description,
    labels: Labels,
    cpus: Type.Integer({
      minimum: 1,
      maximum: 256,
      default: vmDefaults.cpus,
      'x-at-restart': true,
      description: 'Virtual processors. A change takes effect at the next start of the VM.',
    }),
    memory: Size({
      default: vmDefaults.memory,
      'x-at-restart': true,
      description: 'Main memory. A change takes effect at the next start of the VM.',
    }),
    disk_size: Size({
      'x-at-restart': true,
      description:
        'Size of the disk. Default: that of the image. It can only grow. A change takes effect at the next start of the VM. With `root_volume`, it must be omitted, and shows the size of the volume, which grows by itself.',
    }),
    ssh_keys: Type.Array(Reference('ssh_key'), {
      maxItems: 32,
      uniqueItems: true,
      default: [],
      description:
        'SSH keys that give access to the guest. A change never replaces the VM: ucloud-init in a running guest asks the metadata server every 30 seconds. cloud-init reads the keys only at the first boot of a VM.',
    }),
    volumes: Type.Array(Reference('volume'), {
      maxItems: 16,
      uniqueItems: true,
      default: [],
      description:
        'Volumes of the VM, in addition to those of volume attachments. Their data stays when the VM is deleted. A running guest gets a new volume at once. To remove a volume from a running VM, stop the VM first, or set `force_detach` of the volume. The VM runs on the host of its volumes.',
    }),
    user_data: Type.Optional(
      Type.String({
        format: 'user-data',
        maxLength: 32768,
        'x-sensitive': true,
        'x-at-restart': true,
        description:
          'Instructions for the guest at its first boot. cloud-init accepts all its formats, such as `#cloud-config`; ucloud-init accepts a script that begins with `#!`. A change takes effect at the next start of the VM: ucloud-init then runs user data that differs from its last run, while cloud-init runs most of it only at the first boot. Lists omit this field, and viewers do not see it.',
      }),
    ),
    power_state: Enum(['running', 'stopped'], {
      default: 'running',
      description:
        'Desired state. To stop a VM, the agent asks the guest to shut down. If the guest does not, the agent ends it.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('vm'),
    address: Ipv6({ description: 'IPv6 address of the first interface.' }),
    user_data_sha256: Type.Optional(
      Type.String({
        pattern: '^[0-9a-f]{64}$',
        'x-api-only': true,
        description:
          'SHA-256 of `user_data` in UTF-8, hex. Lists contain it although they omit `user_data`. Viewers do not see it.',
      }),
    ),
    status: Type.Object(
      {
        phase: Enum(vmPhases, { description: 'Phase of the VM.' }),
        reason: Type.Optional(
          Type.String({
            description:
              'Reason of the phase, or a fault of a running VM, as a constant word: `no_host`, `image_not_available`, `root_volume_not_available`, `other_addresses`, …',
          }),
        ),
        message: Type.Optional(Type.String({ description: 'Text for people.' })),
        host: Type.Optional(Reference('host', { description: 'Host of the VM.' })),
        started_at: Type.Optional(Timestamp({ description: 'Time of the last start.' })),
        ready: Type.Boolean({
          description:
            'Whether the guest has reported, since the last start, that ucloud-init or cloud-init has finished.',
        }),
        guest_agent: Type.Boolean({
          description: 'Whether the QEMU guest agent in the running guest has answered lately.',
        }),
        user_data: Type.Optional(
          Enum(userDataResults, {
            description:
              'Result of the user data since the last start, as the guest reports it. none: there is no user data. ok: it succeeded. failed: the script ended with an error, or cloud-init had errors. ignored: ucloud-init found no script that begins with `#!`, or cloud-init had its first boot before the user data changed. interrupted: the guest stopped while the script ran. unavailable: the guest could not get the user data.',
          }),
        ),
        user_data_exit_code: Type.Optional(
          Type.Integer({ minimum: 0, maximum: 255, description: 'Exit code of a failed script.' }),
        ),
        restart_required: Type.Boolean({ description: 'Whether a change waits for the next start.' }),
        pending_changes: Type.Array(Enum(restartFields), {
          description:
            'Fields whose change waits for the next start. `interfaces` is among them if the guest does not release an interface, or if an earlier version of ucloud has started the VM.',
        }),
        changing_interfaces: Type.Array(MacAddress(), {
          description:
            'MAC addresses of the interfaces that the running guest is about to get, to change or to lose. Usually it takes about a second.',
        }),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'Observed state.' },
    ),
    ...common,
  },
  defaulted: ['description', 'labels', 'cpus', 'memory', 'ssh_keys', 'volumes', 'power_state', 'delete_protection'],
  optional: ['project', 'image', 'root_volume', 'disk_size', 'user_data', 'anti_affinity', 'host_selector'],
  create: { interfaces: InterfacesInput, anti_affinity: Type.Optional(AntiAffinityCreate) },
});
export type Vm = ItemType<typeof vm>;
export type VmCreate = CreateType<typeof vm>;
export type VmBody = BodyType<typeof vm>;
export type VmUpdate = UpdateType<typeof vm>;

const example: Vm = {
  id: exampleId('vm'),
  project: exampleId('project'),
  name: 'web-1',
  description: '',
  labels: { tier: 'web' },
  image: exampleId('image'),
  cpus: 2,
  memory: '2GiB',
  disk_size: '20GiB',
  interfaces: [
    {
      network: exampleId('network'),
      mac: '42:00:5e:10:00:01',
      address: '2001:db8:0:100:4000:5eff:fe10:1',
      secondary_addresses: ['2001:db8:0:100::80'],
      security_groups: [exampleId('security_group')],
    },
  ],
  address: '2001:db8:0:100:4000:5eff:fe10:1',
  anti_affinity: { group: 'web', mode: 'required' },
  host_selector: 'zone=a',
  ssh_keys: [exampleId('ssh_key')],
  volumes: [exampleId('volume')],
  power_state: 'running',
  delete_protection: false,
  status: {
    phase: 'running',
    host: exampleId('host'),
    started_at: '2026-01-01T00:00:05.000Z',
    ready: true,
    guest_agent: true,
    user_data: 'ok',
    restart_required: false,
    pending_changes: [],
    changing_interfaces: [],
  },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 31,
};

/** The answer to a requested action on a VM. */
const accepted = {
  status: 202,
  description: 'Accepted. The operation shows the progress.',
  schema: operation.Item,
  example: operationExample,
} as const;

/** The errors that all actions on a VM have in common, besides `not_found`. */
const actionErrors = [
  'invalid_state',
  'being_deleted',
  'conflict',
  'idempotency_key_reused',
  'payload_too_large',
  'unsupported_media_type',
] as const;

/** The endpoints of VMs. */
export const vmEndpoints = {
  ...crud(vm, {
    read: 'viewer',
    write: 'member',
    scoped: true,
    createErrors: ['address_taken', 'being_deleted', 'in_use', 'invalid_state', 'no_capacity', ...costErrors],
    updateErrors: [
      'address_taken',
      'being_deleted',
      'in_use',
      'invalid_reference',
      'invalid_state',
      'no_capacity',
      'quota_exceeded',
      ...costErrors,
    ],
    deleteErrors: ['delete_protected'],
    asyncDelete: true,
    example: {
      create: {
        name: 'web-1',
        image: example.image,
        cpus: 2,
        memory: '2GiB',
        interfaces: [{ network: exampleId('network'), secondary_addresses: ['2001:db8:0:100::80'] }],
        ssh_keys: example.ssh_keys,
        anti_affinity: { group: 'web' },
        host_selector: example.host_selector,
        labels: { tier: 'web' },
      },
      item: example,
      update: { memory: '4GiB' },
    },
  }),
  reboot: {
    id: 'vm_reboot',
    method: 'POST',
    path: '/v1/vms/{id}/reboot',
    tag: 'vms',
    summary: 'Reboot a VM',
    description: 'Stops the VM and starts it again with all pending changes.',
    access: 'member',
    params: idParams('vm'),
    headers: mutationHeaders,
    body: Type.Object(
      {
        force: Type.Optional(
          Type.Boolean({ default: false, description: 'End the guest immediately, without asking it to shut down.' }),
        ),
      },
      { additionalProperties: false, title: 'VmReboot' },
    ),
    bodyExample: { force: false },
    success: accepted,
    errors: ['not_found', ...actionErrors],
  },
  restore: {
    id: 'vm_restore',
    method: 'POST',
    path: '/v1/vms/{id}/restore',
    tag: 'vms',
    summary: 'Restore a VM from a snapshot',
    description:
      'Replaces the content of disks of a stopped VM by that of a snapshot: of the disk of the VM and of volumes that are attached to it. A disk that has grown since keeps its size. A start of the VM waits for the end. If the restore fails, each disk has either its old or its new content.',
    access: 'member',
    params: idParams('vm'),
    headers: mutationHeaders,
    body: Type.Object(
      {
        snapshot: Reference('snapshot', {
          description: 'The snapshot: of this VM, or of volumes that are attached to it.',
        }),
        disks: Type.Optional(
          Type.Array(Type.String(snapshotDisk), {
            minItems: 1,
            // The disk of the VM, and its volumes.
            maxItems: 17,
            uniqueItems: true,
            description:
              'The disks of the snapshot to restore: `root` for the disk of the VM, and ids of volumes. Default: all disks of the snapshot, and the VM must have all of them.',
          }),
        ),
      },
      { additionalProperties: false, title: 'VmRestore' },
    ),
    bodyExample: { snapshot: exampleId('snapshot') },
    success: accepted,
    errors: ['not_found', 'invalid_reference', 'rule_violated', ...actionErrors],
  },
  move: {
    id: 'vm_move',
    method: 'POST',
    path: '/v1/vms/{id}/move',
    tag: 'vms',
    summary: 'Move a stopped VM to another host',
    description:
      'Gives a stopped VM another host. All its disks must be volumes in storage pools of the kinds `shared` and `ceph`: the root disk is a `root_volume`. Addresses and data stay, and the settings that the firmware keeps for the VM are lost. The move also works while the present host is dead, because its last report shows that no guest runs. A start of the VM before the move ends the operation with a failure. The operation succeeds when the new host has taken over the VM.',
    access: 'operator',
    params: idParams('vm'),
    headers: mutationHeaders,
    body: Type.Object(
      {
        host: Type.Optional(
          Reference('host', { description: 'The new host. Default: the scheduler chooses another host.' }),
        ),
      },
      { additionalProperties: false, title: 'VmMove' },
    ),
    bodyExample: { host: exampleId('host') },
    success: accepted,
    errors: ['not_found', 'invalid_reference', ...actionErrors],
  },
} as const satisfies Record<string, Endpoint>;
