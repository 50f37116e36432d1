import type { Id } from '../../contract/fields.ts';
import { type ProjectBody, type ProjectUpdate, project } from '../../contract/resources/projects.ts';
import type { Quota } from '../../contract/resources/quotas.ts';
import { newId } from '../../model/ids.ts';
import { limitsOf, showQuota, showUsed } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { absent, noneBelow, present, put, remove } from '../../store/collection.ts';
import { lastTerm } from '../billing/ordering-store.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { find } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, inUse, patched, removal, removeReference, replacement } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { defaultQuota } from './settings.ts';

/** The maximum number of files that an error names. */
const maxShown = 10;

/** The descriptor of projects. */
export const projects: ResourceDescriptor<records.ProjectRecord> = describe(project, {
  kind: records.projects,
  scope: 'self',
  payer: (record) => record.billing_account,
  show: (_api, { max_monthly_cost: _old, ...record }) => ({ ...record, quota: showQuota(record.quota) }),
  alsoMirrored: [records.quotaGuards],
  indexes: ['billing_account'],
  handlers: {
    project_usage: getUsage,
    project_create: createProject,
    project_update: updateProject,
    project_delete: deleteProject,
  },
});

/** Returns the limits of the request, or else the default of operators for new projects. */
function quotaOf(api: ApiContext, asked: Quota | undefined) {
  if (asked !== undefined) return { quota: limitsOf(asked), guards: [] };
  const { quota, guard } = defaultQuota(api);
  return { quota, guards: [guard] };
}

async function getUsage(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id, value } = find(api, projects, request.caller, request.params.id ?? '');
  const { revision } = api.mirror;
  return {
    status: 200,
    body: { project: id, quota: showQuota(value.quota), used: showUsed(api.usage.of(id)), revision },
    revision,
  };
}

/** Returns the guards and writes for another billing account of a project. */
function accountTerm(
  api: ApiContext,
  { id, name, billing_account: account }: records.ProjectRecord,
  before: Id<'billing_account'> | undefined,
  now: Date,
) {
  if (account !== undefined && !api.mirror.get(records.billingAccounts, account)) {
    const rule = `must be the id of an existing billing account: there is no ${account}`;
    throw fieldError('invalid_reference', '/billing_account', rule);
  }
  // Clocks of servers differ, but no term precedes the last one.
  const last = lastTerm(api.mirror, id);
  const after = last === undefined ? 0 : Date.parse(last.since) + 1;
  const since = new Date(Math.max(now.getTime(), after)).toISOString();
  const term = { project: id, name, since, ...(account !== undefined && { account }) };
  return {
    guards: [
      { condition: absent(records.accountTerms, `${id}/${since}`) },
      ...(account === undefined ? [] : [{ condition: present(records.billingAccounts, account) }]),
    ],
    writes: [
      put(records.accountTerms, `${id}/${since}`, term),
      ...(account === undefined ? [] : [put(records.uses, `${account}/${id}`, {})]),
      ...(before === undefined ? [] : [removeReference(before, id)]),
    ],
  };
}

async function createProject(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { quota: asked, ...body } = request.body as ProjectBody;
  const id = newId('project');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    const { quota, guards } = quotaOf(api, asked);
    const record: records.ProjectRecord = {
      id,
      ...body,
      created_at: at,
      updated_at: at,
      ...(quota ? { quota } : {}),
    };
    const term = record.billing_account === undefined ? undefined : accountTerm(api, record, undefined, request.now);
    return creation(api, projects, record, {
      guards: [...guards, ...(term?.guards ?? [])],
      writes: term?.writes ?? [],
    });
  });
}

async function updateProject(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { quota: asked, ...body } = request.body as ProjectUpdate;
  return changeObject(api, request, projects, (stored) => {
    const { quota: before, ...others } = stored.value;
    const { quota, guards } = asked === undefined ? { quota: before, guards: [] } : quotaOf(api, asked ?? undefined);
    const changed: Omit<records.ProjectRecord, 'quota'> = patched(project, others, body);
    const next: records.ProjectRecord = {
      ...changed,
      updated_at: request.now.toISOString(),
      ...(quota ? { quota } : {}),
    };
    const moves = next.billing_account !== stored.value.billing_account;
    const term = moves ? accountTerm(api, next, stored.value.billing_account, request.now) : undefined;
    return replacement(api, request, projects, stored, next, {
      guards: [...guards, ...(term?.guards ?? [])],
      writes: term?.writes ?? [],
    });
  });
}

async function deleteProject(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, projects, (stored) => {
    // The scanner records no file of a project that is gone, so the mirror is enough here.
    const left = [];
    for (const file of api.mirror.by(records.files, 'project').list(id)) if (left.push(file) === maxShown) break;
    if (left.length > 0)
      throw inUse(
        api,
        request.caller,
        id,
        left.map((one) => one.id),
      );
    return removal(api, request, projects, stored, {
      writes: [
        remove(records.quotaGuards, id),
        ...(stored.value.billing_account === undefined ? [] : [removeReference(stored.value.billing_account, id)]),
      ],
      guards: [
        {
          // Every object of a project has a name in it.
          condition: noneBelow(records.names, `${id}/`),
          otherwise: (found) =>
            inUse(
              api,
              request.caller,
              id,
              found.map(({ value }) => String(JSON.parse(value).id)),
            ),
        },
      ],
    });
  });
}
