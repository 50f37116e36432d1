/** What an operator can limit in a project, each once: as a limit, and as the amount that the project has. */
import { type Static, Type } from '@sinclair/typebox';
import { Reference, Size, Whole } from '../fields.ts';

/** A number of objects or processors. `planned` tells which objects a capacity check takes by number alone. */
const counted = <const Planned extends string | undefined = undefined>(
  one: string,
  many: string,
  description: string,
  planned?: Planned,
) => ({ sized: false, one, many, description, planned }) as const;

/** An amount of bytes. `of` completes "16GiB …". */
const sized = (of: string, description: string) =>
  ({ sized: true, one: of, many: of, description, planned: undefined }) as const;

/** In the order in which people read of them. */
const kinds = {
  vms: counted('VM', 'VMs', 'VMs, those that are stopped or being deleted included.'),
  cpus: counted('cpu', 'cpus', 'Virtual processors of all VMs together, as declared.'),
  memory: sized('of memory', 'Main memory of all VMs together, as declared.'),
  disk: sized('of disk', 'Disks of all VMs together, as declared.'),
  networks: counted('network', 'networks', 'Networks.', 'Networks'),
  prefixes: counted('prefix', 'prefixes', 'Prefixes.', 'Prefixes'),
  subnets: counted(
    '/64 in its prefixes',
    '/64s in its prefixes',
    'IPv6 space: the /64s in all prefixes together. A /56 has 256.',
    '/64s in the prefixes',
  ),
  images: counted('image', 'images', 'Images, those that are public included.', 'Images'),
  ssh_keys: counted('SSH key', 'SSH keys', 'SSH keys.', 'SSH keys'),
  tokens: counted('token', 'tokens', 'Tokens, expired ones included.', 'Tokens'),
  terraform_states: counted('state of Terraform', 'states of Terraform', 'States of Terraform.', 'States of Terraform'),
  terraform_state_size: sized(
    'of states of Terraform',
    'All kept versions of all states of Terraform together, compressed as they are stored. Where there is no room for a new version, old versions of the same state go first.',
  ),
} as const;

type Kinds = typeof kinds;
export type QuotaKind = keyof Kinds;
type KindWith<Property> = { [K in QuotaKind]: Kinds[K] extends Property ? K : never }[QuotaKind];

export const quotaKinds = Object.keys(kinds) as QuotaKind[];

export const isSized = (kind: QuotaKind): kind is KindWith<{ sized: true }> => kinds[kind].sized;

/** Returns the words for an amount in a sentence: `VMs`, `of memory`. */
export const quotaWords = (kind: QuotaKind, amount: number): string => kinds[kind][amount === 1 ? 'one' : 'many'];

/** The kinds of objects that a capacity check takes by number alone, with their words. */
export type PlannedObject = KindWith<{ planned: string }>;
export const plannedObjects = Object.fromEntries(
  quotaKinds.flatMap((kind) => (kinds[kind].planned === undefined ? [] : [[kind, kinds[kind].planned]])),
) as Record<PlannedObject, string>;

type Each<C, S> = { [K in QuotaKind]: Kinds[K] extends { sized: true } ? S : C };

const each = <C, S>(count: (text: string) => C, size: (text: string) => S): Record<string, C | S> =>
  Object.fromEntries(quotaKinds.map((kind) => [kind, (kinds[kind].sized ? size : count)(kinds[kind].description)]));

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

/** For examples: a project with nothing. */
export const nothingUsed = Object.fromEntries(quotaKinds.map((kind) => [kind, kinds[kind].sized ? '0MiB' : 0])) as Used;

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
