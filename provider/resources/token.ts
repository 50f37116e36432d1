/** A token. Beyond what is derived: one that is no operator's gets the project of the provider. */
import { deriveResource } from '../derive/resource.ts';
import { schemaOf } from './schema.gen.ts';

export const token = deriveResource(schemaOf('token'), {
  async modifyPlan({ action, client, config, planned, signal }) {
    if (action !== 'create' || !client || config.project !== null || typeof planned.role !== 'string') return;
    const project = planned.role === 'operator' ? null : await client.project(signal);
    if (project !== undefined) Object.assign(planned, { project });
  },
});
