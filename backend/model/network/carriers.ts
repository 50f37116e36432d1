/**
 * The carriers of networks: a few of the hosts with VMs of a network. Hosts without any relation to the network send its packets
 * to one of them, so they need not know its VMs. Pure.
 */
import type { Id } from '../../contract/fields.ts';

/** The number of carriers of a network: others for the failure of the first. */
export const maxCarriers = 3;

/** The id of the record that says that the records of all networks exist. */
export const completeCarriers = 'complete';

/** Returns a number that differs between the carriers of a network, so that networks do not all take the same host. */
function preference(network: string, host: string): number {
  let hash = 2166136261;
  for (const character of network + host) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16777619);
  return hash >>> 0;
}

/**
 * Returns hosts of the network in the order of their preference. A host that is alive has precedence, because VMs stay placed on
 * a dead one.
 */
export function preferredCarriers(
  network: Id<'network'>,
  hosts: Iterable<Id<'host'>>,
  isAlive: (host: Id<'host'>) => boolean,
): Id<'host'>[] {
  return [...hosts]
    .map((host) => ({ host, isDead: isAlive(host) ? 0 : 1, hash: preference(network, host) }))
    .sort((a, b) => a.isDead - b.isDead || a.hash - b.hash || (a.host < b.host ? -1 : 1))
    .map(({ host }) => host);
}
