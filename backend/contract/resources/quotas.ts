/** What an operator can limit in a project, each once: as a limit, and as the amount that the project has. */
import { type Static, Type } from '@sinclair/typebox';
import { Reference, Size, Whole } from '../fields.ts';

const counted = {
  vms: 'VMs, those that are stopped or being deleted included.',
  cpus: 'Virtual processors of all VMs together, as declared.',
  networks: 'Networks.',
  prefixes: 'Prefixes.',
  subnets: 'IPv6 space: the /64s in all prefixes together. A /56 has 256.',
  images: 'Images, those that are public included.',
  ssh_keys: 'SSH keys.',
  tokens: 'Tokens, expired ones included.',
  terraform_states: 'States of Terraform.',
} as const;
const sized = {
  memory: 'Main memory of all VMs together, as declared.',
  disk: 'Disks of all VMs together, as declared.',
  terraform_state_size:
    'All kept versions of all states of Terraform together, compressed as they are stored. Where there is no room for a new version, old versions of the same state go first.',
} as const;

/** In the order in which people read of them. */
export const quotaKinds = [
  'vms',
  'cpus',
  'memory',
  'disk',
  'networks',
  'prefixes',
  'subnets',
  'images',
  'ssh_keys',
  'tokens',
  'terraform_states',
  'terraform_state_size',
] as const satisfies readonly QuotaKind[];
export type QuotaKind = keyof typeof counted | keyof typeof sized;

/** The kinds that count objects other than VMs: a capacity check takes a number of each. The text tells which. */
export const plannedObjects = {
  networks: 'Networks',
  prefixes: 'Prefixes',
  subnets: '/64s in the prefixes',
  images: 'Images',
  ssh_keys: 'SSH keys',
  tokens: 'Tokens',
  terraform_states: 'States of Terraform',
} as const satisfies Partial<Record<keyof typeof counted, string>>;
export type PlannedObject = keyof typeof plannedObjects;

export const isSized = (kind: QuotaKind): kind is keyof typeof sized => Object.hasOwn(sized, kind);

type Each<C, S> = { [K in keyof typeof counted]: C } & { [K in keyof typeof sized]: S };

const each = <C, S>(count: (text: string) => C, size: (text: string) => S): Record<string, C | S> =>
  Object.fromEntries(
    quotaKinds.map((kind) => [kind, isSized(kind) ? size(sized[kind]) : count(counted[kind as keyof typeof counted])]),
  );

export const Quota = Type.Unsafe<Partial<Each<number, string>>>(
  Type.Object(
    each(
      (description) => Type.Optional(Whole({ description })),
      (description) => Type.Optional(Size({ description })),
    ),
    {
      additionalProperties: false,
      description:
        'The most that the project may have of each; what is left out is not limited. Default: `default_quota` of the settings of the cloud. Only growth is refused: what is there when a limit is lowered stays.',
    },
  ),
);
export type Quota = Static<typeof Quota>;

const Used = Type.Unsafe<Each<number, string>>(
  Type.Object(
    each(
      (description) => Whole({ description }),
      // Not a Size: those begin at 1 MiB.
      (description) => Type.String({ pattern: '^[0-9]+(MiB|GiB|TiB)$', description }),
    ),
    { additionalProperties: false, description: 'What it has.' },
  ),
);
export type Used = Static<typeof Used>;

export const ProjectUsage = Type.Object(
  {
    project: Reference('project', { description: 'The project.' }),
    quota: Quota,
    used: Used,
    revision: Whole({ description: 'Revision of the database that the answer shows.' }),
  },
  { additionalProperties: false, title: 'ProjectUsage' },
);
export type ProjectUsage = Static<typeof ProjectUsage>;
