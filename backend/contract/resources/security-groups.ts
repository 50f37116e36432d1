import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import {
  common,
  DeleteProtection,
  Description,
  Enum,
  exampleId,
  IdOf,
  Ipv6Prefix,
  LabelSelector,
  Labels,
  Name,
  Reference,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The directions of a rule, from the view of the VM. */
export const directions = ['ingress', 'egress'] as const;
export type Direction = (typeof directions)[number];

/** The protocols of a rule, with their numbers (IANA, protocol numbers). */
export const protocolNumbers = { any: undefined, tcp: 6, udp: 17, sctp: 132, icmpv6: 58, esp: 50, gre: 47 } as const;
export type Protocol = keyof typeof protocolNumbers;
const protocols = Object.keys(protocolNumbers) as Protocol[];

/** The protocols with ports. */
export const protocolsWithPorts: readonly Protocol[] = ['tcp', 'udp', 'sctp'];

const Rule = Type.Object(
  {
    direction: Enum(directions, {
      description: '`ingress`: connections to the VM. `egress`: connections from the VM.',
    }),
    protocol: Enum(protocols, { description: 'Protocol. `any`: all protocols and ports.' }),
    ports: Type.Optional(
      Type.Array(
        Type.String({
          pattern: '^[0-9]{1,5}(-[0-9]{1,5})?$',
          'x-rule': 'a port or a range of ports, such as `443` or `8000-8010`',
        }),
        {
          minItems: 1,
          maxItems: 64,
          uniqueItems: true,
          description:
            'Destination ports: single ones and ranges, such as `443` and `8000-8010`. Only with `tcp`, `udp` and `sctp`. Default: all ports.',
        },
      ),
    ),
    icmp_types: Type.Optional(
      Type.Array(Type.Integer({ minimum: 0, maximum: 255 }), {
        minItems: 1,
        maxItems: 64,
        uniqueItems: true,
        description:
          'Types of ICMPv6 (RFC 4443), such as 128 for echo requests. Only with `icmpv6`. Default: all types. The messages that IPv6 needs always pass.',
      }),
    ),
    prefixes: Type.Optional(
      Type.Array(Ipv6Prefix(), {
        minItems: 1,
        maxItems: 64,
        uniqueItems: true,
        description: 'The other side: addresses in these prefixes. `::/0` stands for all addresses.',
      }),
    ),
    security_group: Type.Optional(
      Reference('security_group', { description: 'The other side: interfaces with this security group.' }),
    ),
    self: Type.Optional(
      Type.Boolean({ description: 'The other side, if true: the other interfaces with the same security group.' }),
    ),
    vm_selector: Type.Optional(
      LabelSelector({
        description:
          'The other side: interfaces of the VMs of the project whose labels match, in the syntax of Kubernetes, such as `tier=web`.',
      }),
    ),
    description: Type.Optional(Description),
  },
  { additionalProperties: false },
);

/** The resource of security groups. */
export const securityGroup = resource({
  noun: 'security_group',
  plural: 'security-groups',
  description:
    'Rules for the connections of interfaces. An interface has the groups that it names, and those whose `vm_selector` selects its VM. A connection is allowed if a rule of any of its groups allows it, and its answers are allowed too. Without a rule, connections to the VM are refused. A changed rule also applies to established connections.',
  immutable: {
    project: Reference('project', { description: 'Default: the project of the token.' }),
  },
  mutable: {
    name: Name(),
    description: Description,
    labels: Labels,
    default_egress: Enum(['allow', 'deny'], {
      default: 'allow',
      description:
        'Connections from the VM without a rule. `allow`: the group allows all of them. `deny`: only those of its `egress` rules. If an interface has several groups, it may open each connection that one of them allows.',
    }),
    rules: Type.Array(Rule, {
      maxItems: 1_000,
      default: [],
      description:
        'The allowed connections. Each rule names the other side by exactly one of `prefixes`, `security_group`, `self` and `vm_selector`.',
    }),
    vm_selector: Type.Optional(
      LabelSelector({
        description:
          'Label selector for VMs of the project: the group belongs to all their interfaces, beside the groups that these name.',
      }),
    ),
    delete_protection: DeleteProtection,
  },
  readonly: { id: IdOf('security_group'), ...common },
  defaulted: ['description', 'labels', 'default_egress', 'rules', 'delete_protection'],
  optional: ['project', 'vm_selector'],
});
export type SecurityGroup = ItemType<typeof securityGroup>;
export type SecurityGroupCreate = CreateType<typeof securityGroup>;
export type SecurityGroupBody = BodyType<typeof securityGroup>;
export type SecurityGroupUpdate = UpdateType<typeof securityGroup>;
/** A rule, as users declare it. */
export type SecurityRule = SecurityGroup['rules'][number];

const example: SecurityGroup = {
  id: exampleId('security_group'),
  project: exampleId('project'),
  name: 'web',
  description: '',
  labels: {},
  default_egress: 'allow',
  rules: [
    { direction: 'ingress', protocol: 'tcp', ports: ['80', '443'], prefixes: ['::/0'] },
    { direction: 'ingress', protocol: 'icmpv6', icmp_types: [128], prefixes: ['::/0'] },
    { direction: 'ingress', protocol: 'any', self: true },
  ],
  vm_selector: 'tier=web',
  delete_protection: false,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 41,
};

/** The endpoints of security groups. */
export const securityGroupEndpoints = crud(securityGroup, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  updateErrors: ['invalid_reference'],
  deleteErrors: ['delete_protected'],
  example: {
    create: { name: 'web', rules: example.rules, vm_selector: 'tier=web' },
    item: example,
    update: { vm_selector: 'tier in (web,api)' },
  },
});
