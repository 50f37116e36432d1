/** A prefix. Beyond what is derived: what follows from a `cidr` that is given is in the plan. */
import { deriveResource } from '../derive/resource.ts';
import { parsePrefix } from '../net/ipv6.ts';
import { schemaOf } from './schema.gen.ts';

export const prefix = deriveResource(schemaOf('prefix'), {
  validate({ config, diagnostics }) {
    const cidr = typeof config.cidr === 'string' ? parsePrefix(config.cidr) : undefined;
    if (cidr && typeof config.length === 'number' && cidr.length !== config.length) {
      diagnostics.error(
        'The length contradicts the cidr',
        `\`cidr\` is a /${cidr.length}. Set \`length = ${cidr.length}\`, or leave it out.`,
        ['length'],
      );
    }
  },
  async modifyPlan({ action, config, planned }) {
    const cidr = typeof config.cidr === 'string' ? parsePrefix(config.cidr) : undefined;
    if (action === 'create' && cidr && config.length === null) Object.assign(planned, { length: cidr.length });
  },
});
