/**
 * A project never exceeds its quota, regardless of concurrent requests on several servers.
 *
 * An increase is committed on the condition that the project's record, which contains the quota, is unchanged since the
 * decision. So a quota applies to every change that commits after it. In a project with a quota, an increase also
 * rewrites the project's guard, `quota-guards/<project>`, on the condition that the guard is unchanged. Any other
 * increase would have rewritten the guard, so the usage at the decision is still complete at the commit. A decrease
 * does not rewrite it, because it only leaves more capacity. Projects without a quota have no such cost.
 *
 * Increases of one project in this process queue up, which avoids useless attempts. The guard alone ensures
 * correctness.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import type { QuotaKind } from '../../contract/resources/quotas.ts';
import { exceeded, explainExceeded, type SomeAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { absent, present, put, rewrite, unchanged } from '../../store/collection.ts';
import type { Condition, Write } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';

/** The conditions and writes of an increase. */
export interface QuotaGuard {
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
  /** The key of the mutex under which the change runs. */
  readonly queue?: string;
}

const unbound: QuotaGuard = { require: [], write: [] };

/** The field of a request that increases the usage, by kind. */
export type QuotaPointers = Readonly<Partial<Record<QuotaKind, string>>>;

/** The usual fields. */
const pointers: QuotaPointers = {
  cpus: '/cpus',
  memory: '/memory',
  disk: '/disk_size',
  subnets: '/length',
  terraform_states: '#path/name',
  terraform_state_size: '',
};

/** Returns the conditions and writes that an increase must be committed with. @throws UcloudError `quota_exceeded` */
export function quotaGuard(
  { mirror, usage }: ApiContext,
  {
    project,
    quotaDelta,
    quotaPointers = {},
  }: {
    readonly project?: Id<'project'> | undefined;
    readonly quotaDelta: SomeAmounts | undefined;
    readonly quotaPointers?: QuotaPointers | undefined;
  },
): QuotaGuard {
  if (project === undefined || quotaDelta === undefined || Object.keys(quotaDelta).length === 0) return unbound;
  const stored = mirror.get(records.projects, project);
  if (!stored) return { require: [present(records.projects, project)], write: [] };
  const { name, quota } = stored.value;
  if (quota === undefined) return { require: [unchanged(stored)], write: [] };
  const used = usage.of(project);
  const errors = exceeded(quota, used, quotaDelta).map((kind) => ({
    pointer: quotaPointers[kind] ?? pointers[kind] ?? '/project',
    detail: `exceeds the quota: ${explainExceeded(name, kind, {
      limit: quota[kind] ?? 0,
      used: used[kind],
      more: quotaDelta[kind] ?? 0,
    })}`,
  }));
  if (errors.length > 0) {
    throw new UcloudError('quota_exceeded', errors.map(({ detail }) => detail).join('; '), { errors });
  }
  const guard = mirror.get(records.quotaGuards, project);
  return {
    require: [unchanged(stored), guard ? unchanged(guard) : absent(records.quotaGuards, project)],
    write: [
      guard
        ? rewrite(records.quotaGuards, guard, { count: guard.value.count + 1 })
        : put(records.quotaGuards, project, { count: 1 }),
    ],
    queue: `quota/${project}`,
  };
}
