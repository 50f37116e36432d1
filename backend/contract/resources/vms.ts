import { Type } from '@sinclair/typebox';
import { crud, type Endpoint, idParams, mutationHeaders } from '../endpoint.ts';
import {
  common,
  DeleteProtection,
  Description,
  Enum,
  exampleId,
  IdOf,
  Ipv6,
  Labels,
  MacAddress,
  Name,
  Reference,
  Size,
  Timestamp,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { operation, operationExample } from './operations.ts';

/** What a VM is doing, as its owner sees it. Derived from the declaration, the placement and the host's report. */
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

/** Fields whose change takes effect when the VM next starts. */
export const restartFields = ['cpus', 'memory', 'disk_size', 'user_data'] as const;
export type RestartField = (typeof restartFields)[number];

/** The results of user data. A hostile guest can report anything, so the API takes only these words from it. */
export const userDataResults = ['none', 'ok', 'failed', 'ignored', 'interrupted', 'unavailable'] as const;
export type UserDataResult = (typeof userDataResults)[number];

/** How firmly a VM is kept from the hosts of others of its group. */
export const antiAffinityModes = ['required', 'preferred'] as const;

const antiAffinityFields = {
  group: Name({
    description:
      'Name of the group: VMs of the project that name the same one are kept apart. A group exists by being named. 1 to 63 lower-case letters, digits and inner hyphens.',
  }),
  mode: Enum(antiAffinityModes, {
    default: 'required',
    description:
      '`required`: it never shares a host with another VM of the group, and waits while there is no host without one. `preferred`: it shares one when no other has room, unless a VM there requires to be the only one of the group.',
  }),
};
const antiAffinity = {
  description:
    'Keeps VMs of one group on different hosts, so that a host that fails takes only one of them along. A VM that is being deleted counts until it is gone. A VM stays on the host it was given, so a change replaces it.',
};
const AntiAffinity = Type.Object(antiAffinityFields, { additionalProperties: false, ...antiAffinity });
export const AntiAffinityCreate = Type.Object(
  { group: antiAffinityFields.group, mode: Type.Optional(antiAffinityFields.mode) },
  { additionalProperties: false, ...antiAffinity },
);

const interfaceFields = {
  network: Reference('network', { description: 'The network it is plugged into.' }),
  mac: MacAddress({
    description:
      'MAC address, unicast and locally administered, unique in the cloud. Those that begin with `42` are for addresses that are computed: one given by hand is refused, unless it is the default for the attempt 0. Default: `42` and the first five octets of the SHA-256 of the id of the project, the name of the VM, the index of the interface and the attempt, as text with a NUL between each. The attempt is 0, or the first number whose address is free. So it can be computed before creation.',
  }),
};
const Interface = Type.Object(
  {
    ...interfaceFields,
    address: Ipv6({
      readOnly: true,
      description: 'The IPv6 address: the /64 of the network with the modified EUI-64 of the MAC address.',
    }),
  },
  { additionalProperties: false },
);
const InterfaceCreate = Type.Object(
  { network: interfaceFields.network, mac: Type.Optional(interfaceFields.mac) },
  { additionalProperties: false },
);
const interfaces = { minItems: 1, maxItems: 8, description: 'Network interfaces, in the order the guest sees them.' };

/** What a VM gets where its creation says nothing. */
export const vmDefaults = { cpus: 1, memory: '512MiB' } as const;

export const vm = resource({
  noun: 'vm',
  plural: 'vms',
  description: 'A virtual machine.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
    image: Reference('image', { description: 'What its disk starts from.' }),
    interfaces: Type.Array(Interface, interfaces),
    anti_affinity: Type.Optional(AntiAffinity),
  },
  mutable: {
    name: Name({ description: 'Name, unique in the project, and host name of the guest: an RFC 1123 label.' }),
    description: Description,
    labels: Labels,
    cpus: Type.Integer({
      minimum: 1,
      maximum: 256,
      default: vmDefaults.cpus,
      'x-at-restart': true,
      description: 'Virtual processors. A change takes effect when the VM next starts.',
    }),
    memory: Size({
      default: vmDefaults.memory,
      'x-at-restart': true,
      description: 'Main memory. A change takes effect when the VM next starts.',
    }),
    disk_size: Size({
      'x-at-restart': true,
      description:
        'Size of the disk. Default: that of the image. Can only grow, which takes effect when the VM next starts.',
    }),
    ssh_keys: Type.Array(Reference('ssh_key'), {
      maxItems: 32,
      uniqueItems: true,
      default: [],
      description:
        'Keys that the guest lets in. A change never replaces the VM: ucloud-init in a running guest asks the metadata server every half a minute.',
    }),
    user_data: Type.Optional(
      Type.String({
        format: 'user-data',
        maxLength: 32768,
        'x-sensitive': true,
        'x-at-restart': true,
        description:
          'Given to the guest, which runs it once: a script that begins with `#!`; ucloud-init runs nothing else. A change takes effect when the VM next starts: at each boot, ucloud-init runs user data that differs from what it ran last. Lists leave it out, and a viewer does not see it.',
      }),
    ),
    power_state: Enum(['running', 'stopped'], {
      default: 'running',
      description: 'Whether it should run. Stopping asks the guest to shut down and, if it does not, ends it.',
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
          'SHA-256 of `user_data` in UTF-8, hex: also in lists, which leave `user_data` out. Not for viewers.',
      }),
    ),
    status: Type.Object(
      {
        phase: Enum(vmPhases, { description: 'What it is doing.' }),
        reason: Type.Optional(
          Type.String({
            description: 'Why it is in that phase, as a stable word: `no_host`, `image_not_available`, …',
          }),
        ),
        message: Type.Optional(Type.String({ description: 'The same for people.' })),
        host: Type.Optional(Reference('host', { description: 'Where it is placed.' })),
        started_at: Type.Optional(Timestamp({ description: 'When it last started.' })),
        ready: Type.Boolean({
          description: 'ucloud-init in the guest has reported, since the last start, that it is done.',
        }),
        user_data: Type.Optional(
          Enum(userDataResults, {
            description:
              'What the guest has reported of its user data since the last start. none: there is none. ok: it ran. failed: it ended with an error. ignored: it does not begin with `#!`. interrupted: an earlier boot did not see its end. unavailable: the guest could not get it.',
          }),
        ),
        user_data_exit_code: Type.Optional(
          Type.Integer({ minimum: 0, maximum: 255, description: 'With which code it ended, where it failed.' }),
        ),
        restart_required: Type.Boolean({ description: 'A change waits for the next start.' }),
        pending_changes: Type.Array(Enum(restartFields), {
          description: 'The fields whose change waits for the next start.',
        }),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'Observed state.' },
    ),
    ...common,
  },
  defaulted: ['description', 'labels', 'cpus', 'memory', 'ssh_keys', 'power_state', 'delete_protection'],
  optional: ['project', 'disk_size', 'user_data', 'anti_affinity'],
  create: { interfaces: Type.Array(InterfaceCreate, interfaces), anti_affinity: Type.Optional(AntiAffinityCreate) },
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
  interfaces: [{ network: exampleId('network'), mac: '42:00:5e:10:00:01', address: '2001:db8:0:100:4000:5eff:fe10:1' }],
  address: '2001:db8:0:100:4000:5eff:fe10:1',
  anti_affinity: { group: 'web', mode: 'required' },
  ssh_keys: [exampleId('ssh_key')],
  power_state: 'running',
  delete_protection: false,
  status: {
    phase: 'running',
    host: exampleId('host'),
    started_at: '2026-01-01T00:00:05.000Z',
    ready: true,
    user_data: 'ok',
    restart_required: false,
    pending_changes: [],
  },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 31,
};

export const vmEndpoints = {
  ...crud(vm, {
    read: 'viewer',
    write: 'member',
    scoped: true,
    createErrors: ['address_taken', 'no_capacity'],
    updateErrors: ['being_deleted', 'invalid_reference', 'quota_exceeded'],
    deleteErrors: ['delete_protected'],
    asyncDelete: true,
    example: {
      create: {
        name: 'web-1',
        image: example.image,
        cpus: 2,
        memory: '2GiB',
        interfaces: [{ network: exampleId('network') }],
        ssh_keys: example.ssh_keys,
        anti_affinity: { group: 'web' },
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
    description: 'Stops the VM and starts it again, with every change that waits for a restart.',
    access: 'member',
    params: idParams('vm'),
    headers: mutationHeaders,
    body: Type.Object(
      {
        force: Type.Optional(
          Type.Boolean({ default: false, description: 'Do not ask the guest to shut down: end it at once.' }),
        ),
      },
      { additionalProperties: false, title: 'VmReboot' },
    ),
    bodyExample: { force: false },
    success: {
      status: 202,
      description: 'Accepted: follow the operation.',
      schema: operation.Item,
      example: operationExample,
    },
    errors: [
      'not_found',
      'invalid_state',
      'being_deleted',
      'conflict',
      'idempotency_key_reused',
      'payload_too_large',
      'unsupported_media_type',
    ],
  },
} as const satisfies Record<string, Endpoint>;
