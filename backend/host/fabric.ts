/** Derives the paths to VMs, and to the prefixes behind them, from the database. */
import type { Id } from '../contract/fields.ts';
import { idFrom } from '../model/ids.ts';
import { storedIpv6 } from '../model/network/addresses.ts';
import { completeCarriers, preferredCarriers } from '../model/network/carriers.ts';
import { memberId, parseMemberId } from '../model/network/members.ts';
import { containsAny, storedPrefix } from '../model/network/prefixes.ts';
import {
  alive,
  hosts,
  networkCarriers,
  networkMembers,
  networks,
  type PrefixRouteRecord,
  prefixes,
  prefixRoutes,
  schedules,
  vms,
} from '../model/records/index.ts';
import type { FabricSpec, NetworkSpec, RemoteInterface, RoutedPrefix, Underlay } from './hypervisor/specs.ts';
import type { HostView } from './view.ts';

/** Returns the underlay addresses of the other hosts. An address that two hosts have leads to none of them. */
function underlaysOf({ mirror }: HostView, host: Id<'host'>, own: string): Map<string, string> {
  const known = [...mirror.list(hosts)].flatMap(({ id, value: { underlay } }) =>
    id === host || underlay === undefined ? [] : [[id, underlay.address] as const],
  );
  const seen = new Set([own]);
  const twice = new Set([own]);
  for (const [, address] of known) (seen.has(address) ? twice : seen).add(address);
  return new Map(known.filter(([, address]) => !twice.has(address)));
}

/** Returns whether a prefix contains the underlay address of a host. */
function holdsHosts({ mirror }: HostView): (cidr: string) => boolean {
  const underlays = [...mirror.list(hosts)]
    .flatMap(({ value }) => (value.underlay === undefined ? [] : [storedIpv6(value.underlay.address)]))
    .sort((a, b) => (a < b ? -1 : 1));
  return (cidr) => containsAny(storedPrefix(cidr), underlays);
}

/**
 * Returns the prefixes whose addresses without a route are unreachable. A prefix with the underlay address of a host is left
 * out, and its networks and routed prefixes take its place: the host must still be reached.
 */
function unreachablePrefixes(view: HostView): string[] {
  const { mirror } = view;
  const hasHost = holdsHosts(view);
  const [free, mixed]: [string[], Set<string>] = [[], new Set()];
  for (const { id, value } of mirror.list(prefixes)) {
    if (hasHost(value.cidr)) mixed.add(id);
    else free.push(value.cidr);
  }
  if (mixed.size === 0) return free;
  const inMixed = [networks, prefixRoutes].flatMap((kind) =>
    [...mirror.list<typeof networks.schema | typeof prefixRoutes.schema>(kind)].flatMap(({ value }) =>
      mixed.has(value.prefix) ? [value.cidr] : [],
    ),
  );
  return [...free, ...inMixed.filter((cidr) => !hasHost(cidr))];
}

/** A routed prefix, with the interface that is its next hop. */
interface Route extends Pick<PrefixRouteRecord, 'cidr' | 'project' | 'mac'> {
  readonly network: Id<'network'>;
  /** The host of the interface. Undefined if this host does not know the members of the network. */
  readonly host: Id<'host'> | undefined;
}

/**
 * Returns the routed prefixes whose VMs are placed, as far as this host knows. A prefix with the underlay address of a host has no
 * route: the packets of all tunnels would follow it. The API refuses such prefixes, but a host may get its address later.
 */
function placedRoutes(view: HostView): Route[] {
  const { mirror } = view;
  const records = [...mirror.list(prefixRoutes)];
  if (records.length === 0) return [];
  const hasHost = holdsHosts(view);
  return records.flatMap(({ value: { cidr, project, vm, mac, network: named } }) => {
    const network = named ?? mirror.get(vms, vm)?.value.interfaces.find((each) => each.mac === mac)?.network;
    if (network === undefined || hasHost(cidr)) return [];
    const member = mirror.get(networkMembers, memberId(network, mac))?.value;
    const isPlaced = view.areMembersKnown(network)
      ? member?.vm === vm
      : mirror.get(schedules, vm)?.value.host !== undefined;
    if (!isPlaced) return [];
    return [{ cidr, project, mac, network, host: member?.vm === vm ? member.host : undefined }];
  });
}

/** Returns the prefixes that are routed to VMs of this host. */
export const routesOf = (view: HostView, host: Id<'host'>): RoutedPrefix[] =>
  placedRoutes(view).flatMap((route) => (route.host === host ? [{ prefix: route.cidr, mac: route.mac }] : []));

/** Returns the underlay addresses of the hosts that carry networks without relation to this host. */
function anchorsOf(
  { mirror }: HostView,
  underlays: ReadonlyMap<string, string>,
  carriers: ReadonlyMap<Id<'network'>, Iterable<Id<'host'>>>,
): Map<Id<'network'>, string> {
  const anchors = new Map<Id<'network'>, string>();
  for (const [network, ids] of carriers) {
    const reachable = [...ids].filter((id) => underlays.has(id));
    const [first] = preferredCarriers(network, reachable, (id) => mirror.get(alive, id) !== undefined);
    const via = first && underlays.get(first);
    if (via !== undefined) anchors.set(network, via);
  }
  return anchors;
}

/**
 * Returns the other hosts, and the paths to their VMs. The host has
 * - for its own networks, the interfaces of all VMs,
 * - for other networks of the same projects, a route for each VM, so packets take the direct way,
 * - for all other networks, one route to any host of the network, so their VMs do not concern this host. A host that is
 *   alive has precedence, because VMs stay placed on a dead one.
 *
 * A network whose members the host does not know yet counts as another network.
 *
 * A routed prefix follows the interface that is its next hop.
 */
export function fabricOf(
  view: HostView,
  host: Id<'host'>,
  { address, mtu }: Underlay,
  own: readonly Pick<NetworkSpec, 'id' | 'vni' | 'kind'>[],
): FabricSpec {
  const { mirror } = view;
  const underlays = underlaysOf(view, host, address);
  // Undefined: the VMs of a routed network reach each other over the transit only.
  const carried = new Map<string, number | undefined>(
    own.map(({ id, vni, kind }) => [id, kind === 'routed' ? undefined : vni]),
  );
  const projects = new Set(view.placedOn(host).map((vm) => mirror.get(vms, vm)?.value.project));
  const isDirect = (network: string) =>
    view.areMembersKnown(network) &&
    (carried.has(network) || projects.has(mirror.get(networks, network)?.value.project));
  const interfaces: RemoteInterface[] = [];
  const carriers = new Map<Id<'network'>, Set<Id<'host'>>>();
  for (const { id, value } of mirror.list(networkMembers)) {
    const via = underlays.get(value.host);
    if (via === undefined) continue;
    const { network, mac } = parseMemberId(id);
    if (isDirect(network)) {
      const vni = carried.get(network);
      const { address, more_addresses } = value;
      interfaces.push({
        ...(vni !== undefined && { vni }),
        mac,
        address,
        ...(more_addresses && { more_addresses }),
        via,
      });
    } else carriers.set(network, (carriers.get(network) ?? new Set()).add(value.host));
  }
  for (const { id, value } of mirror.list(networkCarriers)) {
    const network = idFrom('network', id);
    if (id === completeCarriers || isDirect(network)) continue;
    carriers.set(network, new Set([...(carriers.get(network) ?? []), ...value.hosts]));
  }
  const anchors = anchorsOf(view, underlays, carriers);
  const routes = [...anchors].flatMap(([network, via]) => {
    const prefix = mirror.get(networks, network)?.value.cidr;
    return prefix === undefined ? [] : [{ prefix, via }];
  });
  for (const route of placedRoutes(view)) {
    if (route.host === host) continue;
    const direct = isDirect(route.network) || projects.has(route.project) ? route.host : undefined;
    const via = direct === undefined ? anchors.get(route.network) : underlays.get(direct);
    if (via !== undefined) routes.push({ prefix: route.cidr, via });
  }
  const unreachable = unreachablePrefixes(view);
  return { address, mtu, peers: [...underlays.values()], interfaces, routes, unreachable };
}
