/**
 * The paths to guests: forwarding entries, neighbours and routes. This file has their desired state, their observed state,
 * and the commands for the difference. Only `observePaths` has effects.
 *
 * The agent knows the MAC address and the IPv6 addresses of each guest on each host, so nothing is discovered, learned or
 * flooded between hosts:
 * - A guest on this host has a forwarding entry at its tap, a permanent neighbour and a route for each address.
 * - A guest on another host has, if its network is on this host, forwarding entries at the VXLAN device of the network and
 *   neighbours. The bridge answers neighbour solicitations for it. Its route leads over the transit.
 * - A prefix that is routed to a guest of this host has a route with the guest's address as next hop. Those of guests on other
 *   hosts lead over the transit.
 * - The transit has a neighbour and a forwarding entry for each other host.
 *
 * All other addresses of a network's prefix are unreachable. A scan therefore creates no entries, and its sender gets "no
 * route". The devices have no other routes.
 *
 * The kernel removes entries with their interface, and neighbours and routes with their bridge. An unreachable prefix
 * belongs to no interface, so the number of the routing protocol identifies it. It belongs to another instance if a bridge
 * of that instance has the router's address.
 */
import { formatIpv6, linkLocalAddress } from '../../model/network/addresses.ts';
import { transitAddress, transitMac, transitName, vxlanName } from '../../model/network/fabric.ts';
import { bridgeName } from '../../model/network/interface-names.ts';
import type { FabricSpec } from '../hypervisor/specs.ts';
import type { Run } from '../system/command.ts';
import type { LinkCommand } from './links.ts';

/** The number of ucloud's routing protocol. No known program uses it (iproute2, rt_protos). */
const protocol = 117;
/** The metric is so large that every other route has precedence. */
const unreachableMetric = 4096;

/** Returns an address or prefix as `ip` prints it. */
const withoutLength = (dst: string): string => dst.replace(/\/128$/, '');
const withLength = (to: string): string => (to.includes('/') ? to : `${to}/128`);

/** A guest's interface whose tap is in a bridge. */
export interface GuestPort {
  readonly tap: string;
  readonly bridge: string;
  readonly mac: string;
  /** The addresses in the network's prefix, and the link-local address. */
  readonly addresses: readonly string[];
  /** The prefixes that are routed to the guest. */
  readonly prefixes: readonly string[];
}

/** A forwarding entry. `link` is the interface whose fault it is if the entry cannot be set. */
interface DesiredEntry {
  readonly link: string;
  readonly device: string;
  readonly mac: string;
  /** The underlay address of the host to which the VXLAN device sends. Undefined: the entry of a bridge's port. */
  readonly to?: string;
}
interface DesiredNeighbour {
  readonly link: string;
  readonly device: string;
  readonly address: string;
  readonly mac: string;
}
interface DesiredRoute {
  readonly link: string;
  readonly device: string;
  /** An address without length, or a prefix, as `ip` prints it. */
  readonly to: string;
  readonly gateway?: string;
}

/** The desired paths of an instance. */
export interface DesiredPaths {
  readonly entries: readonly DesiredEntry[];
  readonly neighbours: readonly DesiredNeighbour[];
  readonly routes: readonly DesiredRoute[];
  /** The unreachable prefixes, with the interface whose fault it is. */
  readonly unreachable: readonly { readonly link: string; readonly prefix: string }[];
  /** The taps, bridges and tunnels whose entries, neighbours and routes belong to the instance. */
  readonly devices: readonly string[];
  /** Tells whether the prefix belongs to a network of another instance. */
  isForeign(prefix: string): boolean;
}

/** The interfaces of guests on this host. */
export function localPaths(ports: readonly GuestPort[]): Pick<DesiredPaths, 'entries' | 'neighbours' | 'routes'> {
  const each = ports.flatMap((port) => port.addresses.map((address) => ({ ...port, address })));
  return {
    entries: ports.map(({ tap, mac }) => ({ link: tap, device: tap, mac })),
    neighbours: each.map(({ tap, bridge, mac, address }) => ({ link: tap, device: bridge, address, mac })),
    routes: [
      ...each.map(({ tap, bridge, address }) => ({ link: tap, device: bridge, to: address })),
      // The kernel accepts a next hop only after the route to it.
      ...ports.flatMap(({ tap, bridge, addresses: [gateway = ''], prefixes }) =>
        prefixes.map((prefix) => ({ link: tap, device: bridge, to: withoutLength(prefix), gateway })),
      ),
    ],
  };
}

/**
 * The interfaces of guests on other hosts, and the other hosts.
 * @param available the names of the instance's interfaces without fault
 */
export function remotePaths(
  { peers, interfaces, routes }: FabricSpec,
  available: ReadonlySet<string>,
): Pick<DesiredPaths, 'entries' | 'neighbours' | 'routes'> {
  const link = transitName;
  const known = new Set(peers);
  const there = interfaces.filter(({ via }) => known.has(via));
  const bridged = there.flatMap(({ vni, mac, address, more_addresses = [], via }) => {
    if (vni === undefined) return [];
    const [bridge, device] = [bridgeName(vni), vxlanName(vni)];
    const addresses = [address, ...more_addresses, formatIpv6(linkLocalAddress(mac))];
    return available.has(bridge) && available.has(device) ? [{ bridge, device, mac, addresses, via }] : [];
  });
  // A fault of the transit leaves the networks alone.
  const transitPeers = available.has(transitName) ? peers : [];
  const reached = new Set(transitPeers);
  const routed = [
    ...there.flatMap(({ address, more_addresses = [], via }) =>
      [address, ...more_addresses].map((to) => ({ to, via })),
    ),
    ...routes.map(({ prefix, via }) => ({ to: prefix, via })),
  ];
  return {
    entries: [
      ...transitPeers.map((peer) => ({ link, device: link, mac: transitMac(peer), to: peer })),
      ...bridged.flatMap(({ device, mac, via }) => [
        { link: device, device, mac, to: via },
        { link: device, device, mac },
      ]),
    ],
    neighbours: [
      ...transitPeers.map((peer) => ({ link, device: link, address: transitAddress(peer), mac: transitMac(peer) })),
      ...bridged.flatMap(({ bridge, device, mac, addresses }) =>
        addresses.map((address) => ({ link: device, device: bridge, address, mac })),
      ),
    ],
    routes: routed
      .filter(({ via }) => reached.has(via))
      .map(({ to, via }) => ({ link, device: link, to: withoutLength(to), gateway: transitAddress(via) })),
  };
}

interface Entry {
  readonly mac: string;
  readonly ifname: string;
  readonly master?: string;
  readonly dst?: string;
  readonly flags?: readonly string[];
  readonly state: string;
}
interface Neighbour {
  readonly dst: string;
  readonly dev: string;
  readonly lladdr?: string;
}
interface Route {
  readonly type?: string;
  readonly dst: string;
  readonly gateway?: string;
  readonly metric?: number;
}

/** The observed paths of the machine. */
export interface ObservedPaths {
  readonly entries: readonly Entry[];
  readonly neighbours: readonly Neighbour[];
  /** The routes by device. */
  readonly routes: ReadonlyMap<string, readonly Route[]>;
  /** The unreachable prefixes of all instances. */
  readonly unreachable: readonly string[];
}

/** A line of `bridge -batch` or of `ip -6 -batch`. */
export interface PathCommand extends LinkCommand {
  readonly program: 'bridge' | 'ip';
}

/** Returns the paths of the machine. `routers` are the bridges and the transit; all of them must exist. */
export async function observePaths(run: Run, routers: readonly string[]): Promise<ObservedPaths> {
  const queries = [...routers.map((device) => `route show dev ${device}`), `route show proto ${protocol}`];
  const [entries, neighbours, routes] = await Promise.all([
    run('bridge', ['-j', 'fdb', 'show']),
    run('ip', ['-j', '-6', 'neigh', 'show', 'nud', 'permanent']),
    run('ip', ['-j', '-6', '-batch', '-'], `${queries.join('\n')}\n`),
  ]);
  const answers = routes
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as Route[]);
  return {
    entries: JSON.parse(entries) as Entry[],
    neighbours: JSON.parse(neighbours) as Neighbour[],
    routes: new Map(routers.map((device, index) => [device, answers[index] ?? []])),
    unreachable: (answers.at(-1) ?? []).flatMap(({ type, dst }) => (type === 'unreachable' ? [dst] : [])),
  };
}

const bridgeLine = (link: string, line: string): PathCommand => ({ program: 'bridge', link, line });
const ipLine = (link: string, line: string): PathCommand => ({ program: 'ip', link, line });

function planEntries({ entries, devices }: DesiredPaths, observed: ObservedPaths): PathCommand[] {
  const key = (mac: string, device: string, to: string | undefined) => `${mac} ${device} ${to ?? ''}`;
  // A device has one entry of a kind for each MAC address. A new destination replaces the old one.
  const place = (mac: string, device: string, isTunnel: boolean) => `${mac} ${device} ${isTunnel}`;
  const managed = new Set(devices);
  const wanted = new Set(entries.map(({ mac, device, to }) => key(mac, device, to)));
  const places = new Set(entries.map(({ mac, device, to }) => place(mac, device, to !== undefined)));
  // A bridge has one permanent entry for each port, with the port's own MAC address. It never belongs to a guest.
  const present = observed.entries.filter(
    ({ ifname, master, dst, state }) =>
      managed.has(ifname) && (dst !== undefined || (master !== undefined && state !== 'permanent')),
  );
  const right = new Set(
    present.flatMap(({ mac, ifname, dst, state }) => (state === 'static' ? [key(mac, ifname, dst)] : [])),
  );
  return [
    ...entries
      .filter(({ mac, device, to }) => !right.has(key(mac, device, to)))
      .map(({ link, mac, device, to }) =>
        bridgeLine(
          link,
          to === undefined
            ? `fdb replace ${mac} dev ${device} master static`
            : `fdb replace ${mac} dev ${device} dst ${to} self static`,
        ),
      ),
    ...present
      .filter(({ mac, ifname, dst }) =>
        dst === undefined ? !wanted.has(key(mac, ifname, dst)) : !places.has(place(mac, ifname, true)),
      )
      .map(({ mac, ifname, dst }) =>
        bridgeLine(ifname, `fdb del ${mac} dev ${ifname} ${dst === undefined ? 'master' : `dst ${dst} self`}`),
      ),
  ];
}

function planNeighbours({ neighbours, devices }: DesiredPaths, observed: ObservedPaths): PathCommand[] {
  const managed = new Set(devices);
  const macs = new Map(neighbours.map(({ address, device, mac }) => [`${address} ${device}`, mac]));
  const present = observed.neighbours.filter(({ dev }) => managed.has(dev));
  const right = new Set(
    present.flatMap(({ dst, dev, lladdr }) => (macs.get(`${dst} ${dev}`) === lladdr ? [`${dst} ${dev}`] : [])),
  );
  return [
    ...neighbours
      .filter(({ address, device }) => !right.has(`${address} ${device}`))
      .map(({ link, address, mac, device }) =>
        ipLine(link, `neigh replace ${address} lladdr ${mac} dev ${device} nud permanent`),
      ),
    ...present
      .filter(({ dst, dev }) => !macs.has(`${dst} ${dev}`))
      .map(({ dst, dev }) => ipLine(dev, `neigh del ${dst} dev ${dev}`)),
  ];
}

function planRoutes({ routes }: DesiredPaths, observed: ObservedPaths): PathCommand[] {
  const key = (to: string, device: string, gateway: string | undefined) => `${to} ${device} ${gateway ?? ''}`;
  const wanted = new Set(routes.map(({ to, device, gateway }) => key(to, device, gateway)));
  const present = [...observed.routes].flatMap(([device, list]) =>
    list.map((route) => ({ ...route, device, key: key(withoutLength(route.dst), device, route.gateway) })),
  );
  const right = new Set(present.map((route) => route.key));
  return [
    // `replace` would change a route on another device in place, so a guest that has moved is never without a route.
    ...routes
      .filter(({ to, device, gateway }) => !right.has(key(to, device, gateway)))
      .map(({ link, to, device, gateway }) =>
        ipLine(
          link,
          `route replace ${withLength(to)}${gateway === undefined ? '' : ` via ${gateway}`} dev ${device} proto ${protocol}`,
        ),
      ),
    ...present
      .filter((route) => !wanted.has(route.key))
      .map(({ dst, device, gateway, metric }) =>
        ipLine(
          device,
          `route del ${dst}${gateway === undefined ? '' : ` via ${gateway}`} dev ${device}${metric === undefined ? '' : ` metric ${metric}`}`,
        ),
      ),
  ];
}

function planUnreachable({ unreachable, isForeign }: DesiredPaths, observed: ObservedPaths): PathCommand[] {
  const wanted = new Set(unreachable.map(({ prefix }) => prefix));
  const present = new Set(observed.unreachable);
  const route = (prefix: string) => `unreachable ${prefix} metric ${unreachableMetric} proto ${protocol}`;
  return [
    ...unreachable
      .filter(({ prefix }) => !present.has(prefix))
      .map(({ link, prefix }) => ipLine(link, `route replace ${route(prefix)}`)),
    ...observed.unreachable
      .filter((prefix) => !wanted.has(prefix) && !isForeign(prefix))
      .map((prefix) => ipLine(prefix, `route del ${route(prefix)}`)),
  ];
}

/** Returns the commands for the difference; none if the paths are right. */
export const planPaths = (desired: DesiredPaths, observed: ObservedPaths): PathCommand[] => [
  ...planEntries(desired, observed),
  ...planUnreachable(desired, observed),
  ...planNeighbours(desired, observed),
  ...planRoutes(desired, observed),
];
