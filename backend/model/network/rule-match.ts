/** The decision of rules about one connection, as nftables makes it. Hosts ask for it about established connections. Pure. */
import { protocolNumbers } from '../../contract/resources/security-groups.ts';
import type { SecurityRuleRecord } from '../records/index.ts';
import { type Ipv6Address, storedIpv6 } from './addresses.ts';
import { storedPrefix } from './prefixes.ts';
import { parsePorts } from './security-groups.ts';

/** The first packet of a connection. */
export interface Connection {
  readonly source: string;
  readonly destination: string;
  /** The number of the protocol. */
  readonly protocol: number;
  /** The destination port, or the type of ICMPv6. */
  readonly port: number;
}

/** A rule. Without `peers`, its other side are the addresses in `prefixes`. */
export interface MatchedRule
  extends Pick<SecurityRuleRecord, 'direction' | 'protocol' | 'ports' | 'icmp_types' | 'prefixes'> {
  readonly peers?: string;
}

const isIn = (address: Ipv6Address, text: string): boolean => {
  const { address: start, length } = storedPrefix(text);
  return (address ^ start) >> BigInt(128 - length) === 0n;
};

/** Tells whether the rule allows the connection. @param peers the named sets of addresses */
export function allows(
  rule: MatchedRule,
  { source, destination, protocol, port }: Connection,
  peers: ReadonlyMap<string, ReadonlySet<string>>,
): boolean {
  const { [rule.protocol]: wanted } = protocolNumbers;
  if (wanted !== undefined && wanted !== protocol) return false;
  if (rule.icmp_types !== undefined && !rule.icmp_types.includes(port)) return false;
  const isOfPorts = (text: string) => {
    const range = parsePorts(text);
    return range !== undefined && range.from <= port && port <= range.to;
  };
  if (rule.ports !== undefined && !rule.ports.some(isOfPorts)) return false;
  const other = rule.direction === 'ingress' ? source : destination;
  if (rule.peers !== undefined) return peers.get(rule.peers)?.has(other) ?? false;
  const address = storedIpv6(other);
  return (rule.prefixes ?? []).some((text) => isIn(address, text));
}
