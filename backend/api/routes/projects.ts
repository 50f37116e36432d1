import { type Project, type ProjectCreate, type ProjectUpdate, project } from '../../contract/projects.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records.ts';
import { noneBelow, put } from '../../store/collection.ts';
import type { Handlers } from '../context.ts';
import {
  checkIfMatch,
  checkProtection,
  created,
  inUse,
  readPatch,
  removal,
  replacement,
  takeName,
} from '../declared.ts';
import { mutate } from '../mutation.ts';
import { getHandler, listHandler } from '../reading.ts';
import { findToChange } from '../served.ts';
import { projects } from '../views.ts';

type Body = ProjectCreate & Required<Pick<ProjectCreate, 'description' | 'labels' | 'delete_protection'>>;

export const projectHandlers: Handlers = {
  project_list: listHandler(projects),
  project_get: getHandler(projects),

  async project_create(api, request) {
    const body = request.body as Body;
    const id = newId('project');
    const at = request.now.toISOString();
    const record: records.ProjectRecord = { id, ...body, created_at: at, updated_at: at };
    return mutate(api, request, () => {
      const name = takeName('project', undefined, body.name, id);
      return {
        guards: name.guards,
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
    const { id = '' } = request.params;
    const patch = readPatch<ProjectUpdate>(project, request.body as ProjectUpdate);
    return mutate(api, request, () => {
      const stored = findToChange(api, projects, request.caller, id);
      checkIfMatch(request.ifMatch, stored.revision);
      const next: Omit<Project, 'revision'> = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
      return replacement(api, request, projects, stored, next);
    });
  },

  async project_delete(api, request) {
    const { id = '' } = request.params;
    return mutate(api, request, () => {
      const stored = findToChange(api, projects, request.caller, id);
      checkIfMatch(request.ifMatch, stored.revision);
      checkProtection(stored.value, id);
      return {
        ...removal(api, request, projects, stored, {
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
