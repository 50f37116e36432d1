import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, Enum, exampleId, IdOf, Labels, Reference, Whole } from '../fields.ts';
import { type ItemType, resource, type UpdateType } from '../resource.ts';
import { sessionFields } from './bgp-peers.ts';
import { architectures } from './images.ts';

const resources = (words: string) =>
  Type.Object(
    {
      cpus: Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Processors.' }),
      memory: Whole({ description: 'Main memory in bytes.' }),
      disk: Whole({ description: 'Storage in bytes.' }),
    },
    { additionalProperties: false, description: words },
  );

/** The kinds of connections that the kernel of a host can filter. */
export const connectionFilters = ['bridged', 'routed', 'none'] as const;
export type ConnectionFilter = (typeof connectionFilters)[number];

/** The policy of a host until the operator sets one. */
export const hostPolicyDefaults = {
  draining: false,
  cordoned: false,
  cpu_overcommit: 4,
  memory_overcommit: 1,
} as const;

/** The resource of hosts. */
export const host = resource({
  noun: 'host',
  plural: 'hosts',
  description: 'A machine that runs VMs. Its agent registers it at the first start, and the operator sets its policy.',
  immutable: {},
  mutable: {
    labels: Type.Unsafe<Record<string, string>>({
      ...Labels,
      description: `${Labels.description} VMs with a \`host_selector\` select their hosts by these labels. Only operators see them. A change moves no VM.`,
    }),
    draining: Type.Boolean({
      default: hostPolicyDefaults.draining,
      description:
        'Whether the host is being emptied, because it will be removed or be down for long. While true, the scheduler places no VM on the host.',
    }),
    cordoned: Type.Boolean({
      default: hostPolicyDefaults.cordoned,
      description:
        'Whether the host is closed to new VMs, for example during a repair. While true, the scheduler places no VM on the host. The VMs of the host stay, and can stop, start and be resized.',
    }),
    cpu_overcommit: Type.Number({
      minimum: 0.1,
      maximum: 64,
      default: hostPolicyDefaults.cpu_overcommit,
      description: 'Virtual processors per processor of the host.',
    }),
    memory_overcommit: Type.Number({
      minimum: 0.1,
      maximum: 8,
      default: hostPolicyDefaults.memory_overcommit,
      description: 'Memory of VMs per memory of the host.',
    }),
  },
  readonly: {
    id: IdOf('host'),
    name: Type.String({ description: 'Host name of the machine.' }),
    alive: Type.Boolean({ description: 'Whether the agent of the host is alive.' }),
    hypervisor: Enum(['qemu', 'simulated'], { description: 'Hypervisor of the host.' }),
    accelerator: Enum(['kvm', 'tcg', 'none'], {
      description: 'Hardware virtualisation (kvm), emulation (tcg), or neither (simulated).',
    }),
    architecture: Enum(architectures, { description: 'Processor architecture.' }),
    version: Type.String({ description: 'Version of the agent.' }),
    connection_filter: Type.Optional(
      Enum(connectionFilters, {
        description:
          'Connections that security groups filter on the host. `bridged`: all. `routed`: only routed ones, because the kernel has no br_netfilter; interfaces with security groups in networks of kind `bridged` stay closed. `none`: the host is simulated.',
      }),
    ),
    underlay: Type.Optional(
      Type.Object(
        {
          address: Type.String({ description: 'Address of the host in the underlay. Tunnels between hosts end here.' }),
          mtu: Whole({ description: 'MTU of the underlay.' }),
        },
        {
          additionalProperties: false,
          description: 'Link to the other hosts. Without it, networks end at this host.',
        },
      ),
    ),
    capacity: resources('Resources of the host for VMs.'),
    allocated: resources('Resources of the VMs that are placed on the host.'),
    bgp_sessions: Type.Array(
      Type.Object(
        { peer: Reference('bgp_peer', { description: 'The BGP peer.' }), ...sessionFields },
        { additionalProperties: false, description: 'Session with one peer.' },
      ),
      { 'x-volatile': true, description: 'BGP sessions of the host, as it reports them.' },
    ),
    ...common,
  },
});
export type Host = ItemType<typeof host>;
export type HostUpdate = UpdateType<typeof host>;

const example: Host = {
  id: exampleId('host'),
  name: 'rack1-node3',
  labels: { rack: '1' },
  draining: false,
  cordoned: false,
  cpu_overcommit: 4,
  memory_overcommit: 1,
  alive: true,
  hypervisor: 'qemu',
  accelerator: 'kvm',
  architecture: 'x86_64',
  underlay: { address: '2001:db8:f::3', mtu: 9000 },
  version: '0.1.0',
  connection_filter: 'bridged',
  capacity: { cpus: 64, memory: 274877906944, disk: 2199023255552 },
  allocated: { cpus: 12, memory: 25769803776, disk: 214748364800 },
  bgp_sessions: [{ peer: exampleId('bgp_peer'), state: 'established', since: '2026-01-01T00:00:00.000Z', imported: 1 }],
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 2,
};

// The agent creates the record of its host, so the API has no creation.
const { create: _create, ...endpoints } = crud(host, {
  read: 'operator',
  write: 'operator',
  scoped: false,
  deleteErrors: ['invalid_state'],
  example: { create: {}, item: example, update: { draining: true } },
});
/** The endpoints of hosts. */
export const hostEndpoints = endpoints;
