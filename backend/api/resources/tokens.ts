import { UcloudError } from '../../contract/errors.ts';
import { creatable, type TokenBody, type TokenUpdate, token } from '../../contract/resources/tokens.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { present, removeAll } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { find, presentObject } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { newSecret } from '../tokens/secret.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, projectOfCreation, readPatch, removal, replacement } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';

/** The descriptor of tokens. */
export const tokens: ResourceDescriptor<records.TokenRecord> = describe(token, {
  kind: records.tokens,
  scope: 'project',
  payer: (record) => record.billing_account,
  show: (_api, { hash: _hash, ...record }) => record,
  quota: () => ({ tokens: 1 }),
  handlers: {
    token_self: getOwnToken,
    token_create: createToken,
    token_update: updateToken,
    token_delete: deleteToken,
  },
});

async function getOwnToken(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const stored = find(api, tokens, request.caller, request.caller.token);
  return {
    status: 200,
    body: presentObject(api, tokens, stored, request.caller),
    revision: api.mirror.revision,
    version: stored.revision,
  };
}

async function createToken(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { name, role, labels, expires_at, project: asked, billing_account: payer } = request.body as TokenBody;
  const { caller, now } = request;
  if (!creatable[caller.role].includes(role)) {
    throw new UcloudError('forbidden', `a token of role ${caller.role} cannot create one of role ${role}`, {
      errors: [{ pointer: '/role', detail: `must be one of ${creatable[caller.role].join(', ')}` }],
    });
  }
  if (role === 'operator' && asked !== undefined) {
    throw fieldError(
      'rule_violated',
      '/project',
      'must be omitted for an operator: the token gives access to the whole cloud',
    );
  }
  if (role === 'billing' && asked !== undefined) {
    throw fieldError('rule_violated', '/project', 'must be omitted with the role billing, which belongs to an account');
  }
  if ((role === 'billing') !== (payer !== undefined)) {
    const rule =
      role === 'billing' ? 'is required with the role billing' : 'must be omitted unless the role is billing';
    throw fieldError('rule_violated', '/billing_account', rule);
  }
  if (expires_at !== undefined && Date.parse(expires_at) <= now.getTime()) {
    throw fieldError('rule_violated', '/expires_at', 'must be in the future');
  }
  const id = newId('token');
  const secret = newSecret(id);
  const at = now.toISOString();
  return mutate(api, request, () => {
    if (payer !== undefined && !api.mirror.get(records.billingAccounts, payer)) {
      const rule = `must be the id of an existing billing account: there is no ${payer}`;
      throw fieldError('invalid_reference', '/billing_account', rule);
    }
    const project = role === 'operator' || role === 'billing' ? undefined : projectOfCreation(api, caller, asked);
    const record: records.TokenRecord = {
      id,
      ...(project === undefined ? {} : { project }),
      name,
      labels,
      role,
      ...(payer === undefined ? {} : { billing_account: payer }),
      hash: secret.hash,
      ...(expires_at === undefined ? {} : { expires_at: new Date(expires_at).toISOString() }),
      created_at: at,
      updated_at: at,
    };
    return creation(api, tokens, record, {
      guards: payer === undefined ? [] : [{ condition: present(records.billingAccounts, payer) }],
      shown: { secret: secret.text },
    });
  });
}

async function updateToken(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = readPatch<TokenUpdate>(token, request.body as TokenUpdate);
  return changeObject(api, request, tokens, (stored) => {
    const next = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
    return replacement(api, request, tokens, stored, next);
  });
}

async function deleteToken(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  return changeObject(api, request, tokens, (stored) => {
    // No request can use these keys without the token.
    return removal(api, request, tokens, stored, { writes: [removeAll(records.idempotency, `${stored.id}/`)] });
  });
}
