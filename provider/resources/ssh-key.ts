/** An SSH key. Addition to the derived resource: a changed public key changes the fingerprint. */
import { deriveResource } from '../derive/resource.ts';
import { UNKNOWN } from '../framework/index.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const sshKey = deriveResource(schemaOf('ssh_key'), {
  async modifyPlan({ action, changed, planned }) {
    if (action === 'update' && changed('public_key')) Object.assign(planned, { fingerprint: UNKNOWN });
  },
});
