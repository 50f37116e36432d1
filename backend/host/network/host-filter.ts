/**
 * Rules of nft, in family inet, for traffic of guests to the host. Pure.
 *
 * - To the host itself (input): ICMPv6, the metadata server, answers to what the host asked. Nothing comes in by a tap.
 * - Through the host: not restricted, and not tracked either, as the connection table is one for the whole machine. The
 *   same goes for what guests may begin with the host. So only what the host begins has entries. Rules of the operator for
 *   the host's own connections go on working; for forwarded packets of guests `ct state` is `untracked`.
 * - Fragments: the connection table needs whole packets, so the kernel puts fragments together before (priority -400), in
 *   a memory that is one for the whole machine (4 MiB). Fragments that go through the host are marked before that and
 *   pass as they are. Of those to the host itself, guests may send two a second: all together, with 9,000 bytes each,
 *   less than that memory takes in the minute for which the kernel waits for the rest.
 * - Neighbours of the host that are not guests: a guest makes the host look for a few new ones in a second. The table
 *   of neighbours is one for the whole machine (1,024 by default), and each datagram to an address on a link of the host
 *   could take an entry. A packet that goes to a router counts as that router.
 *
 * Sets that packets write are left out of what `nft -t` prints; all that is decided here is in the rules themselves.
 */
import { metadataAddress } from '../../model/network/interface-names.ts';

export interface HostFilter {
  readonly taps: readonly string[];
  readonly bridges: readonly string[];
  /** Addresses of the guests in their networks' prefixes. */
  readonly addresses: readonly string[];
}

const manyFragments = 'limit rate over 2/second burst 40 packets';
const newHops = 'limit rate over 10/second burst 20 packets';
/** More than a guest can make before the first entries end. */
const hopsOfGuest = 1024;

/** Lines for `nft -f` that make the table anew. */
export function hostRules(table: string, { taps, bridges, addresses }: HostFilter): string[] {
  const chain = (name: string, hook = '') => `add chain inet ${table} ${name} ${hook}`;
  const rule = (name: string, text: string) => `add rule inet ${table} ${name} ${text}`;
  const set = (items: readonly string[], quote = '"') =>
    `{ ${items.map((item) => `${quote}${item}${quote}`).join(', ')} }`;
  /** `nft` knows no empty set. */
  const given = (items: readonly string[], ...lines: string[]) => (items.length > 0 ? lines : []);
  const size = hopsOfGuest * Math.max(1, addresses.length);
  const metadata = (direction: 'saddr' | 'daddr') =>
    `ip6 ${direction} ${metadataAddress} tcp ${direction === 'saddr' ? 'sport' : 'dport'} 80`;
  return [
    `add table inet ${table}`,
    `delete table inet ${table}`,
    `add table inet ${table}`,

    chain('through'),
    rule('through', 'fib daddr type != local notrack return'),
    rule('through', `exthdr frag exists ${manyFragments} counter drop`),
    chain('arriving', '{ type filter hook prerouting priority -450; policy accept; }'),
    ...given(taps, rule('arriving', `iifname ${set(taps)} counter drop`)),
    ...given(addresses, rule('arriving', `ip6 daddr ${set(addresses, '')} notrack`)),
    ...given(bridges, rule('arriving', `iifname ${set(bridges)} jump through`)),

    chain('untracked_from_guests'),
    rule('untracked_from_guests', 'icmpv6 type echo-request notrack'),
    rule('untracked_from_guests', `${metadata('daddr')} notrack`),
    chain('prerouting', '{ type filter hook prerouting priority -300; policy accept; }'),
    ...given(bridges, rule('prerouting', `iifname ${set(bridges)} jump untracked_from_guests`)),

    chain('untracked_to_guests'),
    rule('untracked_to_guests', 'icmpv6 type echo-reply notrack'),
    rule('untracked_to_guests', `${metadata('saddr')} notrack`),
    chain('output', '{ type filter hook output priority -300; policy accept; }'),
    ...given(bridges, rule('output', `oifname ${set(bridges)} jump untracked_to_guests`)),

    chain('from_guests'),
    rule('from_guests', 'ct state established,related accept'),
    rule('from_guests', 'meta l4proto ipv6-icmp accept'),
    rule('from_guests', `${metadata('daddr')} accept`),
    rule('from_guests', 'counter drop'),
    chain('input', '{ type filter hook input priority 0; policy accept; }'),
    ...given(bridges, rule('input', `iifname ${set(bridges)} jump from_guests`)),

    `add set inet ${table} hops { type ipv6_addr . ipv6_addr; flags dynamic,timeout; timeout 1m; size ${size}; }`,
    `add set inet ${table} hoppers { type ipv6_addr; flags dynamic,timeout; timeout 1m; size ${size}; }`,
    chain('leaving'),
    rule('leaving', 'ip6 saddr . rt ip6 nexthop @hops return'),
    rule('leaving', `update @hoppers { ip6 saddr ${newHops} } counter drop`),
    rule('leaving', 'add @hops { ip6 saddr . rt ip6 nexthop } return'),
    rule('leaving', 'counter drop'),
    chain('forward', '{ type filter hook forward priority 0; policy accept; }'),
    ...given(bridges, rule('forward', `iifname ${set(bridges)} oifname != ${set(bridges)} jump leaving`)),
  ];
}
