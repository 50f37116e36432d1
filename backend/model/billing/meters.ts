/** The quantities that records put on meters. Pure. */
import type { Meter, MeterPart } from '../../contract/resources/meters.ts';
import { snapshotSize } from '../quota/amounts.ts';
import * as records from '../records/index.ts';
import { builtInPool } from '../storage/pool.ts';

/** A quantity of a part of a meter: a number of objects or processors, or of bytes. */
export interface Metered extends MeterPart {
  readonly quantity: number;
}

/** The meters that run only while the VM is declared to run. An order does not contain them. */
const runningMeters: ReadonlySet<Meter> = new Set(['running_vm', 'running_cpu', 'running_memory']);

/** Tells whether a change of the quantity is a change of the order, and not of the use alone. */
export const isOrdered = ({ meter }: MeterPart): boolean => !runningMeters.has(meter);

/** Returns the name of a part of a meter: `volume/stp-…`. */
export const partKey = ({ meter, pool, length, product }: MeterPart): string =>
  [meter, pool, length, product].filter((each) => each !== undefined).join('/');

/** The fields of a VM that meters need. */
export interface MeteredVm {
  readonly cpus: number;
  readonly memory: number;
  readonly disk_size: number;
  readonly power_state: 'running' | 'stopped';
}

/** The processors and the memory of a running guest. */
export interface RunningShape {
  readonly cpus: number;
  readonly memory: number;
}

/** Returns the VM as it is charged: a guest that runs keeps the larger shape until its next start. */
function chargedVm<T extends MeteredVm>(vm: T, running: RunningShape | undefined): T {
  if (running === undefined || vm.power_state === 'stopped') return vm;
  return { ...vm, cpus: Math.max(vm.cpus, running.cpus), memory: Math.max(vm.memory, running.memory) };
}

/** Returns the quantities of a VM. */
export const vmQuantities = ({ cpus, memory, disk_size, power_state }: MeteredVm): Metered[] => [
  { meter: 'vm', quantity: 1 },
  { meter: 'vm_cpu', quantity: cpus },
  { meter: 'vm_memory', quantity: memory },
  ...(disk_size > 0 ? [{ meter: 'vm_disk', quantity: disk_size } as const] : []),
  ...(power_state === 'running'
    ? ([
        { meter: 'running_vm', quantity: 1 },
        { meter: 'running_cpu', quantity: cpus },
        { meter: 'running_memory', quantity: memory },
      ] as const)
    : []),
];

/** Returns the quantities of a volume. */
export const volumeQuantities = ({ size, pool }: { readonly size: number; readonly pool?: string | undefined }) => [
  { meter: 'volume', pool: pool ?? builtInPool, quantity: size } as const,
];

/** Returns the quantities of a prefix. */
export const prefixQuantities = ({ length }: { readonly length: number }) => [
  { meter: 'prefix', length, quantity: 1 } as const,
];

function snapshotQuantities(snapshot: records.SnapshotRecord): Metered[] {
  const byPool = new Map<string, number>();
  for (const disk of snapshot.disks) {
    const pool = disk.pool ?? snapshot.pool ?? builtInPool;
    byPool.set(pool, (byPool.get(pool) ?? 0) + snapshotSize({ disks: [disk] }));
  }
  return [...byPool].filter(([, size]) => size > 0).map(([pool, quantity]) => ({ meter: 'snapshot', pool, quantity }));
}

/** An object that is charged. */
export interface Chargeable {
  readonly id: string;
  readonly project: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly quantities: readonly Metered[];
}

const quantitiesByKind: Readonly<Record<string, (value: never) => readonly Metered[]>> = {
  [records.vms.prefix]: vmQuantities,
  [records.volumes.prefix]: volumeQuantities,
  [records.snapshots.prefix]: snapshotQuantities,
  [records.prefixes.prefix]: prefixQuantities,
};

/** The prefixes of the keys of objects that are charged. */
export const chargeablePrefixes: readonly string[] = Object.keys(quantitiesByKind);

/**
 * Returns the object of a record. `running` is the shape of the running guest of a VM. Undefined if nothing is charged for it: its deletion has begun, or it has no size.
 */
export function chargeableOf(prefix: string, value: unknown, running?: RunningShape): Chargeable | undefined {
  const record = value as {
    readonly id: string;
    readonly project: string;
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly deleted_at?: string;
  };
  if (record.deleted_at !== undefined) return undefined;
  const charged = prefix === records.vms.prefix ? chargedVm(value as records.VmRecord, running) : value;
  const quantities = quantitiesByKind[prefix]?.(charged as never) ?? [];
  if (quantities.length === 0) return undefined;
  const { id, project, name, labels } = record;
  return { id, project, name, labels, quantities };
}
