/** The function `provider::ucloud::reverse_name("2001:db8::1")`. */
import { defineFunction, FunctionError } from '../framework/index.ts';
import { parseAddress, reverseName } from '../net/ipv6.ts';

export const reverseNameFunction = defineFunction<[address: string]>({
  summary: 'The name of an address in the reverse DNS',
  description: 'The name under `ip6.arpa` that has the PTR record of an IPv6 address (RFC 3596).',
  parameters: [{ name: 'address', type: 'string', description: 'The IPv6 address.' }],
  returns: 'string',
  run([text]) {
    const address = parseAddress(text);
    if (address === undefined)
      throw new FunctionError(`Must be an IPv6 address such as \`2001:db8::1\`, not "${text}".`, 0);
    return reverseName(address);
  },
});
