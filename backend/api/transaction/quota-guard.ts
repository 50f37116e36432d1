/**
 * A project never has more than its quota, whatever comes at once and to however many servers.
 *
 * A change that gives a project more is committed on the condition that the project's record, hence its quota, is as it
 * was when the change was decided on. So a quota binds every change that commits after it. In a project with a quota the
 * change also rewrites the project's guard, `quota-guards/<project>`, on the condition that it is as it was. So what was
 * summed up is still all there is when the change commits: what grew meanwhile would have rewritten the guard. What
 * shrinks need not: there is only more room then than was thought. Projects without a quota pay for none of this.
 *
 * Changes of one project in this process queue up, which saves futile attempts; it is the guard that counts.
 */
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import type { QuotaKind } from '../../contract/resources/quotas.ts';
import { exceeded, explainExceeded, type SomeAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { absent, present, put, rewrite, unchanged } from '../../store/collection.ts';
import type { Condition, Write } from '../../store/store.ts';
import type { ApiContext } from '../requests/context.ts';

export interface QuotaGuard {
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
  /** The queue that this change has to stand in. */
  readonly queue?: string;
}

const unbound: QuotaGuard = { require: [], write: [] };

/** The field of a request that asks for it. */
const pointers: Readonly<Partial<Record<QuotaKind, string>>> = {
  cpus: '/cpus',
  memory: '/memory',
  disk: '/disk_size',
  subnets: '/length',
  terraform_states: '#path/name',
  terraform_state_size: '',
};

/** What a change has to be committed with that gives a project more. Throws `quota_exceeded`. */
export function quotaGuard(
  { mirror, usage }: ApiContext,
  {
    project,
    quotaDelta,
  }: { readonly project?: Id<'project'> | undefined; readonly quotaDelta: SomeAmounts | undefined },
): QuotaGuard {
  if (project === undefined || quotaDelta === undefined || Object.keys(quotaDelta).length === 0) return unbound;
  const stored = mirror.get(records.projects, project);
  if (!stored) return { require: [present(records.projects, project)], write: [] };
  const { name, quota } = stored.value;
  if (quota === undefined) return { require: [unchanged(stored)], write: [] };
  const used = usage.of(project);
  const errors = exceeded(quota, used, quotaDelta).map((kind) => ({
    pointer: pointers[kind] ?? '/project',
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
