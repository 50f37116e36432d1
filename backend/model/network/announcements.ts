/**
 * The prefixes that a host announces to the fabric. Pure.
 *
 * - The /64 of each network with a running VM on the host. If VMs of the network are on other hosts as well, several hosts
 *   announce the /64, and a packet may arrive at a host without the VM.
 * - The /128 of each running VM of such a network, so that packets arrive at its own host. A network on one host needs none.
 * - Prefixes that are routed to a running VM of the host.
 *
 * A host that is being drained leaves the /64 to the other hosts of the network. Its VMs stay reachable at their /128.
 */

import { storedIpv6 } from './addresses.ts';
import { comparePrefixes, formatPrefix, networkOf, type Prefix, storedPrefix } from './prefixes.ts';

/** The announced prefixes, each sorted and without repetition. */
export interface Announcements {
  readonly networks: readonly string[];
  readonly addresses: readonly string[];
  readonly prefixes: readonly string[];
}

/** An interface of a running VM of the host. */
export interface AnnouncedInterface {
  /** The /64 of the network. */
  readonly cidr: string;
  readonly address: string;
  /** Whether VMs of the network are on other hosts as well. */
  readonly elsewhere: boolean;
}

/** The facts that the announcements follow from. */
export interface AnnouncementFacts {
  readonly interfaces: readonly AnnouncedInterface[];
  /** The prefixes that are routed to running VMs of the host. */
  readonly prefixes: readonly string[];
  /** Whether the operator empties the host. */
  readonly draining: boolean;
}

/** No prefix at all. */
export const noAnnouncements: Announcements = { networks: [], addresses: [], prefixes: [] };

function normal(prefixes: readonly Prefix[]): string[] {
  const texts = prefixes.toSorted(comparePrefixes).map(formatPrefix);
  return [...new Set(texts)];
}

/** Returns the prefixes that the host announces. The same facts in any order give the same result. */
export const announcements = ({ interfaces, prefixes, draining }: AnnouncementFacts): Announcements => ({
  networks: normal(
    interfaces.filter(({ elsewhere }) => !(draining && elsewhere)).map(({ cidr }) => storedPrefix(cidr)),
  ),
  addresses: normal(
    interfaces.filter(({ elsewhere }) => elsewhere).map(({ address }) => networkOf(storedIpv6(address), 128)),
  ),
  prefixes: normal(prefixes.map(storedPrefix)),
});
