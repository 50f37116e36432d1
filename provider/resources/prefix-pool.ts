/** A prefix pool. Addition to the derived resource: a plan checks the API's rules for `cidr` and `default_length`. */
import { deriveResource } from '../derive/resource.ts';
import { parsePrefix } from '../net/ipv6.ts';
import { schemaOf } from '../schema/resources.gen.ts';

/** The limits of the prefix length, as openapi.yaml has them. */
const minLength = 16;
const maxLength = 60;

/** Returns true for a unicast prefix: global unicast, 2000::/3 (RFC 4291), or unique local, fc00::/7 (RFC 4193). */
const isUnicast = (network: bigint): boolean => network >> 125n === 1n || network >> 121n === 0x7en;

export const prefixPool = deriveResource(schemaOf('prefix_pool'), {
  validate({ config, diagnostics }) {
    const space = typeof config.cidr === 'string' ? parsePrefix(config.cidr) : undefined;
    if (!space) return;
    if (space.length < minLength || space.length > maxLength) {
      diagnostics.error(
        'The length of the pool is invalid',
        `\`cidr\` is a /${space.length}; it must be from /${minLength} to /${maxLength}.`,
        ['cidr'],
      );
    } else if (!isUnicast(space.network)) {
      diagnostics.error(
        'The pool is not a unicast prefix',
        '`cidr` must be global unicast (2000::/3) or unique local (fc00::/7).',
        ['cidr'],
      );
    }
    const standard = config.default_length ?? schemaOf('prefix_pool').fields.default_length?.default;
    if (typeof standard === 'number' && standard < space.length) {
      diagnostics.error(
        'The default length is shorter than the pool',
        `\`default_length\` is ${standard}, and \`cidr\` is a /${space.length}. Set at least ${space.length}.`,
        [config.default_length === null ? 'cidr' : 'default_length'],
      );
    }
  },
});
