/** The entries of the connection table: which of them security groups refuse, and how `conntrack` removes these. Pure. */

import { storedIpv6 } from '../../model/network/addresses.ts';
import { type Prefix, storedPrefix } from '../../model/network/prefixes.ts';
import { allows, type Connection } from '../../model/network/rule-match.ts';
import type { GroupFilter } from './group-filter.ts';

/** A connection in the table. */
export interface Entry extends Connection {
  /** The name of the protocol, as `conntrack` prints it. */
  readonly name: string;
}

/** Reads the output of `conntrack -L`. Lines of another form are left out. */
export const entriesIn = (output: string): Entry[] =>
  output.split('\n').flatMap((line) => {
    // The first addresses and ports are those of the first packet.
    const [, name, number, source, destination] = /^(\S+)\s+(\d+) .*?src=(\S+) dst=(\S+) /.exec(line) ?? [];
    if (name === undefined || source === undefined || destination === undefined) return [];
    const port = /\b(?:dport|type)=(\d+)/.exec(line)?.[1] ?? '0';
    return [{ name, protocol: Number(number), source, destination, port: Number(port) }];
  });

/** Returns a function that tells whether the groups allow a connection, on both of its sides as far as they are on this host. */
export function decisionOf({ groups, peers, ports }: GroupFilter): (entry: Entry) => boolean {
  const sets = new Map(peers.map(({ name, addresses }) => [name, new Set(addresses)]));
  const byAddress = new Map(ports.flatMap((port) => port.addresses.map((address) => [address, port] as const)));
  const prefixes = [...byAddress].flatMap(([text, port]) =>
    text.includes('/') ? [{ ...storedPrefix(text), port }] : [],
  );
  const portOf = (text: string) => {
    const address = storedIpv6(text);
    const isIn = ({ address: start, length }: Prefix) => (address ^ start) >> BigInt(128 - length) === 0n;
    return byAddress.get(text) ?? prefixes.find(isIn)?.port;
  };
  return (entry) =>
    (['egress', 'ingress'] as const).every((direction) => {
      const port = portOf(direction === 'egress' ? entry.source : entry.destination);
      if (port === undefined) return true;
      const own = groups.filter(({ id }) => port.groups.includes(id));
      if (direction === 'egress' && own.some(({ default_egress }) => default_egress === 'allow')) return true;
      return own.some(({ rules }) => rules.some((rule) => rule.direction === direction && allows(rule, entry, sets)));
    });
}

/** The most calls of `conntrack` for one change. Beyond them, all entries of an address go, also allowed ones. */
const maxDeletions = 256;

/** The options of `conntrack` that name the protocol, and the port or type. */
function kindOf({ name, protocol, port }: Entry): string[] {
  if (protocol === 58) return ['-p', 'icmpv6', '--icmpv6-type', `${port}`];
  return port === 0 ? ['-p', name === 'unknown' ? `${protocol}` : name] : ['-p', name, '--dport', `${port}`];
}

/** Returns the arguments of `conntrack -D` for the refused entries: of all clients together where no allowed entry is alike. */
export function deletionsOf(refused: readonly Entry[], allowed: readonly Entry[]): string[][] {
  const toService = (entry: Entry) => ['-d', entry.destination, ...kindOf(entry)];
  const kept = new Set(allowed.map((entry) => toService(entry).join(' ')));
  const found = new Map<string, string[]>();
  for (const entry of refused) {
    const common = toService(entry);
    const args = kept.has(common.join(' ')) ? ['-s', entry.source, ...common] : common;
    found.set(args.join(' '), args);
  }
  if (found.size <= maxDeletions) return [...found.values()];
  const sources = new Set(refused.map(({ source }) => source));
  const destinations = new Set(refused.map(({ destination }) => destination));
  // An address of this host is on one side of each entry, so the smaller side has few addresses.
  const [side, addresses] = sources.size < destinations.size ? ['-s', sources] : ['-d', destinations];
  return [...addresses].map((address) => [side as string, address]);
}
