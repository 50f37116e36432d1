import { UcloudError } from '../../contract/errors.ts';
import { roles, type TokenCreate, type TokenUpdate, token } from '../../contract/resources/tokens.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { put, removeAll } from '../../store/collection.ts';
import type { Handlers } from '../requests/context.ts';
import { find, presentObject } from '../requests/descriptor.ts';
import { getHandler, listHandler } from '../requests/get-and-list.ts';
import { fieldError } from '../requests/validation.ts';
import { newSecret } from '../tokens/secret.ts';
import { changeObject } from '../transaction/change-object.ts';
import { created, projectOfCreation, readPatch, removal, replacement, takeName } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { tokens } from './views.ts';

type Body = TokenCreate & Required<Pick<TokenCreate, 'role' | 'labels'>>;

export const tokenHandlers: Handlers = {
  token_list: listHandler(tokens),
  token_get: getHandler(tokens),

  async token_self(api, request) {
    const stored = find(api, tokens, request.caller, request.caller.token);
    return {
      status: 200,
      body: presentObject(api, tokens, stored, request.caller),
      revision: api.mirror.revision,
      version: stored.revision,
    };
  },

  async token_create(api, request) {
    const { name, role, labels, expires_at, project: asked } = request.body as Body;
    const { caller, now } = request;
    if (roles.indexOf(role) > roles.indexOf(caller.role)) {
      throw new UcloudError('forbidden', `a token of role ${caller.role} cannot make one of role ${role}`, {
        errors: [{ pointer: '/role', detail: `must be at most ${caller.role}` }],
      });
    }
    if (role === 'operator' && asked !== undefined) {
      throw fieldError(
        'rule_violated',
        '/project',
        'must be left out for an operator, whose token opens the whole cloud',
      );
    }
    if (expires_at !== undefined && Date.parse(expires_at) <= now.getTime()) {
      throw fieldError('rule_violated', '/expires_at', 'lies in the past');
    }
    const id = newId('token');
    const secret = newSecret(id);
    const at = now.toISOString();
    return mutate(api, request, () => {
      const project = role === 'operator' ? undefined : projectOfCreation(api, caller, asked);
      const record: records.TokenRecord = {
        id,
        ...(project === undefined ? {} : { project }),
        name,
        labels,
        role,
        hash: secret.hash,
        ...(expires_at === undefined ? {} : { expires_at: new Date(expires_at).toISOString() }),
        created_at: at,
        updated_at: at,
      };
      const taken = takeName('token', project, name, id);
      return {
        guards: taken.guards,
        writes: [put(records.tokens, id, record), ...taken.writes],
        target: id,
        project,
        quotaDelta: { tokens: 1 },
        reason: 'created',
        message: `Created ${name}.`,
        answer: created('tokens', id, { ...tokens.show(api, record), secret: secret.text }),
      };
    });
  },

  async token_update(api, request) {
    const patch = readPatch<TokenUpdate>(token, request.body as TokenUpdate);
    return changeObject(api, request, tokens, (stored) => {
      const next = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
      return replacement(api, request, tokens, stored, next);
    });
  },

  async token_delete(api, request) {
    return changeObject(api, request, tokens, (stored) => {
      // Nobody can ask again with it.
      return removal(api, request, tokens, stored, { writes: [removeAll(records.idempotency, `${stored.id}/`)] });
    });
  },
};
