/**
 * Bridges, taps and tunnels: their desired state, their observed state (`ip -j`), and the commands of `ip -batch` for the
 * difference. Only `observeLinks` has effects.
 *
 * A bridge is the router of its guests. It has the same MAC address and link-local addresses on every host, without
 * duplicate address detection. Its address `<prefix>::1` lets host and guests reach each other. Interfaces generate no
 * addresses (`addrgenmode none`), because the host would otherwise have a second address in the networks of tenants.
 * Addresses create no routes to their prefixes, so the host sends only to known guests (paths.ts).
 *
 * Bridges learn no MAC addresses, because a frame could otherwise move the entry of another guest. They drop frames to
 * unknown MAC addresses. They flood frames to groups, because neighbour discovery uses groups.
 *
 * The VXLAN device of a network joins its bridge to those of other hosts. It has no default destination, so it drops each
 * frame without an entry. The bridge answers neighbour solicitations for guests behind it. The transit is a VXLAN device
 * without a bridge, on which hosts route packets to each other.
 *
 * A new interface is closed: it is down and in no bridge. It is opened after its kernel settings and its filter are in
 * force.
 */
import { formatIpv6 } from '../../model/network/addresses.ts';
import {
  innerMtu,
  transitAddress,
  transitMac,
  transitName,
  transitVni,
  vxlanName,
  vxlanPort,
} from '../../model/network/fabric.ts';
import { bridgeName, gatewayAddress, gatewayMac, metadataAddress } from '../../model/network/interface-names.ts';
import { storedPrefix } from '../../model/network/prefixes.ts';
import type { FabricSpec, NetworkSpec } from '../hypervisor/specs.ts';
import type { Run } from '../system/command.ts';
import { interfaceAlias } from '../system/instance.ts';

/** The desired state of a network's bridge. */
export interface Bridge {
  readonly kind: 'bridge';
  readonly name: string;
  readonly alias: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly Address[];
  /** Frames between the guests of the bridge pass the IP filters of the host. */
  readonly filtered: boolean;
}

/** The desired state of the tap of a VM's interface. */
export interface Tap {
  readonly kind: 'tap';
  readonly name: string;
  readonly alias: string;
  /** The tap's bridge. It is undefined if the network is not on this host, and the tap is then closed. */
  readonly bridge: string | undefined;
  /** Frames of this tap reach only the host, not the other isolated taps of the bridge. */
  readonly isolated: boolean;
  readonly mtu: number;
}

/** The desired state of a network's VXLAN device. */
export interface Vxlan {
  readonly kind: 'vxlan';
  readonly name: string;
  readonly alias: string;
  readonly vni: number;
  /** The underlay address of this host. */
  readonly local: string;
  readonly bridge: string;
  readonly mtu: number;
}

/** The desired state of the transit. */
export interface Transit {
  readonly kind: 'transit';
  readonly name: string;
  readonly alias: string;
  readonly vni: number;
  readonly local: string;
  readonly mac: string;
  readonly mtu: number;
  readonly addresses: readonly Address[];
}

/** The desired state of an interface. */
export type DesiredLink = Bridge | Tap | Vxlan | Transit;

/** The kind of an interface, as `ip` prints it. */
export const linkKinds: Readonly<Record<DesiredLink['kind'], string>> = {
  bridge: 'bridge',
  tap: 'tun',
  vxlan: 'vxlan',
  transit: 'vxlan',
};

interface Address {
  /** The address with its prefix length, as `ip` prints it. */
  readonly cidr: string;
  /** True if the host never chooses the address as source of its own packets. */
  readonly deprecated: boolean;
}

type Flags = Readonly<Record<string, unknown>>;

/** The observed state of an interface. */
export interface ObservedLink {
  readonly name: string;
  readonly kind?: string;
  readonly alias?: string;
  readonly mac?: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly master?: string;
  readonly addressGeneration?: string;
  /** The settings of a bridge. */
  readonly bridge?: Flags;
  /** The settings of a VXLAN device. */
  readonly vxlan?: Flags;
  /** The settings of an interface in a bridge. */
  readonly port?: Flags;
  readonly addresses: readonly ObservedAddress[];
}

/** The observed interfaces by name. */
export type ObservedLinks = ReadonlyMap<string, ObservedLink>;

interface ObservedAddress {
  readonly cidr: string;
  /** True if the kernel has created a route to the address's prefix. */
  readonly routed: boolean;
}

/** A kernel without br_netfilter shows no such setting, and accepts none. */
const bridgeSettings = (filtered: boolean, observed: Flags = {}) => ({
  stp_state: 0,
  mcast_snooping: 0,
  no_linklocal_learn: 1,
  ...((filtered || 'nf_call_ip6tables' in observed) && { nf_call_ip6tables: filtered ? 1 : 0 }),
});
const portSettings = {
  learning: false,
  flood: false,
  mcast_flood: true,
  bcast_flood: false,
  hairpin: false,
  isolated: false,
  neigh_suppress: false,
};

const tunnelPortSettings = { ...portSettings, mcast_flood: false, neigh_suppress: true };

/** One line for `ip -batch`, with the interface that it changes. */
export interface LinkCommand {
  readonly link: string;
  readonly line: string;
}

/** Returns the router's address in the network's prefix: `<prefix>::1`. */
export const routerAddress = (cidr: string): string => formatIpv6(storedPrefix(cidr).address | 1n);

/** Returns the MTU of the network's interfaces on the host. */
export const linkMtu = ({ mtu, link_mtu = mtu }: NetworkSpec): number => Math.max(mtu, link_mtu);

/** Returns the desired state of the network's VXLAN device. */
export const vxlanOf = (instance: string, network: NetworkSpec, { address }: FabricSpec): Vxlan => ({
  kind: 'vxlan',
  name: vxlanName(network.vni),
  alias: interfaceAlias(instance, network.id),
  vni: network.vni,
  local: address,
  bridge: bridgeName(network.vni),
  mtu: linkMtu(network),
});

/** Returns the desired state of the transit. */
export const transitOf = (instance: string, { address, mtu }: FabricSpec): Transit => ({
  kind: 'transit',
  name: transitName,
  alias: interfaceAlias(instance, 'transit'),
  vni: transitVni,
  local: address,
  mac: transitMac(address),
  // The host then tells senders itself which packets are too large for a tunnel.
  mtu: innerMtu(mtu),
  addresses: [{ cidr: `${transitAddress(address)}/64`, deprecated: false }],
});

/** Returns the desired state of the network's bridge. */
export const bridgeOf = (instance: string, network: NetworkSpec, filtered: boolean): Bridge => ({
  kind: 'bridge',
  name: bridgeName(network.vni),
  alias: interfaceAlias(instance, network.id),
  mac: gatewayMac(network.vni),
  mtu: linkMtu(network),
  addresses: [
    { cidr: `${gatewayAddress}/64`, deprecated: false },
    { cidr: `${metadataAddress}/128`, deprecated: true },
    { cidr: `${routerAddress(network.cidr)}/64`, deprecated: false },
  ],
  filtered,
});

interface IpLink {
  ifname: string;
  mtu: number;
  flags: string[];
  address?: string;
  ifalias?: string;
  master?: string;
  inet6_addr_gen_mode?: string;
  linkinfo?: { info_kind?: string; info_data?: Flags; info_slave_kind?: string; info_slave_data?: Flags };
}
interface IpAddress {
  ifname: string;
  addr_info: { local: string; prefixlen: number; noprefixroute?: boolean }[];
}

/** Returns all interfaces of the network namespace, with their IPv6 addresses. */
export async function observeLinks(run: Run): Promise<ObservedLinks> {
  const [shown, addressed] = await Promise.all([
    run('ip', ['-j', '-d', 'link', 'show']),
    run('ip', ['-j', '-6', 'addr', 'show']),
  ]);
  const links = JSON.parse(shown) as IpLink[];
  const addresses = new Map<string, ObservedAddress[]>();
  for (const { ifname, addr_info } of JSON.parse(addressed) as IpAddress[]) {
    // `ip` prints an empty object for an interface without an address of the family.
    if (ifname)
      addresses.set(
        ifname,
        addr_info.map(({ local, prefixlen, noprefixroute }) => ({
          cidr: `${local}/${prefixlen}`,
          routed: noprefixroute !== true,
        })),
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
        bridge: link.linkinfo?.info_kind === 'bridge' ? link.linkinfo.info_data : undefined,
        vxlan: link.linkinfo?.info_kind === 'vxlan' ? link.linkinfo.info_data : undefined,
        port: link.linkinfo?.info_slave_kind === 'bridge' ? link.linkinfo.info_slave_data : undefined,
        addresses: addresses.get(link.ifname) ?? [],
      },
    ]),
  );
}

/** Returns the arguments that change the differing settings; empty if no setting differs. */
function differingSettings(wanted: Readonly<Record<string, number | boolean>>, present: Flags = {}): string {
  const onOff = { true: 'on', false: 'off' };
  return Object.entries(wanted)
    .filter(([name, value]) => present[name] !== value)
    .map(([name, value]) => `${name} ${typeof value === 'boolean' ? onOff[`${value}`] : value}`)
    .join(' ');
}

const commandsFor = (link: string, lines: readonly string[]): LinkCommand[] => lines.map((line) => ({ link, line }));

/** Returns the command that creates the interface. */
function creationOf(desired: DesiredLink): string {
  const { name, kind } = desired;
  switch (kind) {
    case 'bridge':
      return `link add name ${name} address ${desired.mac} type bridge ${differingSettings(bridgeSettings(desired.filtered))}`;
    case 'tap':
      // Without an owner, every user could open the tap.
      return `tuntap add name ${name} mode tap user 0`;
    case 'vxlan':
      return `link add name ${name} type ${vxlanType(desired)}`;
    case 'transit':
      return `link add name ${name} address ${desired.mac} type ${vxlanType(desired)}`;
  }
}

/** Without a link of its own, the device follows the routes of the underlay. */
const vxlanType = ({ vni, local }: Vxlan | Transit): string =>
  `vxlan id ${vni} local ${local} dstport ${vxlanPort} nolearning ttl 64`;

/** Returns the commands that correct the settings of the kind. */
function corrections(desired: DesiredLink, observed: ObservedLink): string[] {
  const { name, kind } = desired;
  switch (kind) {
    case 'bridge': {
      const settings = differingSettings(bridgeSettings(desired.filtered, observed.bridge), observed.bridge);
      return settings === '' ? [] : [`link set dev ${name} type bridge ${settings}`];
    }
    case 'tap':
      return [];
    case 'vxlan':
    case 'transit': {
      const { id, local6, port, learning } = observed.vxlan ?? {};
      const isRight =
        id === desired.vni && local6 === desired.local && port === vxlanPort && (learning ?? true) === false;
      // The kernel changes only some settings. The device is created again with the others.
      return isRight ? [] : [`link del dev ${name}`];
    }
  }
}

/** Returns the commands that create the interface with its settings, without opening it; none if it is right. */
export function planCreation(desired: DesiredLink, observed: ObservedLink | undefined): LinkCommand[] {
  const { name } = desired;
  const lines: string[] = observed ? corrections(desired, observed) : [creationOf(desired)];
  if (observed?.alias !== desired.alias) lines.push(`link set dev ${name} alias ${desired.alias}`);
  if (observed?.addressGeneration !== 'none') lines.push(`link set dev ${name} addrgenmode none`);
  if ('mac' in desired && observed && observed.mac !== desired.mac) {
    lines.push(`link set dev ${name} address ${desired.mac}`);
  }
  if (observed?.mtu !== desired.mtu) lines.push(`link set dev ${name} mtu ${desired.mtu}`);
  return commandsFor(name, lines);
}

/** Returns the commands that open or close the interface; none if it is right. */
export const planOpening = (desired: DesiredLink, observed: ObservedLink | undefined): LinkCommand[] =>
  commandsFor(desired.name, 'addresses' in desired ? openRouter(desired, observed) : openPort(desired, observed));

function openRouter({ name, addresses }: Bridge | Transit, observed: ObservedLink | undefined): string[] {
  const present = observed?.addresses ?? [];
  return [
    ...(observed?.up ? [] : [`link set dev ${name} up`]),
    ...addresses.flatMap(({ cidr, deprecated }) =>
      present.some((address) => address.cidr === cidr && !address.routed)
        ? []
        : [`addr replace ${cidr} dev ${name} nodad noprefixroute${deprecated ? ' preferred_lft 0' : ''}`],
    ),
    ...present
      .filter(({ cidr }) => !addresses.some((address) => address.cidr === cidr))
      .map(({ cidr }) => `addr del ${cidr} dev ${name}`),
  ];
}

function openPort(desired: Tap | Vxlan, observed: ObservedLink | undefined): string[] {
  const { name, bridge } = desired;
  if (bridge === undefined) {
    return [
      ...(observed?.up ? [`link set dev ${name} down`] : []),
      ...(observed?.master === undefined ? [] : [`link set dev ${name} nomaster`]),
    ];
  }
  // A new port learns MAC addresses by default, so it goes up only after its settings.
  const joins = observed?.master !== bridge;
  const wanted = desired.kind === 'tap' ? { ...portSettings, isolated: desired.isolated } : tunnelPortSettings;
  const settings = differingSettings(wanted, joins ? {} : observed?.port);
  return [
    ...(joins && observed?.up ? [`link set dev ${name} down`] : []),
    ...(joins ? [`link set dev ${name} master ${bridge}`] : []),
    ...(settings === '' ? [] : [`link set dev ${name} type bridge_slave ${settings}`]),
    ...(joins || !observed?.up ? [`link set dev ${name} up`] : []),
  ];
}

/** Returns the command that removes the interface. */
export const planRemoval = (link: ObservedLink): LinkCommand => ({
  link: link.name,
  line: link.kind === 'tun' ? `tuntap del name ${link.name} mode tap` : `link del dev ${link.name}`,
});
