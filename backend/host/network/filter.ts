/**
 * Packet filters, as text for `nft -f -`, which applies all of it or nothing. Pure.
 *
 * What a guest sends is checked where it enters, before the bridge learns from it (prerouting, priority -300; br_netfilter
 * takes frames out of the bridge at priority 0 and brings them back behind hooks of lower priority, so nothing may rely
 * on the forward hook at 0). A guest may send IPv6 only, from its own MAC, and from the two addresses that it forms by
 * SLAAC: link-local and in the network's prefix, both from the MAC (modified EUI-64). So every receiver, the metadata
 * server first, may tell guests apart by source address. It may not act as a router (RFC 6105), redirect, serve DHCPv6
 * (RFC 7610), or speak for an address of another (neighbour advertisements, or answers to its duplicate address
 * detection). Drops are counted per tap and reason.
 *
 * What guests send to the host itself (input) is limited to what they need of it: ICMPv6, the metadata server, answers
 * to what the host asked. What it forwards is not restricted here.
 */
import { addressKey, formatIpv6, type Ipv6Address, linkLocalAddress, storedIpv6 } from '../../model/addresses.ts';
import { metadataAddress } from '../../model/interface-names.ts';

export interface Port {
  readonly tap: string;
  readonly mac: string;
  /** In the network's prefix. */
  readonly address: string;
}

/** Why a frame was dropped: `<tap>_<reason>` is its counter. */
const dropReasons = ['mac', 'type', 'source', 'fragment', 'icmp', 'claim', 'dhcp'] as const;
export type DropReason = (typeof dropReasons)[number];
const counterName = (tap: string, reason: DropReason): string => `${tap}_${reason}`;
const chainName = (tap: string): string => `from_${tap}`;

/** The address as nft compares raw payload: one number of 128 bits. */
const asNumber = (address: Ipv6Address): string => `0x${addressKey(address)}`;

function portRules(table: string, { tap, mac, address }: Port): string[] {
  const linkLocal = formatIpv6(linkLocalAddress(mac));
  const drop = (reason: DropReason) => `counter name ${counterName(tap, reason)} drop`;
  // nft 1.0 has no name for the target of a neighbour message: 16 bytes from bit 64 of the ICMPv6 header.
  const foreignTarget = `@th,64,128 != { ${asNumber(linkLocalAddress(mac))}, ${asNumber(storedIpv6(address))} }`;
  return [
    `ether saddr != ${mac} ${drop('mac')}`,
    `ether type != ip6 ${drop('type')}`,
    `ip6 saddr != { ::, ${linkLocal}, ${address} } ${drop('source')}`,
    // Without an address a host only looks for duplicates and routers, and joins groups (RFC 4861, 4862, 3590).
    `ip6 saddr :: icmpv6 type != { nd-neighbor-solicit, nd-router-solicit, mld-listener-report, mld2-listener-report } ${drop('source')}`,
    `ip6 saddr :: meta l4proto != ipv6-icmp ${drop('source')}`,
    // Router advertisements and redirects must come from link-local addresses: none can hide in fragments (RFC 6980).
    `exthdr frag exists ip6 saddr { ::, fe80::/10 } ${drop('fragment')}`,
    `exthdr frag exists ip6 daddr ff00::/8 ${drop('fragment')}`,
    'exthdr frag exists frag frag-off != 0 accept',
    `icmpv6 type != { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, echo-reply, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld-listener-done, mld2-listener-report } ${drop('icmp')}`,
    `icmpv6 type nd-neighbor-advert ${foreignTarget} ${drop('claim')}`,
    `ip6 saddr :: icmpv6 type nd-neighbor-solicit ${foreignTarget} ${drop('claim')}`,
    `udp sport 547 ${drop('dhcp')}`,
    `udp dport 546 ${drop('dhcp')}`,
  ].map((rule) => `add rule bridge ${table} ${chainName(tap)} ${rule}`);
}

/**
 * The whole rule set of this instance. `present` is its table as `nft list table` prints it: chains and counters of
 * ports that are gone are removed, those that stay keep counting.
 */
export function ruleset(table: string, ports: readonly Port[], bridges: readonly string[], present: string): string {
  const chains = new Set(ports.map(({ tap }) => chainName(tap)));
  const counters = new Set(ports.flatMap(({ tap }) => dropReasons.map((reason) => counterName(tap, reason))));
  const stale = (kind: string, keep: Set<string>) =>
    [...present.matchAll(new RegExp(`^\\s*${kind} (\\w+) \\{`, 'gm'))].flatMap(([, name]) =>
      name === undefined || name === 'prerouting' || keep.has(name) ? [] : [`delete ${kind} bridge ${table} ${name}`],
    );
  const elements = (set: string, items: readonly string[]) =>
    items.length > 0 ? [`add element ${set} { ${items.join(', ')} }`] : [];
  return [
    `add table bridge ${table}`,
    `add map bridge ${table} ports { type ifname : verdict; }`,
    `flush map bridge ${table} ports`,
    `add chain bridge ${table} prerouting { type filter hook prerouting priority -300; policy accept; }`,
    `flush table bridge ${table}`,
    ...stale('chain', chains),
    ...stale('counter', counters),
    ...[...counters].map((name) => `add counter bridge ${table} ${name}`),
    ...[...chains].map((name) => `add chain bridge ${table} ${name}`),
    ...ports.flatMap((port) => portRules(table, port)),
    ...elements(
      `bridge ${table} ports`,
      ports.map(({ tap }) => `"${tap}" : jump ${chainName(tap)}`),
    ),
    `add rule bridge ${table} prerouting iifname vmap @ports`,

    `add table inet ${table}`,
    `delete table inet ${table}`,
    `add table inet ${table}`,
    `add set inet ${table} bridges { type ifname; }`,
    ...elements(
      `inet ${table} bridges`,
      bridges.map((bridge) => `"${bridge}"`),
    ),
    `add chain inet ${table} from_guests`,
    `add rule inet ${table} from_guests ct state established,related accept`,
    `add rule inet ${table} from_guests meta l4proto ipv6-icmp accept`,
    `add rule inet ${table} from_guests ip6 daddr ${metadataAddress} tcp dport 80 accept`,
    `add rule inet ${table} from_guests counter drop`,
    `add chain inet ${table} input { type filter hook input priority 0; policy accept; }`,
    `add rule inet ${table} input iifname @bridges jump from_guests`,
    '',
  ].join('\n');
}
