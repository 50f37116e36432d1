/**
 * The nftables rules for the frames of a guest, on its tap, in family netdev at the ingress hook. Pure.
 *
 * The hook sees every frame before the bridge, before br_netfilter and before the host's own protocols. It works for
 * all destinations, and also for a tap in no bridge. The hooks of the bridge miss frames to 01:80:c2:00:00:0x. The
 * bridge gives these frames to the host with the tap as their interface (IEEE 802.1D, 7.12.6).
 *
 * A guest may send only IPv6, from its own MAC address and from its own addresses. These are the link-local address and
 * the address in the network's prefix, both formed from the MAC address (modified EUI-64), and those that the user has
 * chosen. So every receiver, such as the metadata server, can identify guests by their source address. A guest may also send from the prefixes
 * that are routed to it, but may not claim their addresses: the routes of the hosts lead to it. A guest may not act as a router
 * (RFC 6105), send redirects, serve DHCPv6 (RFC 7610), or claim an address of another guest. Such claims are neighbour
 * advertisements and answers to duplicate address detection.
 *
 * The first rules drop forbidden frames and count them by tap and reason. A rule does not match if its field lies
 * behind the end of the frame. The last rules therefore accept only frames that contain all necessary fields. The chain
 * drops the rest.
 *
 * Extension headers: neighbour discovery may have none. A fragment header must be the only one. The complete header of
 * the upper layer must follow it in the first fragment (RFC 7112). So no later fragment can add or replace a checked
 * field, even by an overlap (RFC 5722). The rules drop routing headers (RFC 5095), and AH, because nft cannot look
 * behind it. Hop-by-hop options may occur only in ICMPv6, such as multicast listener reports (RFC 2710).
 */
import {
  addressKey,
  formatIpv6,
  type Ipv6Address,
  linkLocalAddress,
  storedIpv6,
} from '../../model/network/addresses.ts';

/** A guest's interface. */
export interface Port {
  readonly tap: string;
  readonly mac: string;
  /** The addresses in the network's prefix. */
  readonly addresses: readonly string[];
  /** The prefixes that are routed to this interface. The guest may send from them. */
  readonly prefixes: readonly string[];
  /** The MAC address of the network's router. */
  readonly router: string;
  /** The prefixes that are routed to all interfaces of the VM. */
  readonly ofVm: readonly string[];
}

/** The reasons for dropping a frame. Each tap has a counter for each reason. */
export const dropReasons = [
  'mac',
  'type',
  'group',
  'source',
  'loop',
  'header',
  'fragment',
  'icmp',
  'claim',
  'dhcp',
] as const;
/** A reason for dropping a frame. */
export type DropReason = (typeof dropReasons)[number];
/** Returns the name of the tap's counter: `<tap>_<reason>`. */
export const counterName = (tap: string, reason: DropReason): string => `${tap}_${reason}`;
/** Returns the name of the tap's chain. */
export const chainName = (tap: string): string => `from_${tap}`;

/** Returns the address as a number of 128 bits, for comparison with raw payload. */
const asNumber = (address: Ipv6Address): string => `0x${addressKey(address)}`;

const icmpErrors = 'destination-unreachable, packet-too-big, time-exceeded, parameter-problem';
/** The types of ICMPv6 that may be fragmented. */
const fragmentable = `${icmpErrors}, echo-request, echo-reply`;
const discovery = 'nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert';
const listener = 'mld-listener-report, mld-listener-done, mld2-listener-report';
/** The numbers of extension headers, which are no upper layer (IANA, IPv6 extension header types). */
const extensionHeaders = '0, 43, 44, 51, 60, 135, 139, 140';

/** Returns the rules of the tap's chain, in order. */
export function tapRules({ tap, mac, addresses, prefixes, router, ofVm }: Port): string[] {
  const linkLocal = formatIpv6(linkLocalAddress(mac));
  const drop = (reason: DropReason) => `counter name ${counterName(tap, reason)} drop`;
  // nft 1.0 has no name for the target of a neighbour message, which is 16 bytes at bit 64 of the ICMPv6 header.
  const own = [linkLocalAddress(mac), ...addresses.map(storedIpv6)];
  const ownAddresses = `{ ${own.map(asNumber).join(', ')} }`;
  return [
    `ether saddr != ${mac} ${drop('mac')}`,
    `ether type != ip6 ${drop('type')}`,
    // Only the MAC groups of IPv6 are allowed (RFC 2464), and only for packets to IPv6 groups.
    `ether daddr & 01:00:00:00:00:00 != 00:00:00:00:00:00 ether daddr & ff:ff:00:00:00:00 != 33:33:00:00:00:00 ${drop('group')}`,
    `ether daddr & ff:ff:00:00:00:00 == 33:33:00:00:00:00 ip6 daddr != ff00::/8 ${drop('group')}`,
    `ip6 version != 6 ${drop('header')}`,
    `ip6 saddr != { ${['::', linkLocal, ...addresses, ...prefixes].join(', ')} } ${drop('source')}`,
    // The guest knows no way to an address of its own prefix, and its router would send the packet back.
    ...(ofVm.length > 0 ? [`ether daddr ${router} ip6 daddr { ${ofVm.join(', ')} } ${drop('loop')}`] : []),
    // A guest without an address may only detect duplicates, solicit routers and join groups (RFC 4861, 4862, 3590).
    `ip6 saddr :: icmpv6 type != { nd-neighbor-solicit, nd-router-solicit, mld-listener-report, mld2-listener-report } ${drop('source')}`,
    `ip6 saddr :: meta l4proto != ipv6-icmp ${drop('source')}`,
    // A length of 0 means a jumbogram (RFC 2675), unless there is no next header.
    `ip6 length 0 ip6 nexthdr != 59 ${drop('header')}`,
    `exthdr rt exists ${drop('header')}`,
    `exthdr hbh exists meta l4proto != ipv6-icmp ${drop('header')}`,

    // Router advertisements and redirects must have link-local sources. Fragments from such sources are dropped (RFC
    // 6980).
    `exthdr frag exists ip6 saddr { ::, fe80::/10 } ${drop('fragment')}`,
    `exthdr frag exists ip6 daddr ff00::/8 ${drop('fragment')}`,
    `exthdr frag exists ip6 nexthdr != 44 ${drop('fragment')}`,
    `exthdr frag exists frag nexthdr { ${extensionHeaders} } ${drop('fragment')}`,
    // The packet must contain the fragment header and eight bytes, with the ports or the type of ICMPv6.
    `exthdr frag exists ip6 length < 16 ${drop('fragment')}`,
    `exthdr frag exists frag frag-off != 0 accept`,
    `exthdr frag exists icmpv6 type != { ${fragmentable} } ${drop('fragment')}`,

    `icmpv6 type != { ${fragmentable}, ${discovery}, ${listener} } ${drop('icmp')}`,
    `icmpv6 type { ${discovery} } ip6 nexthdr != ipv6-icmp ${drop('header')}`,
    // Receivers note the source of a discovery message as a neighbour. A prefix has more addresses than their tables.
    ...(prefixes.length > 0
      ? [`icmpv6 type { ${discovery}, ${listener} } ip6 saddr { ${prefixes.join(', ')} } ${drop('claim')}`]
      : []),
    `icmpv6 type nd-neighbor-advert @th,64,128 != ${ownAddresses} ${drop('claim')}`,
    `ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 != ${ownAddresses} ${drop('claim')}`,
    `udp sport 547 ${drop('dhcp')}`,
    `udp dport 546 ${drop('dhcp')}`,

    `icmpv6 type { ${fragmentable}, ${listener}, nd-router-solicit } accept`,
    `icmpv6 type nd-neighbor-advert @th,64,128 ${ownAddresses} accept`,
    `icmpv6 type nd-neighbor-solicit @th,64,128 ${ownAddresses} accept`,
    // The comparison with 0 only proves that the frame contains the whole target.
    `icmpv6 type nd-neighbor-solicit ip6 saddr != :: @th,184,8 >= 0 accept`,
    'udp sport != 547 udp dport != 546 udp length >= 8 accept',
    // The comparison with 0 only proves that the frame contains all twenty bytes of the header.
    'tcp doff >= 5 @th,152,8 >= 0 accept',
    `meta l4proto != { tcp, udp, ipv6-icmp, ${extensionHeaders} } accept`,
    drop('header'),
  ];
}
