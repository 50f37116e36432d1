/**
 * The paths to guests: forwarding entries of the bridges, neighbours and routes of the host. This file has their
 * desired state, their observed state, and the commands for the difference. Only `observePaths` has effects.
 *
 * The agent knows the MAC address and the IPv6 addresses of each guest, so the host needs no discovery. Each guest has
 * a forwarding entry, and each of its addresses has a permanent neighbour and a route. All other addresses of a
 * network's prefix are unreachable. A scan therefore creates no entries, and its sender gets "no route". A bridge has
 * no other routes.
 *
 * The kernel removes entries with their tap, and neighbours and routes with their bridge. An unreachable prefix belongs
 * to no interface, so the number of the routing protocol identifies it. It belongs to another instance if a bridge of
 * that instance has the router's address.
 */
import type { Run } from '../system/command.ts';
import type { LinkCommand } from './links.ts';

/** The number of ucloud's routing protocol. No known program uses it (iproute2, rt_protos). */
const protocol = 117;
/** The metric is so large that every other route has precedence. */
const unreachableMetric = 4096;

/** A guest's interface whose tap is in a bridge. */
export interface GuestPort {
  readonly tap: string;
  readonly bridge: string;
  readonly mac: string;
  /** The address in the network's prefix, and the link-local address. */
  readonly addresses: readonly string[];
}

/** The desired paths of an instance. */
export interface DesiredPaths {
  readonly ports: readonly GuestPort[];
  /** The networks of the instance whose bridges exist. */
  readonly networks: readonly { readonly cidr: string; readonly bridge: string }[];
  /** Tells whether the prefix belongs to a network of another instance. */
  isForeign(prefix: string): boolean;
}

interface Entry {
  readonly mac: string;
  readonly ifname: string;
  readonly master?: string;
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
  /** The routes by bridge. */
  readonly routes: ReadonlyMap<string, readonly Route[]>;
  /** The unreachable prefixes of all instances. */
  readonly unreachable: readonly string[];
}

/** A line of `bridge -batch` or of `ip -6 -batch`. */
export interface PathCommand extends LinkCommand {
  readonly program: 'bridge' | 'ip';
}

/** Returns the paths of the machine. All bridges must exist. */
export async function observePaths(run: Run, bridges: readonly string[]): Promise<ObservedPaths> {
  const queries = [...bridges.map((bridge) => `route show dev ${bridge}`), `route show proto ${protocol}`];
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
    routes: new Map(bridges.map((bridge, index) => [bridge, answers[index] ?? []])),
    unreachable: (answers.at(-1) ?? []).flatMap(({ type, dst }) => (type === 'unreachable' ? [dst] : [])),
  };
}

const withoutLength = (dst: string): string => dst.replace(/\/128$/, '');
const commandsOf =
  (program: PathCommand['program']) =>
  <T>(items: readonly T[], command: (item: T) => readonly [link: string, line: string]): PathCommand[] =>
    items.map((item) => {
      const [link, line] = command(item);
      return { program, link, line };
    });
const bridgeLines = commandsOf('bridge');
const ipLines = commandsOf('ip');

function planEntries({ ports }: DesiredPaths, observed: ObservedPaths): PathCommand[] {
  const macs = new Map(ports.map(({ tap, mac }) => [tap, mac]));
  // The bridge has one permanent entry for each port, with the tap's own MAC address. It never belongs to a guest.
  const guests = observed.entries.filter(
    ({ master, ifname, state }) => master !== undefined && macs.has(ifname) && state !== 'permanent',
  );
  const rightEntries = new Set(
    guests.flatMap(({ ifname, mac, state }) => (state === 'static' ? [`${mac} ${ifname}`] : [])),
  );
  return [
    ...bridgeLines(
      ports.filter(({ tap, mac }) => !rightEntries.has(`${mac} ${tap}`)),
      ({ tap, mac }) => [tap, `fdb replace ${mac} dev ${tap} master static`],
    ),
    ...bridgeLines(
      guests.filter(({ ifname, mac }) => macs.get(ifname) !== mac),
      ({ ifname, mac }) => [ifname, `fdb del ${mac} dev ${ifname} master`],
    ),
  ];
}

/** Returns the commands for the difference; none if the paths are right. */
export function planPaths(desired: DesiredPaths, observed: ObservedPaths): PathCommand[] {
  const guests = desired.ports.flatMap((port) => port.addresses.map((address) => ({ ...port, address })));
  const macs = new Map(guests.map(({ address, bridge, mac }) => [`${address} ${bridge}`, mac]));
  const bridges = new Map(desired.networks.map(({ cidr, bridge }) => [cidr, bridge]));
  const neighbours = observed.neighbours.filter(({ dev }) => desired.networks.some(({ bridge }) => bridge === dev));
  const rightNeighbours = new Set(
    neighbours.flatMap(({ dst, dev, lladdr }) => (macs.get(`${dst} ${dev}`) === lladdr ? [`${dst} ${dev}`] : [])),
  );
  const routes = [...observed.routes].flatMap(([bridge, list]) =>
    list.map((route) => ({
      ...route,
      bridge,
      wanted: route.gateway === undefined && macs.has(`${withoutLength(route.dst)} ${bridge}`),
    })),
  );
  const rightRoutes = new Set(
    routes.flatMap(({ dst, bridge, wanted }) => (wanted ? [`${withoutLength(dst)} ${bridge}`] : [])),
  );
  const unreachable = (prefix: string) => `unreachable ${prefix} metric ${unreachableMetric} proto ${protocol}`;
  return [
    ...planEntries(desired, observed),
    ...ipLines(
      desired.networks.filter(({ cidr }) => !observed.unreachable.includes(cidr)),
      ({ cidr, bridge }) => [bridge, `route replace ${unreachable(cidr)}`],
    ),
    ...ipLines(
      guests.filter(({ address, bridge }) => !rightNeighbours.has(`${address} ${bridge}`)),
      ({ tap, address, mac, bridge }) => [tap, `neigh replace ${address} lladdr ${mac} dev ${bridge} nud permanent`],
    ),
    ...ipLines(
      guests.filter(({ address, bridge }) => !rightRoutes.has(`${address} ${bridge}`)),
      ({ tap, address, bridge }) => [tap, `route replace ${address}/128 dev ${bridge} proto ${protocol}`],
    ),
    ...ipLines(
      neighbours.filter(({ dst, dev }) => !macs.has(`${dst} ${dev}`)),
      ({ dst, dev }) => [dev, `neigh del ${dst} dev ${dev}`],
    ),
    ...ipLines(
      routes.filter(({ wanted }) => !wanted),
      ({ dst, bridge, gateway, metric }) => [
        bridge,
        `route del ${dst}${gateway === undefined ? '' : ` via ${gateway}`} dev ${bridge}${metric === undefined ? '' : ` metric ${metric}`}`,
      ],
    ),
    ...ipLines(
      observed.unreachable.filter((prefix) => !bridges.has(prefix) && !desired.isForeign(prefix)),
      (prefix) => [prefix, `route del ${unreachable(prefix)}`],
    ),
  ];
}
