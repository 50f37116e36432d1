/**
 * Names of network interfaces on a host. Linux allows 15 characters, so they are made from numbers, not from ids;
 * host agent and metadata server find each other's interfaces by these rules alone.
 */
import { type Mac, macKey } from './addresses.ts';

/** Bridge of a network, from its VNI (24 bits): `ub4711`. */
export const bridgeName = (vni: number): string => `ub${vni}`;

/** Tap of a VM's interface, from its MAC address, whose first byte is the same for nearly all: `ut005e100001`. */
export const tapName = (mac: Mac): string => `ut${macKey(mac)}`;

export const isTapName = (name: string): boolean => /^ut[0-9a-f]{10}$/.test(name);

/**
 * MAC of a network's bridge, the same on every host: the guests' router keeps its address when a VM moves. Locally
 * administered; its first byte differs from that of the MACs given to VMs, so no VM can be given it.
 */
export const gatewayMac = (vni: number): string =>
  ['06', '00', '5e', ...[vni >> 16, vni >> 8, vni].map((byte) => (byte & 255).toString(16).padStart(2, '0'))].join(':');

/** Addresses that every bridge of every host has (anycast): the router's and the metadata server's. */
export const gatewayAddress = 'fe80::1';
export const metadataAddress = 'fe80::a9fe:a9fe';
