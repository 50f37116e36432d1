/**
 * Names of network interfaces on a host. Linux allows 15 characters, so they are made from numbers, not from ids;
 * host agent and metadata server find each other's interfaces by these rules alone.
 */
import { earlierMacKey, type Mac, macKey } from './addresses.ts';

/** Bridge of a network, from its VNI (24 bits): `ub4711`. */
export const bridgeName = (vni: number): string => `ub${vni}`;

/** Tap of a VM's interface, from its MAC address: `ut005e100001` for one that was computed, else `ut02005e100001`. */
export const tapName = (mac: Mac): string => `ut${macKey(mac)}`;

/** What earlier versions called it. A VM that they have started keeps it until it ends. */
export const earlierTapName = (mac: Mac): string => `ut${earlierMacKey(mac)}`;

/** Tap of an interface as it was started. */
export const tapOf = ({ mac, tap }: { readonly mac: Mac; readonly tap?: string }): string => tap ?? tapName(mac);

export const isTapName = (name: string): boolean => /^ut[0-9a-f]{10}(?:[0-9a-f]{2})?$/.test(name);

/**
 * MAC of a network's bridge, the same on every host: the guests' router keeps its address when a VM moves. Locally
 * administered; its first byte differs from that of the MACs given to VMs, so no VM can be given it.
 */
export const gatewayMac = (vni: number): string =>
  ['06', '00', '5e', ...[vni >> 16, vni >> 8, vni].map((byte) => (byte & 255).toString(16).padStart(2, '0'))].join(':');

/** Addresses that every bridge of every host has (anycast): the router's and the metadata server's. */
export const gatewayAddress = 'fe80::1';
export const metadataAddress = 'fe80::a9fe:a9fe';
