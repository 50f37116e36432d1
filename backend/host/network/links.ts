/**
 * Bridges and taps: what they should be, what they are (`ip -j`), and the commands of `ip -batch` that lead from one to
 * the other. Pure but for `observeLinks`.
 *
 * A bridge is the guests' router: it has the same MAC and link-local addresses on every host, set without duplicate
 * address detection, and `<prefix>::1` so that host and guests reach each other. No interface here makes addresses of
 * its own (`addrgenmode none`), else the host would appear in the tenants' networks under a second one.
 */
import { formatIpv6 } from '../../model/addresses.ts';
import { bridgeName, gatewayAddress, gatewayMac, metadataAddress } from '../../model/interface-names.ts';
import { storedPrefix } from '../../model/prefixes.ts';
import type { NetworkSpec } from '../hypervisor/hypervisor.ts';
import type { Run } from '../system/command.ts';
import { interfaceAlias } from '../system/instance.ts';

export interface Bridge {
  readonly kind: 'bridge';
  readonly name: string;
  readonly alias: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly Address[];
}

export interface Tap {
  readonly kind: 'tap';
  readonly name: string;
  readonly alias: string;
  /** None: its network is not on this host (any more), the tap stays unplugged. */
  readonly bridge: string | undefined;
  readonly mtu: number;
  /** The user whose processes may attach to it without privileges. */
  readonly uid: number;
}

export type DesiredLink = Bridge | Tap;

interface Address {
  /** With prefix length, as `ip` prints it. */
  readonly cidr: string;
  /** Never chosen as source of the host's own traffic. */
  readonly deprecated: boolean;
}

export interface ObservedLink {
  readonly name: string;
  readonly kind?: string;
  readonly alias?: string;
  readonly mac?: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly master?: string;
  readonly addressGeneration?: string;
  readonly addresses: readonly string[];
}

/** One line for `ip -batch`, and the interface it is about. */
export interface LinkCommand {
  readonly link: string;
  readonly line: string;
}

/** The router's address in the network's prefix. */
export const routerAddress = (cidr: string): string => formatIpv6(storedPrefix(cidr).address | 1n);

export const bridgeOf = (instance: string, network: NetworkSpec): Bridge => ({
  kind: 'bridge',
  name: bridgeName(network.vni),
  alias: interfaceAlias(instance, network.id),
  mac: gatewayMac(network.vni),
  mtu: network.mtu,
  addresses: [
    { cidr: `${gatewayAddress}/64`, deprecated: false },
    { cidr: `${metadataAddress}/128`, deprecated: true },
    { cidr: `${routerAddress(network.cidr)}/64`, deprecated: false },
  ],
});

interface IpLink {
  ifname: string;
  mtu: number;
  flags: string[];
  address?: string;
  ifalias?: string;
  master?: string;
  inet6_addr_gen_mode?: string;
  linkinfo?: { info_kind?: string };
}
interface IpAddress {
  ifname: string;
  addr_info: { local: string; prefixlen: number }[];
}

/** All interfaces of the network namespace, with their IPv6 addresses. */
export async function observeLinks(run: Run): Promise<Map<string, ObservedLink>> {
  const links = JSON.parse(await run('ip', ['-j', '-d', 'link', 'show'])) as IpLink[];
  const addresses = new Map<string, string[]>();
  for (const { ifname, addr_info } of JSON.parse(await run('ip', ['-j', '-6', 'addr', 'show'])) as IpAddress[]) {
    // `ip` leaves empty objects where an interface has no address of the family.
    if (ifname)
      addresses.set(
        ifname,
        addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      );
  }
  return new Map(
    links.map((link): [string, ObservedLink] => [
      link.ifname,
      {
        name: link.ifname,
        kind: link.linkinfo?.info_kind,
        alias: link.ifalias,
        mac: link.address,
        mtu: link.mtu,
        up: link.flags.includes('UP'),
        master: link.master,
        addressGeneration: link.inet6_addr_gen_mode,
        addresses: addresses.get(link.ifname) ?? [],
      },
    ]),
  );
}

/** Commands that make the interface what it should be; none if it is. */
export function planLink(desired: DesiredLink, observed: ObservedLink | undefined): LinkCommand[] {
  const { name } = desired;
  const lines: string[] = [];
  if (!observed) {
    lines.push(
      desired.kind === 'bridge'
        ? `link add name ${name} address ${desired.mac} type bridge stp_state 0 mcast_snooping 0`
        : `tuntap add name ${name} mode tap user ${desired.uid} vnet_hdr`,
    );
  }
  if (observed?.alias !== desired.alias) lines.push(`link set dev ${name} alias ${desired.alias}`);
  if (observed?.addressGeneration !== 'none') lines.push(`link set dev ${name} addrgenmode none`);
  if (desired.kind === 'bridge' && observed && observed.mac !== desired.mac) {
    lines.push(`link set dev ${name} address ${desired.mac}`);
  }
  if (observed?.mtu !== desired.mtu) lines.push(`link set dev ${name} mtu ${desired.mtu}`);
  const plugged = desired.kind === 'bridge' || desired.bridge !== undefined;
  if (desired.kind === 'tap' && observed?.master !== desired.bridge) {
    lines.push(`link set dev ${name} ${desired.bridge === undefined ? 'nomaster' : `master ${desired.bridge}`}`);
  }
  if ((observed?.up ?? false) !== plugged) lines.push(`link set dev ${name} ${plugged ? 'up' : 'down'}`);
  const wanted = desired.kind === 'bridge' ? desired.addresses : [];
  const present = observed?.addresses ?? [];
  for (const { cidr, deprecated } of wanted) {
    if (present.includes(cidr)) continue;
    lines.push(`addr add ${cidr} dev ${name} nodad${deprecated ? ' preferred_lft 0' : ''}`);
  }
  for (const cidr of present) {
    if (!wanted.some((address) => address.cidr === cidr)) lines.push(`addr del ${cidr} dev ${name}`);
  }
  return lines.map((line) => ({ link: name, line }));
}

export const planRemoval = (link: ObservedLink): LinkCommand => ({
  link: link.name,
  line: link.kind === 'tun' ? `tuntap del name ${link.name} mode tap` : `link del dev ${link.name}`,
});
