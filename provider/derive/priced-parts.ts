/** The fields of objects that cost money, for quotes. */
import type { Client } from '../client/client.ts';
import type { Item } from '../client/item.ts';
import { isWhollyKnown, UNKNOWN, type Values } from '../framework/index.ts';
import { parsePrefix } from '../net/ipv6.ts';
import type { PlanSession } from '../plan-session/plan-session.ts';
import type { PricedPart } from '../plan-session/quotes.ts';
import { schemaOf } from '../schema/resources.gen.ts';
import { requestValue } from './attributes.ts';

/** Finds objects that others refer to. */
export interface Finder {
  readonly session: PlanSession | undefined;
  readonly client: Client | undefined;
  readonly signal: AbortSignal;
}

/** Returns the parts of an object; undefined if a quantity is not known yet. */
type PartsOf = (values: Values, finder: Finder) => Promise<readonly PricedPart[] | undefined>;

const find = (
  noun: Parameters<typeof schemaOf>[0],
  id: unknown,
  { session, signal }: Finder,
): Promise<Item | undefined> =>
  typeof id === 'string' && session ? session.find(schemaOf(noun).path, id, signal) : Promise.resolve(undefined);

/** Returns the fields in the form of the API; undefined if one is unknown or missing. */
function known(noun: Parameters<typeof schemaOf>[0], values: Values, names: readonly string[]): object | undefined {
  const { fields } = schemaOf(noun);
  const found: Record<string, unknown> = {};
  for (const name of names) {
    const [field, value] = [fields[name], values[name] ?? null];
    if (!field || value === null || !isWhollyKnown(value)) return undefined;
    found[name] = requestValue(field, value);
  }
  return found;
}

const vmParts: PartsOf = async (values, finder) => {
  const size = known('vm', values, ['cpus', 'memory', 'power_state']);
  if (!size) return undefined;
  const part = (disk: object): PricedPart[] => [{ kind: 'vms', fields: { ...size, ...disk } }];
  // The volume of the root disk costs money itself.
  if ((values.root_volume ?? null) !== null) return part({});
  const disk = known('vm', values, ['disk_size']);
  if (disk) return part(disk);
  const image = await find('image', values.image, finder);
  return typeof image?.size === 'string' ? part({ disk_size: image.size }) : undefined;
};

const volumeParts: PartsOf = async (values, finder) => {
  const size = known('volume', values, ['size']);
  if (!size) return undefined;
  const part = (pool: object): PricedPart[] => [{ kind: 'volumes', fields: { ...size, ...pool } }];
  const pool = values.pool ?? null;
  if (typeof pool === 'string') return part({ pool });
  // A copy lies in the pool of its source. Any other volume lies in the default pool.
  for (const [noun, name] of [
    ['snapshot', 'snapshot'],
    ['volume', 'source_volume'],
  ] as const) {
    if ((values[name] ?? null) === null) continue;
    const source = await find(noun, values[name], finder);
    return typeof source?.pool === 'string' ? part({ pool: source.pool }) : undefined;
  }
  return part({});
};

/** The disks of a snapshot are known after its creation: the source may grow before. */
const snapshotParts: PartsOf = async ({ pool, disks }) => {
  if (!Array.isArray(disks) || !isWhollyKnown(disks)) return undefined;
  return disks.map((disk): PricedPart => {
    const own = disk as Readonly<Record<string, unknown>>;
    return { kind: 'snapshots', fields: { size: own.size, pool: own.pool ?? pool } };
  });
};

const prefixParts: PartsOf = async ({ length, cidr, pool }, finder) => {
  const part = (known: unknown): PricedPart[] | undefined =>
    typeof known === 'number' ? [{ kind: 'prefixes', fields: { length: known } }] : undefined;
  if (typeof length === 'number') return part(length);
  if ((cidr ?? null) !== null && cidr !== UNKNOWN) return part(parsePrefix(String(cidr))?.length);
  if (typeof pool === 'string') return part((await find('prefix_pool', pool, finder))?.default_length);
  return undefined;
};

/** The kinds of resources that cost money. */
export const pricedParts: Readonly<Record<string, PartsOf>> = {
  vm: vmParts,
  volume: volumeParts,
  snapshot: snapshotParts,
  prefix: prefixParts,
};
