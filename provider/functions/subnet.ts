/** The function `provider::ucloud::subnet("2001:db8::/56", 64, 3)`. */
import { defineFunction, FunctionError } from '../framework/index.ts';
import { formatPrefix, hostBits, parsePrefix, subnet } from '../net/ipv6.ts';

export const subnetFunction = defineFunction<[prefix: string, length: number, index: number | bigint]>({
  summary: 'The n-th subnet of a prefix',
  description:
    'The subnet with the given length and number, from 0, of an IPv6 prefix. Unlike `cidrsubnet`, it takes the length of the subnet and not the number of additional bits.',
  parameters: [
    { name: 'prefix', type: 'string', description: 'The prefix, in CIDR notation.' },
    { name: 'length', type: 'number', description: 'Prefix length of the subnet.' },
    { name: 'index', type: 'number', description: 'Number of the subnet, from 0.' },
  ],
  returns: 'string',
  run([text, length, index]) {
    const prefix = parsePrefix(text);
    if (!prefix || hostBits(prefix) !== 0n) {
      throw new FunctionError(`Must be an IPv6 prefix such as \`2001:db8::/56\`, not "${text}".`, 0);
    }
    if (!Number.isInteger(length) || length < prefix.length || length > 128) {
      throw new FunctionError(`Must be a whole number from ${prefix.length} to 128, not ${length}.`, 1);
    }
    const whole = typeof index === 'bigint' || Number.isInteger(index);
    const found = whole ? subnet(prefix, length, BigInt(index)) : undefined;
    if (!found)
      throw new FunctionError(
        `${text} has ${1n << BigInt(length - prefix.length)} subnets of /${length}, numbered from 0: there is none ${index}.`,
        2,
      );
    return formatPrefix(found);
  },
});
