/** An SSH key. Beyond what is derived: another public key has another fingerprint. */
import { deriveResource } from '../derive/resource.ts';
import { UNKNOWN } from '../framework/index.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const sshKey = deriveResource(schemaOf('ssh_key'), {
  async modifyPlan({ action, changed, planned }) {
    if (action === 'update' && changed('public_key')) Object.assign(planned, { fingerprint: UNKNOWN });
  },
});
