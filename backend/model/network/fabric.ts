/**
 * The tunnels between hosts: VXLAN (RFC 7348) over an underlay of IPv6. Each network has a device of its own on each host
 * that runs a VM of it. One more device, the transit, carries routed packets between hosts.
 *
 * Each host computes the transit addresses of the others from their underlay addresses, so nothing has to be stored or
 * exchanged.
 */
import { createHash } from 'node:crypto';
import { formatIpv6, linkLocalAddress, type Mac, storedIpv6 } from './addresses.ts';
import { maxVni } from './vnis.ts';

/** The UDP port of VXLAN (RFC 7348). */
export const vxlanPort = 4789;
/** The VNI of the transit. No network has it. */
export const transitVni = maxVni + 1;
/** The name of the transit on every host. */
export const transitName = 'uvtransit';
/** The bytes that a tunnel adds to an IPv6 packet: the headers of Ethernet, VXLAN, UDP and IPv6. */
export const tunnelOverhead = 14 + 8 + 8 + 40;
/** The minimum MTU of the underlay. IPv6 needs 1280 bytes inside a tunnel (RFC 8200). */
export const minUnderlayMtu = 1280 + tunnelOverhead;

/** Returns the name of a network's VXLAN device, made of its VNI (24 bits): `uv4711`. */
export const vxlanName = (vni: number): string => `uv${vni}`;

/** Tells whether the name is that of the VXLAN device of a network. */
export const isVxlanName = (name: string): boolean => /^uv\d{1,8}$/.test(name);

/**
 * Returns the MAC address of a host's transit, from its underlay address. It is locally administered. Its first byte
 * differs from those of VMs and bridges.
 */
export function transitMac(underlayAddress: string): Mac {
  const digits = createHash('sha256')
    .update(formatIpv6(storedIpv6(underlayAddress)))
    .digest('hex')
    .slice(0, 10);
  return `0a:${(digits.match(/../g) ?? []).join(':')}`;
}

/** Returns the link-local address of a host's transit. */
export const transitAddress = (underlayAddress: string): string =>
  formatIpv6(linkLocalAddress(transitMac(underlayAddress)));

/** Returns the MTU inside a tunnel. */
export const innerMtu = (underlayMtu: number): number => underlayMtu - tunnelOverhead;
