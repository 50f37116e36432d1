/** Random histories of objects that are charged, in a database in memory, and the uses that they declare. */
import fc from 'fast-check';
import { withOrders } from '../../backend/api/billing/order-commits.ts';
import { chargeablePrefixes, type Metered, partKey } from '../../backend/model/billing/meters.ts';
import type { Use } from '../../backend/model/billing/rating.ts';
import * as records from '../../backend/model/records/index.ts';
import { builtInPool } from '../../backend/model/storage/pool.ts';
import { parseRecord } from '../../backend/store/record-codec.ts';
import type { RecordKind, Stored } from '../../backend/store/record-kind.ts';
import type { Commit, Entry } from '../../backend/store/store.ts';

const GiB = 2 ** 30;
const project = 'prj-0000000000000001';
/** The servers of a history. Each has a clock of its own. */
export const servers = 3;

/** A database in memory: it checks the conditions of a commit, and makes all its writes or none. */
export class MemoryDatabase {
  readonly entries = new Map<string, Entry>();
  revision = 1;

  commit({ require = [], write }: Commit): boolean {
    const holds = require.every((condition) => {
      if ('prefix' in condition) return ![...this.entries.keys()].some((key) => key.startsWith(condition.prefix));
      const entry = this.entries.get(condition.key);
      return 'exists' in condition
        ? (entry !== undefined) === condition.exists
        : entry?.revision === condition.revision;
    });
    if (!holds) return false;
    const revision = ++this.revision;
    for (const one of write) {
      if ('put' in one) {
        const created = this.entries.get(one.put)?.created ?? revision;
        this.entries.set(one.put, { key: one.put, value: one.value, revision, created });
      } else if ('delete' in one) this.entries.delete(one.delete);
    }
    return true;
  }

  /** Returns the records of a kind. */
  list<S extends RecordKind>(kind: S): Stored<S['schema']['static']>[] {
    const found = [...this.entries.values()].filter(({ key }) => key.startsWith(kind.prefix));
    return found.map((entry) => parseRecord(kind, entry));
  }
}

const kinds = ['vm', 'volume', 'snapshot', 'prefix'] as const;
type Kind = (typeof kinds)[number];
const pools = [undefined, 'stp-0000000000000001', 'stp-0000000000000002'] as const;

/** The sizes of an object, from which each kind takes what it has. */
interface Shape {
  readonly cpus: number;
  readonly memory: number;
  readonly disk: number;
  readonly running: boolean;
  readonly pool: (typeof pools)[number];
}

/** A step: a wait, and an action on one of the objects. An action that is not possible is none. */
export interface Step {
  readonly wait: number;
  readonly object: number;
  readonly action: 'create' | 'resize' | 'stop' | 'start' | 'rename' | 'delete' | 'vanish';
  readonly shape: Shape;
  readonly server: number;
}

const shapes: fc.Arbitrary<Shape> = fc.record({
  cpus: fc.integer({ min: 1, max: 4 }),
  memory: fc.integer({ min: 1, max: 3 }),
  disk: fc.integer({ min: 0, max: 3 }),
  running: fc.boolean(),
  pool: fc.constantFrom(...pools),
});

/** Steps with waits in milliseconds. Many waits are zero, so that changes share an instant. */
export const steps = (longest: number, most: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record({
      wait: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, { weight: 3, arbitrary: fc.nat(longest) }),
      object: fc.nat(4),
      action: fc.constantFrom(
        ...(['create', 'create', 'resize', 'resize', 'stop', 'start', 'rename', 'delete', 'vanish'] as const),
      ),
      shape: shapes,
      server: fc.nat(servers - 1),
    }),
    { minLength: 1, maxLength: most },
  );

/** The clocks of the servers: the difference of each from the true time, in milliseconds, at each step. */
export const clocks = (most: number): fc.Arbitrary<readonly number[]> =>
  fc.oneof(
    fc.constant([0]),
    fc.array(fc.integer({ min: -most, max: most }), { minLength: servers, maxLength: 2 * servers + 1 }),
  );

const prefixOf: Readonly<Record<Kind, string>> = {
  vm: records.vms.prefix,
  volume: records.volumes.prefix,
  snapshot: records.snapshots.prefix,
  prefix: records.prefixes.prefix,
};
const idPrefix: Readonly<Record<Kind, string>> = { vm: 'vm', volume: 'vol', snapshot: 'snap', prefix: 'pfx' };

function recordOf(kind: Kind, id: string, name: string, { cpus, memory, disk, running, pool }: Shape): object {
  const common = { id, project, name, labels: { name } };
  if (kind === 'vm') {
    const power_state = running ? 'running' : 'stopped';
    return { ...common, cpus, memory: memory * GiB, disk_size: disk * GiB, power_state };
  }
  if (kind === 'volume') return { ...common, size: (disk + 1) * GiB, ...(pool && { pool }) };
  if (kind === 'prefix') return { ...common, length: 48 + 8 * (cpus % 3) };
  const disks = [{ size: cpus * GiB }, { size: memory * GiB, pool: pools[2] }];
  return { ...common, ...(pool && { pool }), disks: disks.slice(0, disk) };
}

/** Returns the quantities that the shape declares: the table of docs/guides, written a second time. */
function declared(kind: Kind, { cpus, memory, disk, running, pool }: Shape): Metered[] {
  if (kind === 'volume') return [{ meter: 'volume', pool: pool ?? builtInPool, quantity: (disk + 1) * GiB }];
  if (kind === 'prefix') return [{ meter: 'prefix', length: 48 + 8 * (cpus % 3), quantity: 1 }];
  if (kind === 'snapshot') {
    const own = pool ?? builtInPool;
    const [first, second] = [disk > 0 ? cpus * GiB : 0, disk > 1 ? memory * GiB : 0];
    const sizes =
      own === pools[2]
        ? [[own, first + second] as const]
        : ([
            [own, first],
            [pools[2], second],
          ] as const);
    return sizes.flatMap(([each, quantity]) => (quantity > 0 ? [{ meter: 'snapshot', pool: each, quantity }] : []));
  }
  return [
    { meter: 'vm', quantity: 1 },
    { meter: 'vm_cpu', quantity: cpus },
    { meter: 'vm_memory', quantity: memory * GiB },
    ...(disk > 0 ? [{ meter: 'vm_disk', quantity: disk * GiB } as const] : []),
    ...(running
      ? ([
          { meter: 'running_vm', quantity: 1 },
          { meter: 'running_cpu', quantity: cpus },
          { meter: 'running_memory', quantity: memory * GiB },
        ] as const)
      : []),
  ];
}

interface Living {
  readonly kind: Kind;
  readonly id: string;
  readonly shape: Shape;
  readonly name: string;
  /** The latest instant of a change of its order. */
  at: number;
  /** The deletion is asked for; the record is still there. */
  leaving: boolean;
}

/** The result of a history. */
export interface History {
  readonly database: MemoryDatabase;
  /** The declared uses. A use that goes on has no end. */
  readonly declared: readonly Use[];
  /** The number of commits that changed an order. */
  readonly changes: number;
}

/** Carries out a history. `check` sees the database after each commit, and the objects that are charged then. */
export function play(
  steps: readonly Step[],
  skews: readonly number[],
  begin: number,
  check: (database: MemoryDatabase, charged: ReadonlyMap<string, readonly Metered[]>) => void = () => undefined,
): History {
  const database = new MemoryDatabase();
  const objects = new Map<number, Living>();
  const uses: Use[] = [];
  const open = new Map<string, Map<string, number>>();
  let made = 0;
  let changes = 0;
  let now = begin;

  /** Notes the quantities of an object from an instant on: each use that does not stay ends and another begins. */
  const note = (id: string, quantities: readonly Metered[], at: number): boolean => {
    const running = open.get(id) ?? new Map<string, number>();
    open.set(id, running);
    const wanted = new Map(quantities.map((each) => [partKey(each), each]));
    let isChange = false;
    for (const [key, index] of running) {
      const use = uses[index] as Use;
      if (wanted.get(key)?.quantity === use.quantity) wanted.delete(key);
      else {
        uses[index] = { ...use, to: at };
        running.delete(key);
        isChange = true;
      }
    }
    for (const [key, each] of wanted) {
      running.set(key, uses.push({ ...each, resource: id, from: at }) - 1);
      isChange = true;
    }
    return isChange;
  };

  const find = (object: string) => database.list(records.orders).find(({ value }) => value.object === object);
  const write = (living: Living, record: object | undefined, clock: number) => {
    const key = `${prefixOf[living.kind]}${living.id}`;
    const before = database.entries.get(key);
    const commit: Commit = {
      require: [before ? { key, revision: before.revision } : { key, exists: false }],
      write: [record ? { put: key, value: JSON.stringify(record) } : { delete: key }],
    };
    if (
      !database.commit(
        withOrders(commit, { order: find, running: () => undefined, termOf: () => undefined }, new Date(clock)),
      )
    )
      throw new Error('the commit failed');
  };

  for (const [index, step] of steps.entries()) {
    now += step.wait;
    const clock = now + (skews[(index * 7 + step.server) % skews.length] ?? 0);
    const known = objects.get(step.object);
    let living = known;
    if (step.action === 'create') {
      if (known) continue;
      const kind = kinds[step.object % kinds.length] ?? 'vm';
      const id = `${idPrefix[kind]}-${String(made++).padStart(16, '0')}`;
      living = { kind, id, name: `n-${index}`, shape: step.shape, at: Number.NEGATIVE_INFINITY, leaving: false };
    } else if (!known) continue;
    else if (step.action === 'vanish') {
      if (!known.leaving) continue;
      write(known, undefined, clock);
      objects.delete(step.object);
      living = undefined;
    } else if (known.leaving) continue;
    else if (step.action === 'delete') living = { ...known, leaving: true };
    else if (step.action === 'rename') living = { ...known, name: `r-${index}` };
    // The length of a prefix and the disks of a snapshot never change.
    else if (known.kind === 'prefix' || known.kind === 'snapshot') continue;
    else if (step.action === 'resize') {
      const { running } = known.shape;
      const pool = known.shape.pool;
      living = { ...known, shape: { ...step.shape, running, pool } };
    } else living = { ...known, shape: { ...known.shape, running: step.action === 'start' } };
    if (living) {
      const record = recordOf(living.kind, living.id, living.name, living.shape);
      write(living, { ...record, ...(living.leaving && { deleted_at: new Date(clock).toISOString() }) }, clock);
      const quantities = living.leaving ? [] : declared(living.kind, living.shape);
      // Clocks differ: a change never comes before the last one of its object.
      const at = Math.max(clock, living.at);
      if (note(living.id, quantities, at)) {
        living.at = at;
        changes++;
      }
      objects.set(step.object, living);
    }
    const charged = [...objects.values()].filter(({ leaving }) => !leaving);
    const all = charged.map(({ id, kind, shape }) => [id, declared(kind, shape)] as const);
    check(database, new Map(all.filter(([, quantities]) => quantities.length > 0)));
  }
  return { database, declared: uses, changes };
}

/** Returns the uses of a database: the ended ones, and those of open orders. */
export function usesIn(database: MemoryDatabase): Use[] {
  const parse = ({ since, ...item }: records.OrderRecord['use'][number]) => ({ ...item, from: Date.parse(since) });
  return [
    ...database
      .list(records.usage)
      .flatMap(({ value: { resource, until, uses } }) =>
        uses.map((each): Use => ({ ...parse(each), resource, to: Date.parse(until) })),
      ),
    ...database
      .list(records.orders)
      .flatMap(({ value: { id, object, use } }) =>
        use.map((each): Use => ({ ...parse(each), resource: object ?? id })),
      ),
  ];
}

/** Returns the ids of the objects in the database whose kind is charged. */
export const objectsIn = (database: MemoryDatabase): string[] =>
  [...database.entries.keys()].flatMap((key) => {
    const prefix = chargeablePrefixes.find((each) => key.startsWith(each));
    return prefix === undefined ? [] : [key.slice(prefix.length)];
  });
