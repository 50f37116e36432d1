/**
 * Amounts of quotas: the usage of records, and the limits that a change exceeds. The transaction enforces the limits under
 * concurrency (backend/api/transaction/quota-guard.ts).
 */
import {
  isSized,
  type Quota,
  type QuotaKind,
  quotaKinds,
  quotaWords,
  type Used,
} from '../../contract/resources/quotas.ts';
import { isIdOf } from '../ids.ts';
import { formatSize, parseSize } from '../text/sizes.ts';

/** An amount of each kind: bytes for sizes, else numbers. */
export type Amounts = Readonly<Record<QuotaKind, number>>;
/** Amounts of some kinds. A missing kind is unlimited as a limit, and zero as growth. */
export type SomeAmounts = Readonly<Partial<Record<QuotaKind, number>>>;

/** Zero of each kind. */
export const noAmounts = Object.fromEntries(quotaKinds.map((kind) => [kind, 0])) as Amounts;

/** Returns `a` plus `times` times `b`. */
export const plus = (a: Amounts, b: SomeAmounts, times = 1): Amounts =>
  Object.fromEntries(quotaKinds.map((kind) => [kind, a[kind] + times * (b[kind] ?? 0)])) as Record<QuotaKind, number>;

/** Returns the usage of a VM. */
export const vmAmounts = (vm: { readonly cpus: number; readonly memory: number; readonly disk_size: number }) => ({
  vms: 1,
  cpus: vm.cpus,
  memory: vm.memory,
  disk: vm.disk_size,
});

/** Returns the usage of a volume. */
export const volumeAmounts = ({ size }: { readonly size: number }) => ({ volumes: 1, disk: size });

/** The disks of a snapshot. The data of a disk with `copy` is that of another snapshot. */
interface SnapshotDisks {
  readonly disks: readonly { readonly size: number; readonly copy?: string | undefined }[];
}

/** Returns the usage of a snapshot. A part of the snapshot of a VM counts with its space alone. */
export const snapshotAmounts = ({ disks, made_for }: SnapshotDisks & { readonly made_for?: string | undefined }) => ({
  snapshots: made_for !== undefined && isIdOf('snapshot', made_for) ? 0 : 1,
  disk: snapshotSize({ disks }),
});

/** Returns the size of the data of a snapshot, in bytes. */
export const snapshotSize = ({ disks }: SnapshotDisks): number =>
  disks.reduce((sum, { size, copy }) => sum + (copy === undefined ? size : 0), 0);

const subnetLength = 64;
/** Returns the usage of a prefix: its number of /64s. */
export const prefixAmounts = ({ length }: { readonly length: number }) => ({
  prefixes: 1,
  subnets: 2 ** Math.max(0, subnetLength - length),
});

/**
 * Returns the usage of a Terraform state: the stored bytes of all kept versions.
 */
export const stateAmounts = (state: { readonly kept_bytes?: number; readonly size?: number }) => ({
  terraform_states: 1,
  terraform_state_size: state.kept_bytes ?? state.size ?? 0,
});

/** Returns the amounts that `after` has more than `before`. */
export const growthFrom = (before: SomeAmounts, after: SomeAmounts): SomeAmounts =>
  Object.fromEntries(
    quotaKinds
      .map((kind) => [kind, (after[kind] ?? 0) - (before[kind] ?? 0)] as const)
      .filter(([, difference]) => difference > 0),
  );

/** Returns the exceeded kinds. Only kinds that grow can be exceeded: a lower limit removes nothing. */
export const exceeded = (limits: SomeAmounts, used: Amounts, growth: SomeAmounts): QuotaKind[] =>
  quotaKinds.filter((kind) => {
    const limit = limits[kind] ?? undefined;
    const more = growth[kind] ?? 0;
    return limit !== undefined && more > 0 && used[kind] + more > limit;
  });

const number = (kind: QuotaKind, amount: number): string => (isSized(kind) ? formatSize(amount) : String(amount));

/** Returns a text such as `the project acme may have 10 VMs and has 8, and 3 more are asked for`. */
export function explainExceeded(
  project: string,
  kind: QuotaKind,
  { limit, used, more }: { readonly limit: number; readonly used: number; readonly more: number },
): string {
  const words = quotaWords(kind, limit);
  const may = limit === 0 ? `no ${words}` : `${number(kind, limit)} ${words}`;
  const asked = more === 1 ? '' : `, and ${number(kind, more)} more ${isSized(kind) ? 'is' : 'are'} asked for`;
  return `the project ${project} may have ${may} and has ${number(kind, used)}${asked}`;
}

/** Returns the stored form of limits; undefined if there are none. */
export function limitsOf(quota: Quota): SomeAmounts | undefined {
  const limits: Partial<Record<QuotaKind, number>> = {};
  for (const kind of quotaKinds) {
    const value = quota[kind];
    const limit = typeof value === 'string' ? parseSize(value) : value;
    if (limit !== undefined) limits[kind] = limit;
  }
  return Object.keys(limits).length === 0 ? undefined : limits;
}

/** Earlier versions accepted limits of any size. Responses omit numbers that clients cannot represent. */
const shown = (amounts: SomeAmounts): object =>
  Object.fromEntries(
    Object.entries(amounts)
      .filter(([, amount]) => amount !== null)
      .map(([kind, amount]) => [
        kind,
        isSized(kind as QuotaKind) ? formatSize(amount) : Math.min(amount, Number.MAX_SAFE_INTEGER),
      ]),
  );
/** Returns limits in the form of the contract. */
export const showQuota = (limits: SomeAmounts = {}): Quota => shown(limits) as Quota;
/** Returns amounts in the form of the contract. */
export const showUsed = (amounts: Amounts): Used => shown(amounts) as Used;
