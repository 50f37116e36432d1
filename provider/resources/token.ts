/**
 * A token. Additions to the derived resource: a token has the project of the provider, unless its role is `operator` or
 * `billing`; a plan refuses a new `expires_at` in the past.
 */
import { deriveResource } from '../derive/resource.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const token = deriveResource(schemaOf('token'), {
  validate({ config, diagnostics }) {
    if (config.role === 'operator' && config.project !== null) {
      const detail = 'The token of an operator is valid for the whole cloud. Remove `project`.';
      diagnostics.error('The token of an operator has no project', detail, ['project']);
    }
    if (config.role === 'billing' && config.project !== null) {
      const detail = 'The token of a billing account is valid for the account. Remove `project`.';
      diagnostics.error('The token of a billing account has no project', detail, ['project']);
    }
    if (typeof config.role === 'string' && config.role !== 'billing' && typeof config.billing_account === 'string') {
      const detail =
        'Only tokens of role `billing` belong to a billing account. Remove `billing_account`, or change the role.';
      diagnostics.error('The token has no billing account', detail, ['billing_account']);
    }
  },
  async modifyPlan({ action, client, config, planned, changed, diagnostics, signal }) {
    const end = typeof config.expires_at === 'string' ? Date.parse(config.expires_at) : undefined;
    if (end !== undefined && end <= Date.now() && changed('expires_at')) {
      const detail = `\`expires_at\` is ${String(config.expires_at)}. The API creates no expired token. Set a later time.`;
      diagnostics.error('The token would already have expired', detail, ['expires_at']);
    }
    if (config.project !== null || typeof planned.role !== 'string') return;
    // A replacement would keep the project of the old token.
    if (planned.role === 'operator' || planned.role === 'billing') Object.assign(planned, { project: null });
    else if (action === 'create' && client) {
      const project = await client.project(signal);
      if (project !== undefined) Object.assign(planned, { project });
    }
  },
});
