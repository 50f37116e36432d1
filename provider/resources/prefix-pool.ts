/** A prefix pool. Beyond what is derived: rules of its space that the API checks are checked while planning. */
import { deriveResource } from '../derive/resource.ts';
import { parsePrefix } from '../net/ipv6.ts';
import { schemaOf } from '../schema/resources.gen.ts';

const shortest = 16;
const longest = 60;

/** Global unicast, 2000::/3 (RFC 4291), or unique local, fc00::/7 (RFC 4193). */
const isUnicast = (network: bigint): boolean => network >> 125n === 1n || network >> 121n === 0x7en;

export const prefixPool = deriveResource(schemaOf('prefix_pool'), {
  validate({ config, diagnostics }) {
    const space = typeof config.cidr === 'string' ? parsePrefix(config.cidr) : undefined;
    if (!space) return;
    if (space.length < shortest || space.length > longest) {
      diagnostics.error(
        'The pool has no usable length',
        `\`cidr\` is a /${space.length}; it must be from /${shortest} to /${longest}.`,
        ['cidr'],
      );
    } else if (!isUnicast(space.network)) {
      diagnostics.error(
        'The pool is no unicast space',
        '`cidr` must be global unicast (2000::/3) or unique local (fc00::/7).',
        ['cidr'],
      );
    }
    const standard = config.default_length ?? schemaOf('prefix_pool').fields.default_length?.default;
    if (typeof standard === 'number' && standard < space.length) {
      diagnostics.error(
        'The default length is shorter than the pool',
        `\`default_length\` is ${standard}, and \`cidr\` a /${space.length}: set at least ${space.length}.`,
        [config.default_length === null ? 'cidr' : 'default_length'],
      );
    }
  },
});
