/**
 * Addresses of BGP peers: `2001:db8::1`, or a link-local address with the interface of the host (`fe80::a%uplink`,
 * RFC 4007, 11). The agent writes both parts into the configuration of bird, so the rules here are strict.
 */
import { formatIpv6, parseIpv6 } from './addresses.ts';
import { contains, isUnicastSpace, type Parsed, type Prefix } from './prefixes.ts';

/** The address of a peer. */
export interface PeerAddress {
  /** The IPv6 address in its normal spelling. */
  readonly address: string;
  /** The interface of the host. Only link-local addresses have one. */
  readonly interface?: string;
}

const linkLocal: Prefix = { address: 0xfe80n << 112n, length: 10 };
/** The kernel allows more characters. These have no meaning in a configuration file. */
const interfaceName = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/;

/** Parses the address of a peer. */
export function parsePeerAddress(text: string): Parsed<PeerAddress> {
  const refuse = (problem: string) => ({ ok: false, problem }) as const;
  const at = text.indexOf('%');
  const address = parseIpv6(at < 0 ? text : text.slice(0, at));
  if (address === undefined) {
    return refuse('must be an IPv6 address such as 2001:db8::1, or a link-local one with its interface: fe80::a%eth0');
  }
  const host = { address, length: 128 };
  const name = at < 0 ? undefined : text.slice(at + 1);
  if (contains(linkLocal, host)) {
    if (name === undefined)
      return refuse('is a link-local address, so it needs the interface of the hosts: fe80::a%eth0');
    if (!interfaceName.test(name)) {
      return refuse('must have an interface name of 1 to 15 letters, digits and inner `_`, `.`, `-` after the %');
    }
    return { ok: true, value: { address: formatIpv6(address), interface: name } };
  }
  if (name !== undefined) return refuse('has an interface, but only link-local addresses (fe80::/10) need one');
  if (!isUnicastSpace(host)) return refuse('must be a unicast address: global (2000::/3), unique local or link-local');
  return { ok: true, value: { address: formatIpv6(address) } };
}

/** Returns the address of a peer as text. */
export const formatPeerAddress = ({ address, interface: name }: PeerAddress): string =>
  name === undefined ? address : `${address}%${name}`;
