/**
 * A capacity check is a dry run for a whole plan. Most planned objects refer to others that do not exist yet, so a dry
 * run of their creation is impossible. Their amounts are known.
 */
import { type Static, type TInteger, type TOptional, Type } from '@sinclair/typebox';
import type { Endpoint } from '../endpoint.ts';
import { Enum, exampleId, idPrefixes, Reference, Size, Whole } from '../fields.ts';
import { architectures } from './images.ts';
import { type PlannedObject, plannedObjects } from './quotas.ts';
import { quotedObjects } from './quotes.ts';
import { AntiAffinityCreate, HostSelector } from './vms.ts';

/** The maximum number of VMs in one check. */
export const maxVms = 5000;
const maxOthers = 100_000;

const PlannedVm = Type.Object(
  {
    count: Type.Optional(
      Type.Integer({ minimum: 1, maximum: maxVms, default: 1, description: 'Number of such VMs to be created.' }),
    ),
    vm: Type.Optional(
      Reference('vm', {
        description: 'The VM to be changed. Omitted fields keep their values. `count` is then 1.',
      }),
    ),
    image: Type.Optional(
      Reference('image', {
        description: 'Image of the VMs. It determines the architecture, and the default size of the disk.',
      }),
    ),
    architecture: Type.Optional(
      Enum(architectures, { description: 'Architecture if there is no `image` yet. Default: every architecture.' }),
    ),
    cpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 256, description: 'Virtual processors. Default: 1.' })),
    memory: Type.Optional(Size({ description: 'Main memory. Default: `512MiB`.' })),
    disk_size: Type.Optional(
      Size({
        description: 'Size of the disk. Default: that of the image; if that is unknown, the check ignores the disk.',
      }),
    ),
    anti_affinity: Type.Optional(AntiAffinityCreate),
    host_selector: Type.Optional(HostSelector),
  },
  { additionalProperties: false },
);

/** A number for each other kind of object. */
const others = Object.fromEntries(
  Object.entries(plannedObjects).map(([kind, text]) => [
    kind,
    Type.Optional(Type.Integer({ minimum: 0, maximum: maxOthers, default: 0, description: `${text} to be created.` })),
  ]),
) as Record<PlannedObject, TOptional<TInteger>>;

const costObjects = (description: string) =>
  Type.Optional(
    Type.Object(quotedObjects, {
      additionalProperties: false,
      description,
    }),
  );

/** The schema of a capacity check. */
export const CapacityCheck = Type.Object(
  {
    project: Type.Optional(Reference('project', { description: 'Default: the project of the token.' })),
    vms: Type.Optional(
      Type.Array(PlannedVm, {
        maxItems: 1000,
        default: [],
        description: `VMs to be created or changed, in this order: each VM reduces the capacity for the next. At most ${maxVms} in total.`,
      }),
    ),
    ...others,
    added: costObjects(
      'Objects that the plan adds, with their sizes, for the budget. An object that the plan changes is in `added` with its new size, and in `removed` with its old one. `vms` and the numbers above do not count for the budget.',
    ),
    removed: costObjects('Objects that the plan removes, with their sizes, for the budget.'),
    leaving: Type.Optional(
      Type.Array(
        Type.String({
          pattern: `^(${Object.values(idPrefixes).join('|')})-[0-9a-hjkmnp-tv-z]{16}$`,
          'x-rule': 'an id',
        }),
        {
          maxItems: maxVms,
          uniqueItems: true,
          default: [],
          description: 'Ids of objects that will be deleted before. Objects of other projects have no effect.',
        },
      ),
    ),
  },
  { additionalProperties: false, title: 'CapacityCheck' },
);
export type CapacityCheck = Static<typeof CapacityCheck>;
export type PlannedVm = Static<typeof PlannedVm>;

/** The reasons of a refusal. */
export const refusalReasons = [
  'quota_exceeded',
  'no_host',
  'host_full',
  'budget_exceeded',
  'billing_account_required',
  'account_empty',
] as const;

const Refusal = Type.Object(
  {
    pointer: Type.String({
      description: 'JSON pointer (RFC 6901) to the field of the request that exceeds the capacity.',
    }),
    first: Whole({ description: 'Number of objects of that item before the first refused one.' }),
    count: Whole({ minimum: 1, description: 'Number of objects from there on that are refused for this reason.' }),
    reason: Enum(refusalReasons, {
      description:
        'quota_exceeded: the API would refuse the creation or change. no_host: the VM would be created and wait for a host. host_full: the VM would keep its current size. budget_exceeded, billing_account_required, account_empty: the API would refuse the last creations or changes, or all creations.',
    }),
    message: Type.String({ description: 'Text for people.' }),
  },
  { additionalProperties: false },
);

/** The schema of the result of a capacity check. */
export const CapacityCheckResult = Type.Object(
  {
    refusals: Type.Array(Refusal, { description: 'Refused parts of the plan; empty if the capacity is sufficient.' }),
    revision: Whole({ description: 'Revision of the database that the response shows.' }),
  },
  { additionalProperties: false, title: 'CapacityCheckResult' },
);
export type CapacityCheckResult = Static<typeof CapacityCheckResult>;

/** The endpoints of capacity checks. */
export const capacityCheckEndpoints = {
  check: {
    id: 'capacity_check',
    method: 'POST',
    path: '/v1/capacity-checks',
    tag: 'capacity-checks',
    summary: 'Check the capacity for a plan',
    description:
      'Returns the parts of a plan that the quota or the budget of the project would refuse, and the VMs that would find no host. The check considers the whole plan. It changes nothing and reserves nothing.',
    access: 'viewer',
    body: CapacityCheck,
    bodyExample: {
      vms: [
        { count: 3, cpus: 2, memory: '4GiB', disk_size: '20GiB' },
        { vm: exampleId('vm'), memory: '8GiB' },
      ],
      networks: 1,
    },
    success: {
      status: 200,
      description: 'The refused parts of the plan.',
      schema: CapacityCheckResult,
      example: {
        refusals: [
          {
            pointer: '/vms/0/memory',
            first: 2,
            count: 1,
            reason: 'no_host',
            message: 'needs 4GiB of memory, largest free host has 3GiB',
          },
        ],
        revision: 42,
      },
    },
    errors: ['invalid_reference', 'rule_violated', 'payload_too_large', 'unsupported_media_type'],
  },
} as const satisfies Record<string, Endpoint>;
