/** The kinds of a quota. Each kind has a limit, and the amount that the project uses. */
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

/** All kinds, in the order of the documentation. */
const kinds = {
  vms: counted('VM', 'VMs', 'VMs, including stopped ones and those being deleted.'),
  cpus: counted('cpu', 'cpus', 'Declared virtual processors of all VMs.'),
  memory: sized('of memory', 'Declared main memory of all VMs.'),
  disk: sized('of disk', 'Declared disks of all VMs, volumes and snapshots.'),
  volumes: counted('volume', 'volumes', 'Volumes, including those being deleted.', 'Volumes'),
  snapshots: counted('snapshot', 'snapshots', 'Snapshots, including those being deleted.', 'Snapshots'),
  snapshot_schedules: counted('snapshot schedule', 'snapshot schedules', 'Snapshot schedules.', 'Snapshot schedules'),
  networks: counted('network', 'networks', 'Networks.', 'Networks'),
  prefixes: counted('prefix', 'prefixes', 'Prefixes.', 'Prefixes'),
  prefix_routes: counted('prefix route', 'prefix routes', 'Prefix routes.', 'Prefix routes'),
  security_groups: counted('security group', 'security groups', 'Security groups.', 'Security groups'),
  subnets: counted(
    '/64 in its prefixes',
    '/64s in its prefixes',
    'IPv6 space: the number of /64s in all prefixes. A /56 contains 256.',
    '/64s in the prefixes',
  ),
  files: counted('file', 'files', 'Files, including those of unfinished uploads.'),
  file_bytes: sized('of files', 'Size of all files, including the declared sizes of unfinished uploads.'),
  images: counted('image', 'images', 'Images, including public ones.', 'Images'),
  ssh_keys: counted('SSH key', 'SSH keys', 'SSH keys.', 'SSH keys'),
  tokens: counted('token', 'tokens', 'Tokens, including expired ones.', 'Tokens'),
  terraform_states: counted('Terraform state', 'Terraform states', 'Terraform states.', 'Terraform states'),
  terraform_state_size: sized(
    'of Terraform states',
    'Compressed size of all kept versions of all Terraform states. If a new version exceeds the limit, old versions of the same state are removed first.',
  ),
} as const;

type Kinds = typeof kinds;
/** A kind of a quota. */
export type QuotaKind = keyof Kinds;
type KindWith<Property> = { [K in QuotaKind]: Kinds[K] extends Property ? K : never }[QuotaKind];

export const quotaKinds = Object.keys(kinds) as QuotaKind[];

/** Tells whether the amounts of the kind are bytes. */
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

/** The schema of the limits of a project. */
export const Quota = Type.Unsafe<Partial<Each<number, string>>>(
  Type.Object(
    each(
      (description) => Type.Optional(Whole({ description })),
      (description) => Type.Optional(Size({ description })),
    ),
    {
      additionalProperties: false,
      description:
        'Maximum amounts of the project. Omitted kinds have no limit. Default: `default_quota` of the settings of the cloud. A lower limit removes nothing; it only prevents further increases.',
    },
  ),
);
export type Quota = Static<typeof Quota>;

const Used = Type.Unsafe<Each<number, string>>(
  Type.Object(
    each(
      (description) => Whole({ description }),
      // This is not a Size, because a Size is at least 1 MiB.
      (description) => Type.String({ pattern: '^[0-9]+(MiB|GiB|TiB)$', description }),
    ),
    { additionalProperties: false, description: 'Amounts that the project uses.' },
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
    revision: Whole({ description: 'Revision of the database that the response shows.' }),
  },
  { additionalProperties: false, title: 'ProjectUsage' },
);
export type ProjectUsage = Static<typeof ProjectUsage>;
