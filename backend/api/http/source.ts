/** Who a request is charged to. */
import type { FastifyRequest } from 'fastify';
import { parseIpv6 } from '../../model/addresses.ts';

/** The network that an address belongs to: a /64, which is the least that anybody is given, or one IPv4 address. */
export function sourceOf(address: string | undefined): string {
  const text = (address ?? '').replace(/%.*$/, '');
  const parsed = text.includes(':') ? parseIpv6(text) : undefined;
  if (parsed === undefined) return text;
  // An IPv4 address as a socket for both shows it (RFC 4291, 2.5.5.2).
  if (parsed >> 32n === 0xffffn) return text.slice(text.lastIndexOf(':') + 1);
  return (parsed >> 64n).toString(16).padStart(16, '0');
}

/** The project of the token, an operator's token itself, or the network that the request came from. */
export const ownerOf = ({ caller, ip }: FastifyRequest): string => caller?.project ?? caller?.token ?? sourceOf(ip);
