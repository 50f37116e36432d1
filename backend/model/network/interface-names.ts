/**
 * Names of network interfaces on a host. Linux allows 15 characters, so the names contain numbers instead of ids. The
 * host agent and the metadata server find each other's interfaces by these rules alone.
 */
import { type Mac, macKey } from './addresses.ts';

/** Returns the name of a network's bridge, made of its VNI (24 bits): `ub4711`. */
export const bridgeName = (vni: number): string => `ub${vni}`;

/** Tells whether the name is that of a network's bridge. */
export const isBridgeName = (name: string): boolean => /^ub\d{1,8}$/.test(name);

/** Returns the name of a tap, from the MAC of its interface: `ut005e100001` for a computed MAC, else `ut02005e100001`. */
export const tapName = (mac: Mac): string => `ut${macKey(mac)}`;

/** Returns the tap of an interface, with the name that it got at its start. */
export const tapOf = ({ mac, tap }: { readonly mac: Mac; readonly tap?: string }): string => tap ?? tapName(mac);

/** Tells whether the name is that of a tap. */
export const isTapName = (name: string): boolean => /^ut[0-9a-f]{10}(?:[0-9a-f]{2})?$/.test(name);

/**
 * Returns the MAC address of a network's bridge. It is the same on every host, so the router address of the guests
 * stays the same. It is locally administered. Its first byte differs from that of the VMs' MAC addresses, so no VM can
 * have it.
 */
export const gatewayMac = (vni: number): string =>
  ['06', '00', '5e', ...[vni >> 16, vni >> 8, vni].map((byte) => (byte & 255).toString(16).padStart(2, '0'))].join(':');

/** The router's address on every bridge of every host (anycast). */
export const gatewayAddress = 'fe80::1';
/** The metadata server's address on every bridge of every host (anycast). */
export const metadataAddress = 'fe80::a9fe:a9fe';
