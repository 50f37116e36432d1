/** The function `provider::ucloud::eui64_address("2001:db8::/64", "42:00:5e:10:00:01")`. */
import { defineFunction, FunctionError } from '../framework/index.ts';
import { formatAddress, parsePrefix } from '../net/ipv6.ts';
import { eui64Address, parseMac } from '../net/mac.ts';

export const eui64AddressFunction = defineFunction<[prefix: string, mac: string]>({
  summary: 'The address that a MAC address gets in a network',
  description:
    'The IPv6 address that a guest with this MAC address forms in this /64 by SLAAC (RFC 4862): the prefix and the modified EUI-64 of the MAC address (RFC 4291, appendix A).',
  parameters: [
    { name: 'prefix', type: 'string', description: 'The /64, in CIDR notation.' },
    { name: 'mac', type: 'string', description: 'The MAC address.' },
  ],
  returns: 'string',
  run([text, mac]) {
    const prefix = parsePrefix(text);
    if (prefix?.length !== 64) throw new FunctionError(`Must be a /64 such as \`2001:db8::/64\`, not "${text}".`, 0);
    const address = parseMac(mac);
    if (address === undefined)
      throw new FunctionError(`Must be a MAC address such as \`42:00:5e:10:00:01\`, not "${mac}".`, 1);
    return formatAddress(eui64Address(prefix, address));
  },
});
