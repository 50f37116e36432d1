/**
 * A token. Beyond what is derived: one that is no operator's gets the project of the provider; one that would have expired
 * already is refused, unless it is there.
 */
import { deriveResource } from '../derive/resource.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const token = deriveResource(schemaOf('token'), {
  validate({ config, diagnostics }) {
    if (config.role === 'operator' && config.project !== null) {
      const detail = 'The token of an operator opens the whole cloud: leave `project` out.';
      diagnostics.error('An operator belongs to no project', detail, ['project']);
    }
  },
  async modifyPlan({ action, client, config, planned, changed, diagnostics, signal }) {
    const end = typeof config.expires_at === 'string' ? Date.parse(config.expires_at) : undefined;
    if (end !== undefined && end <= Date.now() && changed('expires_at')) {
      const detail = `\`expires_at\` is ${String(config.expires_at)}, and the API makes no token that has expired.`;
      diagnostics.error('The token would have expired already', detail, ['expires_at']);
    }
    if (action !== 'create' || !client || config.project !== null || typeof planned.role !== 'string') return;
    const project = planned.role === 'operator' ? null : await client.project(signal);
    if (project !== undefined) Object.assign(planned, { project });
  },
});
