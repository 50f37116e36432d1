/**
 * The nftables rules, in family inet, for packets from guests to and through the host. Pure.
 *
 * - Packets to the host (input): the rules accept ICMPv6, requests to the metadata server, and answers to the host's
 *   own connections. They accept no packet that arrives on a tap.
 * - Packets through the host: the rules neither restrict nor track them, because the whole machine shares one
 *   connection table. The connections that guests may open to the host are not tracked either. So only the host's own
 *   connections have entries. The operator's rules for these connections still work. For forwarded packets of guests,
 *   `ct state` is `untracked`. Interfaces with security groups are the exception (group-filter.ts).
 * - Fragments: the connection table needs whole packets, so the kernel reassembles fragments before (priority -400).
 *   The whole machine shares the memory for this (4 MiB). Fragments that go through the host are marked before and pass
 *   without reassembly. All guests together may send the host two fragments a second. Even with 9,000 bytes each, they
 *   do not fill the memory in the minute for which the kernel waits for the rest. Connections that are tracked need whole
 *   packets too: each guest of this host may send fifty fragments a second to such interfaces, and each such interface gets
 *   fifty a second from elsewhere.
 * - Tunnels: the host accepts VXLAN only at its underlay address, only from those of known hosts, and never from a guest.
 *   Guests reach no underlay address. These rules are in the input hook: it sees the packets to groups and to anycast
 *   addresses of routers too, which the kernel gives to the host, and after the reassembly of fragments. VXLAN does not
 *   check the source of a packet itself (RFC 7348, 7).
 * - Path MTU: a machine that quotes a tunnel in Packet Too Big could make the tunnels between two hosts too small for IPv6. The
 *   operator sets the MTU of the underlay, so the host ignores such messages.
 * - The transit carries packets of guests of other hosts. The host treats them like those of its own guests. It sends no
 *   redirects: a guest would lose the host's address as its router.
 * - Neighbours: each datagram to an unknown address on a link of the host could take an entry of the neighbour table.
 *   The whole machine shares this table (1,024 entries by default). Each guest may therefore cause a few new entries a
 *   second. A packet to a router counts as a packet to that router's address. The MAC address identifies the guest, because a
 *   guest with a routed prefix has any number of source addresses.
 * - Routed prefixes: while the VM of a prefix has no tap, packets to the prefix get "no route". A default route would send them
 *   back, and they would circle.
 *
 * `nft -t` leaves out sets that packets write. The rules themselves contain every decision of this file.
 */
import { addressKey, storedIpv6 } from '../../model/network/addresses.ts';
import { vxlanPort } from '../../model/network/fabric.ts';
import { metadataAddress } from '../../model/network/interface-names.ts';

/** The interfaces and addresses that the rules name. */
export interface HostFilter {
  /** The names of the instance's taps. */
  readonly taps: readonly string[];
  /** The names of the instance's bridges. */
  readonly bridges: readonly string[];
  /** The addresses of the guests in the prefixes of their networks. */
  readonly addresses: readonly string[];
  /** The prefixes that are routed to guests of this host. */
  readonly prefixes: readonly string[];
  /** The addresses of interfaces with security groups, and the prefixes behind them. Their connections are tracked. */
  readonly tracked: readonly string[];
  /** The transit, and the underlay addresses of this host and of the others. Undefined: networks end at this host. */
  readonly fabric?: {
    readonly transit: string;
    readonly local: string;
    readonly peers: readonly string[];
    /** The prefixes of the cloud. */
    readonly prefixes: readonly string[];
  };
}

/** The types of destinations whose packets the kernel gives to this host. */
const toThisHost = '{ local, anycast, multicast }';
/**
 * The ICMPv6 messages that a guest may send to the host. Errors must belong to a connection of the host (`related`).
 * Otherwise a guest could change the path MTU of the host to others.
 */
const fromGuests = [
  ...['echo-request', 'nd-router-solicit', 'nd-neighbor-solicit', 'nd-neighbor-advert'],
  ...['mld-listener-report', 'mld-listener-done', 'mld2-listener-report'],
].join(', ');
/** Hosts may have different views for a moment, and send a packet back and forth. It then ends soon. */
const maxTransitHops = 16;
const aboveFragmentRate = 'limit rate over 2/second burst 40 packets';
const aboveTrackedFragmentRate = 'limit rate over 50/second burst 100 packets';
const aboveNewHopRate = 'limit rate over 10/second burst 20 packets';
/** The entries for each guest. A guest cannot cause as many before its first entries end. */
const maxHopsPerGuest = 1024;

/** Returns the lines for `nft -f` that replace the table. */
export function hostRules(
  table: string,
  { taps, bridges, addresses, prefixes, tracked, fabric }: HostFilter,
): string[] {
  /** The interfaces on which packets of guests arrive. */
  const routers = fabric === undefined ? bridges : [...bridges, fabric.transit];
  const chain = (name: string, hook = '') => `add chain inet ${table} ${name} ${hook}`;
  const rule = (name: string, text: string) => `add rule inet ${table} ${name} ${text}`;
  const set = (items: readonly string[], quote = '"') =>
    `{ ${items.map((item) => `${quote}${item}${quote}`).join(', ')} }`;
  // nft refuses an empty set, so rules without items are left out.
  const ifAny = (items: readonly string[], ...lines: string[]) => (items.length > 0 ? lines : []);
  const ifTunnels = (lines: (tunnels: NonNullable<typeof fabric>) => string[]) =>
    fabric === undefined ? [] : lines(fabric);
  const numbers = (items: readonly string[]) =>
    `{ ${items.map((item) => `0x${addressKey(storedIpv6(item))}`).join(', ')} }`;
  const underlay = fabric === undefined ? [] : [fabric.local, ...fabric.peers];
  const guests = [...addresses, ...prefixes];
  const size = maxHopsPerGuest * Math.max(1, addresses.length);
  const metadata = (direction: 'saddr' | 'daddr') =>
    `ip6 ${direction} ${metadataAddress} tcp ${direction === 'saddr' ? 'sport' : 'dport'} 80`;
  return [
    `add table inet ${table}`,
    `delete table inet ${table}`,
    `add table inet ${table}`,

    `add set inet ${table} fragmenters { type ether_addr; flags dynamic,timeout; timeout 1m; size ${size}; }`,
    `add set inet ${table} fragmented { type ipv6_addr; flags dynamic,timeout; timeout 1m; size ${size}; }`,
    chain('tracked'),
    ...ifAny(
      bridges,
      rule(
        'tracked',
        `iifname ${set(bridges)} exthdr frag exists update @fragmenters { ether saddr ${aboveTrackedFragmentRate} } counter drop`,
      ),
    ),
    // One sender outside, or on another host, must not use up the fragments of all.
    rule(
      'tracked',
      `${bridges.length > 0 ? `iifname != ${set(bridges)} ` : ''}exthdr frag exists update @fragmented { ip6 daddr ${aboveTrackedFragmentRate} } counter drop`,
    ),
    rule('tracked', 'accept'),
    chain('to_tracked'),
    rule('to_tracked', `ip6 daddr != ff00::/8 fib daddr type != ${toThisHost} jump tracked`),

    chain('through'),
    rule('through', 'ip6 daddr ff00::/8 notrack return'),
    rule('through', `fib daddr type != ${toThisHost} notrack return`),
    rule('through', `exthdr frag exists ${aboveFragmentRate} counter drop`),
    chain('arriving', '{ type filter hook prerouting priority -450; policy accept; }'),
    ...ifAny(taps, rule('arriving', `iifname ${set(taps)} counter drop`)),
    // Packets of guests on other hosts arrive in tunnels, so nobody outside has an address of the cloud.
    ...ifAny(
      fabric?.prefixes ?? [],
      rule(
        'arriving',
        `iifname != ${set([...routers, 'lo'])} ip6 saddr ${set(fabric?.prefixes ?? [], '')} counter drop`,
      ),
    ),
    ...ifAny(
      tracked,
      rule('arriving', `ip6 saddr ${set(tracked, '')} jump to_tracked`),
      rule('arriving', `ip6 daddr ${set(tracked, '')} jump to_tracked`),
    ),
    ...ifAny(guests, rule('arriving', `ip6 daddr ${set(guests, '')} notrack`)),
    // Packets from outside may arrive at a host without the VM.
    ...ifAny(
      fabric?.prefixes ?? [],
      rule('arriving', `ip6 daddr ${set(fabric?.prefixes ?? [], '')} fib daddr type != ${toThisHost} notrack`),
    ),
    ...ifAny(routers, rule('arriving', `iifname ${set(routers)} jump through`)),

    chain('untracked_from_guests'),
    rule('untracked_from_guests', `fib daddr type ${toThisHost} icmpv6 type echo-request notrack`),
    rule('untracked_from_guests', `${metadata('daddr')} notrack`),
    chain('prerouting', '{ type filter hook prerouting priority -300; policy accept; }'),
    ...ifAny(routers, rule('prerouting', `iifname ${set(routers)} jump untracked_from_guests`)),
    ...ifTunnels(({ local }) => [rule('prerouting', `ip6 daddr ${local} udp dport ${vxlanPort} notrack`)]),

    chain('untracked_to_guests'),
    rule('untracked_to_guests', 'icmpv6 type echo-reply notrack'),
    rule('untracked_to_guests', `${metadata('saddr')} notrack`),
    chain('output', '{ type filter hook output priority -300; policy accept; }'),
    ...ifAny(routers, rule('output', `oifname ${set(routers)} jump untracked_to_guests`)),
    ...ifTunnels(() => [rule('output', `udp dport ${vxlanPort} notrack`)]),

    chain('sending', '{ type filter hook output priority 0; policy accept; }'),
    ...ifAny(routers, rule('sending', `oifname ${set(routers)} icmpv6 type nd-redirect counter drop`)),

    chain('from_guests'),
    ...ifAny(underlay, rule('from_guests', `ip6 daddr ${set(underlay, '')} counter drop`)),
    rule('from_guests', 'ct state established,related accept'),
    rule('from_guests', `icmpv6 type { ${fromGuests} } accept`),
    rule('from_guests', `${metadata('daddr')} accept`),
    rule('from_guests', 'counter drop'),
    chain('input', '{ type filter hook input priority 0; policy accept; }'),
    ...ifTunnels(({ local, peers, transit }) => [
      rule('input', `udp dport ${vxlanPort} ip6 daddr != ${local} counter drop`),
      rule('input', `udp dport ${vxlanPort} iifname ${set([...taps, ...bridges, transit])} counter drop`),
      rule('input', `udp dport ${vxlanPort}${peers.length > 0 ? ` ip6 saddr != ${set(peers, '')}` : ''} counter drop`),
      ...ifAny(
        peers,
        // Next header and destination of the packet in the message (RFC 4443, 3.2). TCP checks such messages itself.
        rule('input', `icmpv6 type packet-too-big @th,256,128 ${numbers(peers)} @th,112,8 != 6 counter drop`),
      ),
    ]),
    ...ifAny(routers, rule('input', `iifname ${set(routers)} jump from_guests`)),

    `add set inet ${table} hops { type ether_addr . ipv6_addr; flags dynamic,timeout; timeout 1m; size ${size}; }`,
    `add set inet ${table} hoppers { type ether_addr; flags dynamic,timeout; timeout 1m; size ${size}; }`,
    chain('leaving'),
    rule('leaving', 'ether saddr . rt ip6 nexthop @hops return'),
    rule('leaving', `update @hoppers { ether saddr ${aboveNewHopRate} } counter drop`),
    rule('leaving', 'add @hops { ether saddr . rt ip6 nexthop } return'),
    rule('leaving', 'counter drop'),
    chain('forward', '{ type filter hook forward priority 0; policy accept; }'),
    ...ifAny(underlay, rule('forward', `iifname ${set(routers)} ip6 daddr ${set(underlay, '')} counter drop`)),
    ...ifTunnels(({ transit }) => [
      rule(
        'forward',
        `iifname "${transit}" oifname "${transit}" ip6 hoplimit > ${maxTransitHops} ip6 hoplimit set ${maxTransitHops}`,
      ),
    ]),
    ...ifAny(
      prefixes,
      rule(
        'forward',
        `ip6 daddr ${set(prefixes, '')}${routers.length > 0 ? ` oifname != ${set(routers)}` : ''} counter reject with icmpv6 type no-route`,
      ),
    ),
    ...ifAny(bridges, rule('forward', `iifname ${set(bridges)} oifname != ${set(routers)} jump leaving`)),
  ];
}
