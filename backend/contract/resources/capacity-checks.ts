/**
 * A dry run for what is still being planned: most of it refers to things that are not there yet, so it cannot be a
 * creation that stops short of the end. What can be known is how much it takes.
 */
import { type Static, type TInteger, type TOptional, Type } from '@sinclair/typebox';
import type { Endpoint } from '../endpoint.ts';
import { Enum, exampleId, idPrefixes, Reference, Size, Whole } from '../fields.ts';
import { architectures } from './images.ts';
import { type PlannedObject, plannedObjects } from './quotas.ts';
import { AntiAffinityCreate } from './vms.ts';

/** VMs of all `vms` together. */
export const maxVms = 5000;
const maxOthers = 100_000;

const PlannedVm = Type.Object(
  {
    count: Type.Optional(
      Type.Integer({ minimum: 1, maximum: maxVms, default: 1, description: 'How many of them are to be created.' }),
    ),
    vm: Type.Optional(
      Reference('vm', {
        description: 'The VM that is to be changed, and has what is left out here. `count` is 1 then.',
      }),
    ),
    image: Type.Optional(
      Reference('image', { description: 'Tells the architecture, and the size of the disk where that is left out.' }),
    ),
    architecture: Type.Optional(
      Enum(architectures, { description: 'Where there is no `image` yet. Default: any will do.' }),
    ),
    cpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 256, description: 'Virtual processors. Default: 1.' })),
    memory: Type.Optional(Size({ description: 'Main memory. Default: `512MiB`.' })),
    disk_size: Type.Optional(
      Size({
        description: 'Size of the disk. Default: that of the image; if that is not known, the disk is left out.',
      }),
    ),
    anti_affinity: Type.Optional(AntiAffinityCreate),
  },
  { additionalProperties: false },
);

/** A number for each kind of other objects. */
const others = Object.fromEntries(
  Object.entries(plannedObjects).map(([kind, text]) => [
    kind,
    Type.Optional(Type.Integer({ minimum: 0, maximum: maxOthers, default: 0, description: `${text} to be created.` })),
  ]),
) as Record<PlannedObject, TOptional<TInteger>>;

export const CapacityCheck = Type.Object(
  {
    project: Type.Optional(Reference('project', { description: 'Default: the project of the token.' })),
    vms: Type.Optional(
      Type.Array(PlannedVm, {
        maxItems: 1000,
        default: [],
        description: `VMs to be created or changed, in this order: each finds less room than the one before. At most ${maxVms} in all.`,
      }),
    ),
    ...others,
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
          description: 'Ids of objects that will be gone by then. What is not of the project counts for nothing.',
        },
      ),
    ),
  },
  { additionalProperties: false, title: 'CapacityCheck' },
);
export type CapacityCheck = Static<typeof CapacityCheck>;
export type PlannedVm = Static<typeof PlannedVm>;

export const refusalReasons = ['quota_exceeded', 'no_host', 'host_full'] as const;

const Refusal = Type.Object(
  {
    pointer: Type.String({ description: 'JSON pointer (RFC 6901) into the request: what there is too much of.' }),
    first: Whole({ description: 'How many of that item come before the first that is refused.' }),
    count: Whole({ minimum: 1, description: 'How many from there on are refused for this reason.' }),
    reason: Enum(refusalReasons, {
      description:
        'quota_exceeded: the creation or change would be refused. no_host: a VM would be created, and wait for a host. host_full: a VM would go on with the size it has.',
    }),
    message: Type.String({ description: 'The same for people.' }),
  },
  { additionalProperties: false },
);

export const CapacityCheckResult = Type.Object(
  {
    refusals: Type.Array(Refusal, { description: 'What there is no room for; empty if there is for all.' }),
    revision: Whole({ description: 'Revision of the database that the answer shows.' }),
  },
  { additionalProperties: false, title: 'CapacityCheckResult' },
);
export type CapacityCheckResult = Static<typeof CapacityCheckResult>;

export const capacityCheckEndpoints = {
  check: {
    id: 'capacity_check',
    method: 'POST',
    path: '/v1/capacity-checks',
    tag: 'capacity-checks',
    summary: 'Check whether there is room for what is planned',
    description:
      'Says what of a plan the quota of the project would refuse, and which VMs would find no host, all of the plan taken together. Changes nothing and promises nothing: others may be faster.',
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
      description: 'What there is no room for.',
      schema: CapacityCheckResult,
      example: {
        refusals: [
          {
            pointer: '/vms/0/memory',
            first: 2,
            count: 1,
            reason: 'no_host',
            message: 'needs 4 GiB of memory, largest free host has 3 GiB',
          },
        ],
        revision: 42,
      },
    },
    errors: ['invalid_reference', 'rule_violated', 'payload_too_large', 'unsupported_media_type'],
  },
} as const satisfies Record<string, Endpoint>;
