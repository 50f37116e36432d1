import { UcloudError } from '../../contract/errors.ts';
import { type HostUpdate, host } from '../../contract/resources/hosts.ts';
import * as records from '../../model/records/index.ts';
import { absent, noneBelow, present, put, remove, rewrite, unchanged } from '../../store/collection.ts';
import type { Handlers } from '../requests/context.ts';
import { getHandler, listHandler } from '../requests/get-and-list.ts';
import { changeObject } from '../transaction/change-object.ts';
import { answerWith, inUse, readPatch } from '../transaction/declarations.ts';
import { defaultPolicy, hosts } from './views.ts';

export const hostHandlers: Handlers = {
  host_list: listHandler(hosts),
  host_get: getHandler(hosts),

  async host_update(api, request) {
    const { id = '' } = request.params;
    const patch = readPatch<HostUpdate>(host, request.body as HostUpdate);
    return changeObject(api, request, hosts, (stored) => {
      const policy = api.mirror.get(records.hostPolicies, id);
      const next = { ...defaultPolicy, ...policy?.value, ...patch, updated_at: request.now.toISOString() };
      return {
        guards: [
          { condition: present(records.hosts, id) },
          { condition: policy ? unchanged(policy) : absent(records.hostPolicies, id) },
        ],
        writes: [policy ? rewrite(records.hostPolicies, policy, next) : put(records.hostPolicies, id, next)],
        target: id,
        reason: 'updated',
        message: `Changed: ${Object.keys(patch).join(', ')}.`,
        answer: (revision) => ({ ...answerWith(api, hosts, stored, 200), version: revision }),
      };
    });
  },

  async host_delete(api, request) {
    const { id = '' } = request.params;
    return changeObject(api, request, hosts, (stored) => {
      return {
        guards: [
          { condition: unchanged(stored) },
          {
            condition: absent(records.alive, id),
            otherwise: () => new UcloudError('invalid_state', `${id} is alive: its agent must have been stopped`),
          },
          {
            condition: noneBelow(records.placements, `${id}/`),
            otherwise: (found) =>
              inUse(
                api,
                request.caller,
                id,
                found.map(({ key }) => key.slice(key.lastIndexOf('/') + 1)),
              ),
          },
        ],
        writes: [remove(records.hosts, id), remove(records.hostPolicies, id)],
        target: id,
        reason: 'deleted',
        message: `Deleted ${stored.value.name}.`,
        answer: (revision) => ({ status: 204, revision }),
      };
    });
  },
};
