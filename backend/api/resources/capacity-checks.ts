/** Capacity checks. They use the mirror alone and write nothing. */

import type { Id } from '../../contract/fields.ts';
import {
  type CapacityCheck,
  type CapacityCheckResult,
  maxVms,
  type PlannedVm,
} from '../../contract/resources/capacity-checks.ts';
import { architectures } from '../../contract/resources/images.ts';
import { type QuotaKind, quotaKinds } from '../../contract/resources/quotas.ts';
import type { QuotedObjects } from '../../contract/resources/quotes.ts';
import { type Vm, vmDefaults } from '../../contract/resources/vms.ts';
import { idFrom } from '../../model/ids.ts';
import { antiAffinityOf } from '../../model/placement/anti-affinity.ts';
import { type PlannedRequest, type Refusal, refusedByQuota } from '../../model/placement/capacity-check.ts';
import { hostSelectorOf } from '../../model/placement/host-selector.ts';
import { growthFrom, plus, vmAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { sizeInBytes } from '../../model/text/sizes.ts';
import { budgetProblems, costLimitsOf, moneyProblem } from '../billing/cost-guard.ts';
import { quotedItems, totalOf } from '../billing/quoted-objects.ts';
import { type ApiContext, accountOf, type Handlers } from '../requests/context.ts';
import { amountsIn, projectOf } from '../requests/descriptor.ts';
import { refer } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { projectOfCreation } from '../transaction/declarations.ts';
import { hostSelectorGuards } from './host-selectors.ts';
import { imageSize, images } from './images.ts';
import { vms } from './vms.ts';

/** A planned VM with the defaults of the contract. */
type PlannedVmBody = PlannedVm & Pick<Vm, 'anti_affinity' | 'host_selector'>;
type Body = Omit<CapacityCheck, 'vms'> &
  Required<Pick<CapacityCheck, 'leaving'>> & { readonly vms: readonly PlannedVmBody[] };

const bytes = (size: string | undefined): number | undefined => (size === undefined ? undefined : sizeInBytes(size));

const wishesOf = (vm: Parameters<typeof antiAffinityOf>[0] & Parameters<typeof hostSelectorOf>[0]) => {
  const [antiAffinity, hostSelector] = [antiAffinityOf(vm), hostSelectorOf(vm)];
  return {
    ...(antiAffinity && { anti_affinity: antiAffinity }),
    ...(hostSelector && { host_selector: hostSelector }),
  };
};

function plannedRequest(api: ApiContext, project: Id<'project'>, planned: PlannedVmBody, at: string): PlannedRequest {
  const { cpus, memory, disk_size } = planned;
  if (planned.vm !== undefined) {
    const { value } = refer(api, vms, project, planned.vm, `${at}/vm`);
    const next = {
      cpus: cpus ?? value.cpus,
      memory: bytes(memory) ?? value.memory,
      disk_size: bytes(disk_size) ?? value.disk_size,
    };
    const host = api.mirror.get(records.schedules, value.id)?.value.host;
    const { architecture } = value.boot ?? api.mirror.get(records.images, value.image)?.value ?? {};
    return {
      count: 1,
      quotaDelta: growthFrom(vmAmounts(value), vmAmounts(next)),
      resources: { cpus: next.cpus, memory: next.memory, disk: next.disk_size, ...wishesOf(value) },
      architectures: architecture ? [architecture] : architectures,
      ...(host === undefined ? {} : { placed: { host, vm: value.id } }),
    };
  }
  const image =
    planned.image === undefined ? undefined : refer(api, images, project, planned.image, `${at}/image`).value;
  const demand = {
    cpus: cpus ?? vmDefaults.cpus,
    memory: sizeInBytes(memory ?? vmDefaults.memory),
    disk: bytes(disk_size) ?? (image && imageSize(api, image.id)) ?? 0,
  };
  const architecture = image?.architecture ?? planned.architecture;
  return {
    count: planned.count ?? 1,
    quotaDelta: vmAmounts({ ...demand, disk_size: demand.disk }),
    resources: { ...demand, ...wishesOf({ project, ...planned }) },
    architectures: architecture ? [architecture] : architectures,
  };
}

/** The field of a VM that exceeds a limit. */
const fields: Readonly<Partial<Record<QuotaKind | 'anti_affinity' | 'host_selector', string>>> = {
  cpus: '/cpus',
  memory: '/memory',
  disk: '/disk_size',
  anti_affinity: '/anti_affinity',
  host_selector: '/host_selector',
};

const show = (pointer: string, { first, count, reason, message }: Omit<Refusal, 'index' | 'kind'>) => ({
  pointer,
  first,
  count,
  reason,
  message,
});

const nothing: QuotedObjects = { vms: [], volumes: [], snapshots: [], prefixes: [] };

/** Returns why the cost of a plan is refused. */
function costRefusals(
  api: ApiContext,
  project: Id<'project'>,
  plan: Pick<CapacityCheck, 'added' | 'removed'>,
  at: number,
): CapacityCheckResult['refusals'] {
  const itemsOf = (name: 'added' | 'removed') => quotedItems(api, { ...nothing, ...plan[name] }, `/${name}`);
  const [added, removed] = [itemsOf('added'), itemsOf('removed')];
  const limits = costLimitsOf(api, project);
  const count = added.reduce((sum, each) => sum + each.count, 0);
  if (!limits || count === 0) return [];
  const refusal = { pointer: '/added', first: 0, count };
  if (limits.account === undefined) {
    if (!limits.accountRequired) return [];
    const message = `the project ${limits.name} has no billing account`;
    return [{ ...refusal, reason: 'billing_account_required', message }];
  }
  const money = moneyProblem(api, limits);
  if (money !== undefined) return [{ ...refusal, reason: 'account_empty', message: money }];
  const change = { before: totalOf(removed, '/removed'), after: totalOf(added, '/added') };
  return budgetProblems(api, limits, change, at).map((message) => ({ ...refusal, reason: 'budget_exceeded', message }));
}

/** The handlers of capacity checks. */
export const capacityCheckHandlers: Handlers = {
  async capacity_check(api, request) {
    const { project: asked, vms: planned, leaving, added, removed, ...others } = request.body as Body;
    const project = projectOfCreation(api, request.caller, asked);
    if (planned.reduce((sum, { count = 1 }) => sum + count, 0) > maxVms) {
      throw fieldError('rule_violated', '/vms', `must contain at most ${maxVms} VMs in total`);
    }
    // The answer tells how many hosts match, so the same rule holds as for a creation.
    for (const [index, each] of planned.entries()) {
      hostSelectorGuards(api, request.caller, each.host_selector, `/vms/${index}/host_selector`);
    }
    const requests = planned.map((each, index) => plannedRequest(api, project, each, `/vms/${index}`));
    let used = api.usage.of(project);
    const released: NonNullable<PlannedRequest['placed']>[] = [];
    for (const id of leaving) {
      const descriptor = api.resources.ofId(id);
      const stored = descriptor && api.mirror.get(descriptor.kind, id);
      if (!descriptor || !stored || projectOf(stored.value) !== project) continue;
      used = plus(used, amountsIn(descriptor, project, stored.value), -1);
      const host = api.mirror.get(records.schedules, id)?.value.host;
      if (host !== undefined) released.push({ host, vm: idFrom('vm', id) });
    }
    const overCost = costRefusals(api, project, { added, removed }, request.now.getTime());
    const { name, quota = {} } = api.mirror.get(records.projects, project)?.value ?? { name: project };
    const limited = { name, limits: quota, used };
    const growth = Object.fromEntries(
      quotaKinds.map((kind) => [kind, kind in others ? others[kind as keyof typeof others] : 0]),
    );
    const { caller, gone } = request;
    const refusals = await api.hostPool
      .check(accountOf(caller), gone, limited, requests, released)
      .finally(() => api.callers.check(caller));
    const { revision } = api.mirror;
    return {
      status: 200,
      body: {
        refusals: [
          ...refusals.map((refusal) =>
            show(`/vms/${refusal.index}${(refusal.kind && fields[refusal.kind]) ?? ''}`, refusal),
          ),
          ...refusedByQuota(limited, growth).map((refusal) => show(`/${refusal.kind}`, refusal)),
          ...overCost,
        ],
        revision,
      },
      revision,
    };
  },
};
