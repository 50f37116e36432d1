/**
 * The nftables rules of security groups, in family inet. Pure.
 *
 * Addresses identify the interfaces: no guest can send from another address (tap-filter.ts). So one rule set serves packets
 * that are routed, and frames between guests of one bridge, which br_netfilter shows to the same hooks.
 *
 * - Two chains see each packet through the host: the first with the groups of its sender, the second with those of its
 *   receiver. Each finds the interface in one search. Interfaces with the same groups share a chain.
 * - Answers and related errors pass by the connection table. Connections of other interfaces are not tracked
 *   (host-filter.ts).
 * - The rules of a group are sets of boxes (rule-boxes.ts), so a thousand rules cost a packet no more than ten.
 * - The messages that IPv6 needs always pass: neighbour discovery, and errors about allowed connections (RFC 4890, 4.3.1).
 * - A TCP connection begins with a SYN. Otherwise the next packet of a VM would revive a connection that is no longer allowed.
 * - An interface has a limited number of connections (connection-limits.ts).
 * - Packets to groups have no connection. An interface with security groups may send them by its rules, and gets none besides
 *   neighbour discovery: no rule could tell for which of the receivers it is.
 */
import { formatIpv6, linkLocalAddress } from '../../model/network/addresses.ts';
import { comparePrefixes, contains, type Prefix, storedPrefix } from '../../model/network/prefixes.ts';
import { type Boxes, boxesWithoutPrefixes, boxesWithPrefixes } from '../../model/network/rule-boxes.ts';
import type { Range } from '../../model/network/security-groups.ts';
import type { SecurityGroupSpec, SecuritySpec } from '../hypervisor/specs.ts';
import type { Port } from './tap-filter.ts';

const discovery = 'nd-neighbor-solicit, nd-neighbor-advert';
/** The packets to groups that a guest needs: neighbour discovery and group membership (RFC 4861, 2710, 3810). */
const neededOfGroups = 'nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query';

/** A guest's interface with security groups. */
export interface FilteredPort {
  readonly mac: string;
  /** Its addresses, and the prefixes that are routed to it. */
  readonly addresses: readonly string[];
  readonly groups: readonly string[];
}

/** The interfaces with groups, and all that their filters need. */
export interface GroupFilter extends Pick<SecuritySpec, 'groups' | 'peers'> {
  readonly ports: readonly FilteredPort[];
}

/** Returns the filters of those interfaces that exist and have groups. */
export function groupFilter(
  { groups, peers, interfaces }: SecuritySpec,
  ports: readonly Pick<Port, 'mac' | 'addresses' | 'prefixes'>[],
): GroupFilter {
  const groupsOf = new Map(interfaces.map((each) => [each.mac, each.groups]));
  const filtered = ports.flatMap(({ mac, addresses: some, prefixes }): FilteredPort[] => {
    const own = groupsOf.get(mac) ?? [];
    const addresses = [...some, formatIpv6(linkLocalAddress(mac)), ...prefixes];
    return own.length === 0 ? [] : [{ mac, addresses, groups: own }];
  });
  return { groups, peers, ports: filtered };
}

/** Returns the rules of the egress hook of a tap whose interface has security groups. */
export const multicastRules: readonly string[] = [
  `ip6 daddr ff00::/8 meta l4proto != ipv6-icmp counter drop`,
  `ip6 daddr ff00::/8 icmpv6 type != { ${neededOfGroups} } counter drop`,
];

const range = ({ from, to }: Range): string => (from === to ? `${from}` : `${from}-${to}`);
const identifier = (id: string): string => id.replaceAll('-', '_');

/**
 * Returns the elements of a map from the addresses and prefixes of interfaces. nftables refuses the whole map if two of them
 * overlap, so an element in another one is left out.
 */
export function elementsOf(
  ports: readonly FilteredPort[],
  content: (port: FilteredPort, index: number) => string,
): string {
  const all = ports
    .flatMap((port, index) =>
      port.addresses.map((text) => ({
        text,
        prefix: storedPrefix(text.includes('/') ? text : `${text}/128`),
        port,
        index,
      })),
    )
    .sort((a, b) => comparePrefixes(a.prefix, b.prefix));
  let last: Prefix | undefined;
  const elements: string[] = [];
  for (const { text, prefix, port, index } of all) {
    if (last !== undefined && contains(last, prefix)) continue;
    last = prefix;
    elements.push(`${text} : ${content(port, index)}`);
  }
  return elements.join(', ');
}

/** Returns the lines for one group and direction: its sets, and its chain. */
function groupLines(table: string, group: SecurityGroupSpec, direction: 'ingress' | 'egress'): string[] {
  const chain = `${direction}_${identifier(group.id)}`;
  const side = direction === 'ingress' ? 'saddr' : 'daddr';
  const rules = group.rules.filter((rule) => rule.direction === direction);
  const lines: string[] = [`add chain inet ${table} ${chain}`];
  const add = (name: string, type: string, match: string, elements: readonly string[]) => {
    if (elements.length === 0) return;
    lines.push(
      `add set inet ${table} ${name} { type ${type}; flags interval; }`,
      `add element inet ${table} ${name} { ${elements.join(', ')} }`,
      `add rule inet ${table} ${chain} ${match} @${name} accept`,
    );
  };
  const addBoxes = (name: string, { services, types }: Boxes, peers: string | undefined) => {
    const [type, match] = peers === undefined ? ['ipv6_addr . ', `ip6 ${side} . `] : ['', `ip6 ${side} @${peers} `];
    const first = (prefix: string | undefined) => (prefix === undefined ? '' : `${prefix} . `);
    add(
      `${name}_services`,
      `${type}inet_proto . inet_service`,
      `${match}meta l4proto . th dport`,
      services.map(({ prefix, protocols, ports }) => `${first(prefix)}${range(protocols)} . ${range(ports)}`),
    );
    add(
      `${name}_types`,
      `${type}icmpv6_type`,
      `${match}icmpv6 type`,
      types.map((box) => `${first(box.prefix)}${range(box.types)}`),
    );
  };
  const withPrefixes = rules.flatMap(({ prefixes, peers, ...rule }) =>
    peers ? [] : [{ ...rule, prefixes: prefixes ?? [] }],
  );
  for (const [level, boxes] of boxesWithPrefixes(withPrefixes).entries())
    addBoxes(`${chain}_${level}`, boxes, undefined);
  const names = [...new Set(rules.flatMap(({ peers }) => peers ?? []))];
  for (const name of names) {
    const boxes = boxesWithoutPrefixes(rules.filter(({ peers }) => peers === name));
    addBoxes(`${chain}_${name}`, boxes, name);
  }
  return lines;
}

/** Returns the lines for `nft -f` that replace the table of the groups; none but the removal if no interface has a group. */
export function groupRules(table: string, { groups, peers, ports }: GroupFilter): string[] {
  const removal = [`add table inet ${table}`, `delete table inet ${table}`];
  if (ports.length === 0) return removal;
  const known = new Map<string, SecurityGroupSpec>(groups.map((group) => [group.id, group]));
  const combinations = new Map<string, { readonly name: string; readonly groups: readonly string[] }>();
  for (const port of ports) {
    const key = port.groups.join(' ');
    if (!combinations.has(key)) combinations.set(key, { name: `${combinations.size}`, groups: port.groups });
  }
  const rule = (chain: string, text: string) => `add rule inet ${table} ${chain} ${text}`;
  const chainOf = (
    direction: 'ingress' | 'egress',
    { name, groups: ids }: { name: string; groups: readonly string[] },
  ) => {
    const chain = `${direction}_${name}`;
    const isOpen = direction === 'egress' && ids.some((id) => known.get(id)?.default_egress === 'allow');
    return [
      `add chain inet ${table} ${chain}`,
      rule(chain, 'ct state established,related accept'),
      rule(chain, `icmpv6 type { ${discovery} } accept`),
      rule(chain, 'ct state invalid counter drop'),
      rule(chain, 'meta l4proto tcp ct state new tcp flags & (fin | syn | rst | ack) != syn counter drop'),
      ...(isOpen
        ? [rule(chain, 'accept')]
        : ids.flatMap((id) => (known.has(id) ? [rule(chain, `jump ${direction}_${identifier(id)}`)] : []))),
      rule(chain, 'counter drop'),
    ];
  };
  const hooks = ([direction, side, priority]: readonly ['ingress' | 'egress', string, number]) => [
    ...groups.flatMap((group) => groupLines(table, group, direction)),
    ...[...combinations.values()].flatMap((each) => chainOf(direction, each)),
    `add map inet ${table} ${direction}_ports { type ipv6_addr : verdict; flags interval; }`,
    `add element inet ${table} ${direction}_ports { ${elementsOf(ports, ({ groups: ids }) => `goto ${direction}_${combinations.get(ids.join(' '))?.name}`)} }`,
    `add chain inet ${table} ${direction} { type filter hook forward priority ${priority}; policy accept; }`,
    rule(direction, `ip6 ${side} vmap @${direction}_ports`),
  ];
  return [
    ...removal,
    `add table inet ${table}`,
    ...peers.flatMap(({ name, addresses }) => [
      `add set inet ${table} ${name} { type ipv6_addr; }`,
      ...(addresses.length > 0 ? [`add element inet ${table} ${name} { ${addresses.join(', ')} }`] : []),
    ]),
    // The rules of the host come first (host-filter.ts).
    ...hooks(['egress', 'saddr', 10]),
    ...hooks(['ingress', 'daddr', 20]),
  ];
}
