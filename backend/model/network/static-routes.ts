/**
 * The static routes that a fabric without BGP needs: each network and each routed prefix through two of the hosts. Pure.
 *
 * Every host routes packets to every network, so any host will do. The hosts of a network or prefix follow from their ids alone
 * (rendezvous hashing). So VMs that come and go change no route, and a further host takes over few of them.
 */
import { createHash } from 'node:crypto';

/** A host, as the API shows it. */
export interface RoutingHost {
  readonly id: string;
  readonly alive: boolean;
  readonly draining: boolean;
  readonly underlay?: { readonly address: string };
}

/** The routes of a network or of a routed prefix. */
export interface StaticRoute {
  readonly cidr: string;
  /** The underlay addresses of the hosts, the preferred one first. */
  readonly via: readonly string[];
}

/** The number of hosts of a network: a second one for the failure of the first. */
const hostsPerNetwork = 2;

const weight = (network: string, host: string): string =>
  createHash('sha256').update(`${network}\0${host}`).digest('hex');

/** Returns the routes in the given order. Hosts that are not alive or are being drained get none. */
export function staticRoutes(
  networks: readonly { readonly id: string; readonly cidr: string }[],
  hosts: readonly RoutingHost[],
): StaticRoute[] {
  const usable = hosts.flatMap(({ id, alive, draining, underlay }) =>
    underlay !== undefined && alive && !draining ? [{ id, address: underlay.address }] : [],
  );
  return networks.map(({ id, cidr }) => ({
    cidr,
    via: usable
      .map(({ id: host, address }) => ({ address, weight: weight(id, host) }))
      .sort((a, b) => (a.weight < b.weight ? -1 : 1))
      .slice(0, hostsPerNetwork)
      .map(({ address }) => address),
  }));
}
