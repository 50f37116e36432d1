import { type ProjectCreate, type ProjectUpdate, project } from '../../contract/resources/projects.ts';
import type { Quota } from '../../contract/resources/quotas.ts';
import { newId } from '../../model/ids.ts';
import { limitsOf, showQuota, showUsed } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { noneBelow, put, remove } from '../../store/collection.ts';
import type { ApiContext, Handlers } from '../requests/context.ts';
import { find } from '../requests/descriptor.ts';
import { getHandler, listHandler } from '../requests/get-and-list.ts';
import { changeObject } from '../transaction/change-object.ts';
import { created, inUse, readPatch, removal, replacement, takeName } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { defaultQuota } from './settings.ts';
import { projects } from './views.ts';

type Body = ProjectCreate & Required<Pick<ProjectCreate, 'description' | 'labels' | 'delete_protection'>>;

/** The limits that are asked for, or else those that operators have set for all new projects. */
function quotaOf(api: ApiContext, asked: Quota | undefined) {
  if (asked !== undefined) return { quota: limitsOf(asked), guards: [] };
  const { quota, guard } = defaultQuota(api);
  return { quota, guards: [guard] };
}

export const projectHandlers: Handlers = {
  project_list: listHandler(projects),
  project_get: getHandler(projects),

  async project_usage(api, request) {
    const { id, value } = find(api, projects, request.caller, request.params.id ?? '');
    const { revision } = api.mirror;
    return {
      status: 200,
      body: { project: id, quota: showQuota(value.quota), used: showUsed(api.usage.of(id)), revision },
      revision,
    };
  },

  async project_create(api, request) {
    const { quota: asked, ...body } = request.body as Body;
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
      const name = takeName('project', undefined, body.name, id);
      return {
        guards: [...name.guards, ...guards],
        writes: [put(records.projects, id, record), ...name.writes],
        target: id,
        project: id,
        reason: 'created',
        message: `Created ${body.name}.`,
        answer: created('projects', id, projects.show(api, record)),
      };
    });
  },

  async project_update(api, request) {
    const { quota: asked, ...body } = request.body as ProjectUpdate;
    const patch = readPatch<Omit<ProjectUpdate, 'quota'>>(project, body);
    return changeObject(api, request, projects, (stored) => {
      const { quota: before, ...others } = stored.value;
      const { quota, guards } = asked === undefined ? { quota: before, guards: [] } : quotaOf(api, asked ?? undefined);
      const next: records.ProjectRecord = {
        ...others,
        ...patch,
        updated_at: request.now.toISOString(),
        ...(quota ? { quota } : {}),
      };
      return replacement(api, request, projects, stored, next, { guards });
    });
  },

  async project_delete(api, request) {
    const { id = '' } = request.params;
    return changeObject(api, request, projects, (stored) => {
      return {
        ...removal(api, request, projects, stored, {
          writes: [remove(records.quotaGuards, id)],
          guards: [
            {
              // Everything that belongs to a project has a name in it.
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
        }),
        project: id,
      };
    });
  },
};
