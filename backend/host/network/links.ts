/**
 * Bridges and taps: what they should be, what they are (`ip -j`), and the commands of `ip -batch` that lead from one to
 * the other. Pure but for `observeLinks`.
 *
 * A bridge is the guests' router: it has the same MAC and link-local addresses on every host, set without duplicate
 * address detection, and `<prefix>::1` so that host and guests reach each other. No interface here makes addresses of
 * its own (`addrgenmode none`), else the host would appear in the tenants' networks under a second one. Addresses bring
 * no routes to their prefixes: the host looks for nobody on a bridge but for the guests that it knows (paths.ts).
 *
 * Bridges learn nothing, as a frame could move the entry of another guest. What goes to a MAC that nobody has goes nowhere;
 * groups are flooded, as guests look for each other that way.
 *
 * An interface is made first, closed: down and in no bridge. It is opened when kernel settings and filter are in force.
 */
import { formatIpv6 } from '../../model/network/addresses.ts';
import { bridgeName, gatewayAddress, gatewayMac, metadataAddress } from '../../model/network/interface-names.ts';
import { storedPrefix } from '../../model/network/prefixes.ts';
import type { NetworkSpec } from '../hypervisor/specs.ts';
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
}

export type DesiredLink = Bridge | Tap;

interface Address {
  /** With prefix length, as `ip` prints it. */
  readonly cidr: string;
  /** Never chosen as source of the host's own traffic. */
  readonly deprecated: boolean;
}

type Flags = Readonly<Record<string, unknown>>;

export interface ObservedLink {
  readonly name: string;
  readonly kind?: string;
  readonly alias?: string;
  readonly mac?: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly master?: string;
  readonly addressGeneration?: string;
  /** Settings of the bridge, if it is one; of the port, if it is in one. */
  readonly bridge?: Flags;
  readonly port?: Flags;
  readonly addresses: readonly ObservedAddress[];
}

export type ObservedLinks = ReadonlyMap<string, ObservedLink>;

interface ObservedAddress {
  readonly cidr: string;
  /** The kernel made a route to the prefix of it. */
  readonly routed: boolean;
}

const bridgeSettings = { stp_state: 0, mcast_snooping: 0, no_linklocal_learn: 1 };
const portSettings = {
  learning: false,
  flood: false,
  mcast_flood: true,
  bcast_flood: false,
  hairpin: false,
  isolated: false,
  neigh_suppress: false,
};

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
  linkinfo?: { info_kind?: string; info_data?: Flags; info_slave_kind?: string; info_slave_data?: Flags };
}
interface IpAddress {
  ifname: string;
  addr_info: { local: string; prefixlen: number; noprefixroute?: boolean }[];
}

/** All interfaces of the network namespace, with their IPv6 addresses. */
export async function observeLinks(run: Run): Promise<ObservedLinks> {
  const [shown, addressed] = await Promise.all([
    run('ip', ['-j', '-d', 'link', 'show']),
    run('ip', ['-j', '-6', 'addr', 'show']),
  ]);
  const links = JSON.parse(shown) as IpLink[];
  const addresses = new Map<string, ObservedAddress[]>();
  for (const { ifname, addr_info } of JSON.parse(addressed) as IpAddress[]) {
    // `ip` leaves empty objects where an interface has no address of the family.
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
        port: link.linkinfo?.info_slave_kind === 'bridge' ? link.linkinfo.info_slave_data : undefined,
        addresses: addresses.get(link.ifname) ?? [],
      },
    ]),
  );
}

/** Arguments that set what differs; none if nothing does. */
function differing(wanted: Readonly<Record<string, number | boolean>>, present: Flags = {}): string {
  const words = { true: 'on', false: 'off' };
  return Object.entries(wanted)
    .filter(([name, value]) => present[name] !== value)
    .map(([name, value]) => `${name} ${typeof value === 'boolean' ? words[`${value}`] : value}`)
    .join(' ');
}

const of = (link: string, lines: readonly string[]): LinkCommand[] => lines.map((line) => ({ link, line }));

/** Commands that make the interface and what of it is right whether it is open or not; none if it is so. */
export function planMaking(desired: DesiredLink, observed: ObservedLink | undefined): LinkCommand[] {
  const { name } = desired;
  const lines: string[] = [];
  if (!observed) {
    lines.push(
      desired.kind === 'bridge'
        ? `link add name ${name} address ${desired.mac} type bridge ${differing(bridgeSettings)}`
        : // Without an owner, anybody could open it.
          `tuntap add name ${name} mode tap user 0`,
    );
  }
  if (observed?.alias !== desired.alias) lines.push(`link set dev ${name} alias ${desired.alias}`);
  if (observed?.addressGeneration !== 'none') lines.push(`link set dev ${name} addrgenmode none`);
  if (desired.kind === 'bridge' && observed) {
    if (observed.mac !== desired.mac) lines.push(`link set dev ${name} address ${desired.mac}`);
    const settings = differing(bridgeSettings, observed.bridge);
    if (settings !== '') lines.push(`link set dev ${name} type bridge ${settings}`);
  }
  if (observed?.mtu !== desired.mtu) lines.push(`link set dev ${name} mtu ${desired.mtu}`);
  return of(name, lines);
}

/** Commands that open the interface, or close it; none if it is so. */
export const planOpening = (desired: DesiredLink, observed: ObservedLink | undefined): LinkCommand[] =>
  of(desired.name, desired.kind === 'bridge' ? openBridge(desired, observed) : openTap(desired, observed));

function openBridge({ name, addresses }: Bridge, observed: ObservedLink | undefined): string[] {
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

function openTap({ name, bridge }: Tap, observed: ObservedLink | undefined): string[] {
  if (bridge === undefined) {
    return [
      ...(observed?.up ? [`link set dev ${name} down`] : []),
      ...(observed?.master === undefined ? [] : [`link set dev ${name} nomaster`]),
    ];
  }
  // Ports of a bridge learn until they are told otherwise: not before they are up.
  const joins = observed?.master !== bridge;
  const settings = differing(portSettings, joins ? {} : observed?.port);
  return [
    ...(joins && observed?.up ? [`link set dev ${name} down`] : []),
    ...(joins ? [`link set dev ${name} master ${bridge}`] : []),
    ...(settings === '' ? [] : [`link set dev ${name} type bridge_slave ${settings}`]),
    ...(joins || !observed?.up ? [`link set dev ${name} up`] : []),
  ];
}

export const planRemoval = (link: ObservedLink): LinkCommand => ({
  link: link.name,
  line: link.kind === 'tun' ? `tuntap del name ${link.name} mode tap` : `link del dev ${link.name}`,
});
