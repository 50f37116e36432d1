/**
 * The limits of tracked connections, in family inet: rules and sets that stay when security groups change. Pure.
 *
 * The whole machine shares the connection table, so each interface has a share of it. The kernel counts the connections by the
 * number of the interface, however many addresses lead to it. Clients of one /64 have a part of the incoming share. The chain
 * comes after the rules of the groups, so refused packets do not count, and sees only the first packet of a connection.
 */
import { elementsOf, type FilteredPort } from './group-filter.ts';

/** The maximum number of connections from an interface, and of those to it. */
const maxConnections = 8_192;
/** The maximum number of connections to an interface from one /64. */
const maxFromSubnet = 1_024;
const subnetMask = 'ffff:ffff:ffff:ffff::';

/** Returns the lines for `nft -f` that make the table, and enter the interfaces. `numberOf` gives each interface its number. */
export function limitLines(
  table: string,
  ports: readonly FilteredPort[],
  isThere: boolean,
  numberOf: (mac: string) => number,
): string[] {
  const add = (what: string) => `add ${what.replace(' ', ` inet ${table} `)}`;
  const elements = elementsOf(ports, ({ mac }) => `${numberOf(mac)}`);
  const count = (set: string, key: string, most: number) =>
    add(`rule new ct mark != 0 add @${set} { ${key} ct count over ${most} } counter drop`);
  const rules = [
    `add table inet ${table}`,
    add('map senders { type ipv6_addr : mark; flags interval; }'),
    add('map receivers { type ipv6_addr : mark; flags interval; }'),
    add('set from { type mark; size 65535; flags dynamic; }'),
    add('set to { type mark; size 65535; flags dynamic; }'),
    add('set to_from_subnet { type mark . ipv6_addr; size 65535; flags dynamic; }'),
    `add chain inet ${table} new`,
    `add rule inet ${table} new ct mark set 0`,
    `add rule inet ${table} new ct mark set ip6 saddr map @senders`,
    count('from', 'ct mark', maxConnections),
    `add rule inet ${table} new ct mark set 0`,
    `add rule inet ${table} new ct mark set ip6 daddr map @receivers`,
    count('to', 'ct mark', maxConnections),
    count('to_from_subnet', `ct mark . ip6 saddr & ${subnetMask}`, maxFromSubnet),
    `add chain inet ${table} forward { type filter hook forward priority 30; policy accept; }`,
    `add rule inet ${table} forward ct state new ct status & confirmed == 0 jump new`,
  ];
  const maps = ['senders', 'receivers'].flatMap((map) => [
    `flush map inet ${table} ${map}`,
    ...(elements === '' ? [] : [`add element inet ${table} ${map} { ${elements} }`]),
  ]);
  return [...(isThere ? [] : rules), ...maps];
}
