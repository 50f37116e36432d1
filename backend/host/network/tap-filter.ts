/**
 * Rules of nft for the frames of a guest, on its tap, in family netdev at the ingress hook. Pure.
 *
 * The hook sees every frame before the bridge, before br_netfilter and before the host's own protocols, whatever its
 * destination and whether or not the tap is in a bridge. (The bridge's own hooks miss frames to 01:80:c2:00:00:0x, which
 * the bridge hands to the host with the tap as their interface: IEEE 802.1D, 7.12.6.)
 *
 * A guest may send IPv6 only, from its own MAC, and from the two addresses that it forms by SLAAC: link-local and in the
 * network's prefix, both from the MAC (modified EUI-64). So every receiver, the metadata server first, may tell guests
 * apart by source address. It may not act as a router (RFC 6105), redirect, serve DHCPv6 (RFC 7610), or speak for an
 * address of another (neighbour advertisements, or answers to its duplicate address detection).
 *
 * The first rules name what is wrong, and count it per tap and reason. A rule whose field lies behind the end of the frame
 * does not match, so the last rules accept only frames in which all fields that matter were read; the rest is dropped.
 *
 * Extension headers: neighbour discovery goes without any. A fragment header must be the only one, with the upper layer's
 * header right behind it and whole in the first fragment (RFC 7112). No later fragment can then bring or replace
 * what was checked here, not even by an overlap (RFC 5722). Routing headers are dropped (RFC 5095), and AH, behind which
 * nft does not look. Hop-by-hop options are for multicast listener reports (RFC 2710) and other ICMPv6 only.
 */
import {
  addressKey,
  formatIpv6,
  type Ipv6Address,
  linkLocalAddress,
  storedIpv6,
} from '../../model/network/addresses.ts';

export interface Port {
  readonly tap: string;
  readonly mac: string;
  /** In the network's prefix. */
  readonly address: string;
}

/** Why a frame was dropped: `<tap>_<reason>` is its counter. */
export const dropReasons = ['mac', 'type', 'group', 'source', 'header', 'fragment', 'icmp', 'claim', 'dhcp'] as const;
export type DropReason = (typeof dropReasons)[number];
export const counterName = (tap: string, reason: DropReason): string => `${tap}_${reason}`;
export const chainName = (tap: string): string => `from_${tap}`;

/** The address as nft compares raw payload: one number of 128 bits. */
const asNumber = (address: Ipv6Address): string => `0x${addressKey(address)}`;

const errors = 'destination-unreachable, packet-too-big, time-exceeded, parameter-problem';
/** ICMPv6 that may come in fragments. */
const large = `${errors}, echo-request, echo-reply`;
const discovery = 'nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert';
const listener = 'mld-listener-report, mld-listener-done, mld2-listener-report';
/** Numbers of headers that another one follows, so that they are no upper layer (IANA, IPv6 extension header types). */
const extensions = '0, 43, 44, 51, 60, 135, 139, 140';

/** Rules of the tap's chain, in order. */
export function tapRules({ tap, mac, address }: Port): string[] {
  const linkLocal = formatIpv6(linkLocalAddress(mac));
  const drop = (reason: DropReason) => `counter name ${counterName(tap, reason)} drop`;
  // nft 1.0 has no name for the target of a neighbour message: 16 bytes from bit 64 of the ICMPv6 header.
  const own = `{ ${asNumber(linkLocalAddress(mac))}, ${asNumber(storedIpv6(address))} }`;
  return [
    `ether saddr != ${mac} ${drop('mac')}`,
    `ether type != ip6 ${drop('type')}`,
    // Groups are those of IPv6 (RFC 2464), and carry what is sent to groups.
    `ether daddr & 01:00:00:00:00:00 != 00:00:00:00:00:00 ether daddr & ff:ff:00:00:00:00 != 33:33:00:00:00:00 ${drop('group')}`,
    `ether daddr & ff:ff:00:00:00:00 == 33:33:00:00:00:00 ip6 daddr != ff00::/8 ${drop('group')}`,
    `ip6 version != 6 ${drop('header')}`,
    `ip6 saddr != { ::, ${linkLocal}, ${address} } ${drop('source')}`,
    // Without an address a host only looks for duplicates and routers, and joins groups (RFC 4861, 4862, 3590).
    `ip6 saddr :: icmpv6 type != { nd-neighbor-solicit, nd-router-solicit, mld-listener-report, mld2-listener-report } ${drop('source')}`,
    `ip6 saddr :: meta l4proto != ipv6-icmp ${drop('source')}`,
    // A length of 0 announces a jumbogram (RFC 2675), unless nothing follows.
    `ip6 length 0 ip6 nexthdr != 59 ${drop('header')}`,
    `exthdr rt exists ${drop('header')}`,
    `exthdr hbh exists meta l4proto != ipv6-icmp ${drop('header')}`,

    // Router advertisements and redirects must come from link-local addresses: none can hide in fragments (RFC 6980).
    `exthdr frag exists ip6 saddr { ::, fe80::/10 } ${drop('fragment')}`,
    `exthdr frag exists ip6 daddr ff00::/8 ${drop('fragment')}`,
    `exthdr frag exists ip6 nexthdr != 44 ${drop('fragment')}`,
    `exthdr frag exists frag nexthdr { ${extensions} } ${drop('fragment')}`,
    // Fragment header and eight bytes, where ports and the type of ICMPv6 are.
    `exthdr frag exists ip6 length < 16 ${drop('fragment')}`,
    `exthdr frag exists frag frag-off != 0 accept`,
    `exthdr frag exists icmpv6 type != { ${large} } ${drop('fragment')}`,

    `icmpv6 type != { ${large}, ${discovery}, ${listener} } ${drop('icmp')}`,
    `icmpv6 type { ${discovery} } ip6 nexthdr != ipv6-icmp ${drop('header')}`,
    `icmpv6 type nd-neighbor-advert @th,64,128 != ${own} ${drop('claim')}`,
    `ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 != ${own} ${drop('claim')}`,
    `udp sport 547 ${drop('dhcp')}`,
    `udp dport 546 ${drop('dhcp')}`,

    `icmpv6 type { ${large}, ${listener}, nd-router-solicit } accept`,
    `icmpv6 type nd-neighbor-advert @th,64,128 ${own} accept`,
    `icmpv6 type nd-neighbor-solicit @th,64,128 ${own} accept`,
    // The target was read, whatever it is.
    `icmpv6 type nd-neighbor-solicit ip6 saddr != :: @th,184,8 >= 0 accept`,
    'udp sport != 547 udp dport != 546 udp length >= 8 accept',
    // All twenty bytes were read.
    'tcp doff >= 5 @th,152,8 >= 0 accept',
    `meta l4proto != { tcp, udp, ipv6-icmp, ${extensions} } accept`,
    drop('header'),
  ];
}
