/** Derives the paths to VMs of other hosts from the database. */
import type { Id } from '../contract/fields.ts';
import { parseMemberId } from '../model/network/members.ts';
import { hosts, networkMembers, networks, prefixes, vms } from '../model/records/index.ts';
import type { FabricSpec, RemoteInterface, Underlay } from './hypervisor/specs.ts';
import type { HostView } from './view.ts';
import { requiredNetworks } from './vm-spec.ts';

/**
 * Returns the other hosts, and the paths to their VMs. The host has
 * - for its own networks, the interfaces of all VMs,
 * - for other networks of the same projects, a route for each VM, so packets take the direct way,
 * - for all other networks, one route to any host of the network, so their VMs do not concern this host.
 */
export function fabricOf(view: HostView, host: Id<'host'>, { address, mtu }: Underlay): FabricSpec {
  const { mirror } = view;
  // An address that two hosts have leads to none of them.
  const underlays = new Map<string, string>();
  for (const { id, value } of mirror.list(hosts)) {
    if (id !== host && value.underlay !== undefined && value.underlay.address !== address)
      underlays.set(id, value.underlay.address);
  }
  const carried = new Map<string, number>(requiredNetworks(view, host).map(({ id, vni }) => [id, vni]));
  const projects = new Set(view.placedOn(host).map((vm) => mirror.get(vms, vm)?.value.project));
  const interfaces: RemoteInterface[] = [];
  const anchors = new Map<Id<'network'>, string>();
  for (const { id, value } of mirror.list(networkMembers)) {
    const via = underlays.get(value.host);
    if (value.host === host || via === undefined) continue;
    const { network, mac } = parseMemberId(id);
    const vni = carried.get(network);
    if (vni !== undefined || projects.has(mirror.get(networks, network)?.value.project)) {
      interfaces.push({ ...(vni !== undefined && { vni }), mac, address: value.address, via });
    } else if (via < (anchors.get(network) ?? '~')) anchors.set(network, via);
  }
  const routes = [...anchors].flatMap(([network, via]) => {
    const prefix = mirror.get(networks, network)?.value.cidr;
    return prefix === undefined ? [] : [{ prefix, via }];
  });
  const unreachable = [...mirror.list(prefixes)].map(({ value }) => value.cidr);
  return { address, mtu, peers: [...underlays.values()], interfaces, routes, unreachable };
}
