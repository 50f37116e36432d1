/**
 * What a project may have. Pure: amounts that records stand for, and what a change would exceed. That nothing slips past
 * when many changes come at once is the matter of who commits (backend/api/transaction/quota-guard.ts).
 */
import {
  isSized,
  type Quota,
  type QuotaKind,
  quotaKinds,
  quotaWords,
  type Used,
} from '../../contract/resources/quotas.ts';
import { formatSize, parseSize } from '../text/sizes.ts';

/** Bytes for what is sized, else numbers. */
export type Amounts = Readonly<Record<QuotaKind, number>>;
/** What is left out is not limited (as limits), or nothing (as growth). */
export type SomeAmounts = Readonly<Partial<Record<QuotaKind, number>>>;

export const noAmounts = Object.fromEntries(quotaKinds.map((kind) => [kind, 0])) as Amounts;

/** `a` and `times` times `b`. */
export const plus = (a: Amounts, b: SomeAmounts, times = 1): Amounts =>
  Object.fromEntries(quotaKinds.map((kind) => [kind, a[kind] + times * (b[kind] ?? 0)])) as Record<QuotaKind, number>;

export const vmAmounts = (vm: { readonly cpus: number; readonly memory: number; readonly disk_size: number }) => ({
  vms: 1,
  cpus: vm.cpus,
  memory: vm.memory,
  disk: vm.disk_size,
});

const subnetLength = 64;
export const prefixAmounts = ({ length }: { readonly length: number }) => ({
  prefixes: 1,
  subnets: 2 ** Math.max(0, subnetLength - length),
});

/** Of a state that an earlier version wrote last only the size of its latest version is known. */
export const stateAmounts = (state: { readonly kept_bytes?: number; readonly size?: number }) => ({
  terraform_states: 1,
  terraform_state_size: state.kept_bytes ?? state.size ?? 0,
});

/** How much more `after` is than `before`, of those that are more. */
export const growthFrom = (before: SomeAmounts, after: SomeAmounts): SomeAmounts =>
  Object.fromEntries(
    quotaKinds
      .map((kind) => [kind, (after[kind] ?? 0) - (before[kind] ?? 0)] as const)
      .filter(([, difference]) => difference > 0),
  );

/** What there would be too much of. Only what grows can be: a limit that was lowered takes nothing away. */
export const exceeded = (limits: SomeAmounts, used: Amounts, growth: SomeAmounts): QuotaKind[] =>
  quotaKinds.filter((kind) => {
    const limit = limits[kind] ?? undefined;
    const more = growth[kind] ?? 0;
    return limit !== undefined && more > 0 && used[kind] + more > limit;
  });

const number = (kind: QuotaKind, amount: number): string => (isSized(kind) ? formatSize(amount) : String(amount));

/** `the project acme may have 10 VMs and has 8, and 3 more are asked for`. */
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

/** Limits as they are stored; undefined where nothing is limited. */
export function limitsOf(quota: Quota): SomeAmounts | undefined {
  const limits: Partial<Record<QuotaKind, number>> = {};
  for (const kind of quotaKinds) {
    const value = quota[kind];
    const limit = typeof value === 'string' ? parseSize(value) : value;
    if (limit !== undefined) limits[kind] = limit;
  }
  return Object.keys(limits).length === 0 ? undefined : limits;
}

/** Earlier versions took limits of any size; no answer has a number that a client cannot carry. */
const shown = (amounts: SomeAmounts): object =>
  Object.fromEntries(
    Object.entries(amounts)
      .filter(([, amount]) => amount !== null)
      .map(([kind, amount]) => [
        kind,
        isSized(kind as QuotaKind) ? formatSize(amount) : Math.min(amount, Number.MAX_SAFE_INTEGER),
      ]),
  );
/** Limits as users see them. */
export const showQuota = (limits: SomeAmounts = {}): Quota => shown(limits) as Quota;
export const showUsed = (amounts: Amounts): Used => shown(amounts) as Used;
