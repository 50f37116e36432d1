/** A network. Addition to the derived resource: a plan checks that the network is a /64 inside its prefix. */
import { deriveResource } from '../derive/resource.ts';
import { contains, parsePrefix } from '../net/ipv6.ts';
import { schemaOf } from '../schema/resources.gen.ts';

export const network = deriveResource(schemaOf('network'), {
  validate({ config, diagnostics }) {
    const cidr = typeof config.cidr === 'string' ? parsePrefix(config.cidr) : undefined;
    if (cidr && cidr.length !== 64) {
      diagnostics.error('A network must have a /64', `\`cidr\` is a /${cidr.length}; SLAAC (RFC 4862) needs a /64.`, [
        'cidr',
      ]);
    }
  },
  async modifyPlan({ action, session, config, diagnostics, signal }) {
    if (action !== 'create' || !session || typeof config.prefix !== 'string') return;
    const prefix = await session.find(schemaOf('prefix').path, config.prefix, signal);
    if (!prefix) return;
    const outer = parsePrefix(String(prefix.cidr));
    const text = typeof config.cidr === 'string' ? config.cidr : '';
    const cidr = parsePrefix(text);
    if (outer && cidr && !contains(outer, cidr)) {
      diagnostics.error('The network is outside its prefix', `${text} is not inside ${String(prefix.cidr)}.`, ['cidr']);
    }
  },
});
