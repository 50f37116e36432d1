/** The whole rule set of an instance, as text for `nft -f -`, which applies all of it or nothing. Pure. */
import { type HostFilter, hostRules } from './host-filter.ts';
import { chainName, counterName, dropReasons, type Port, tapRules } from './tap-filter.ts';

/** Families in which the instance has a table of its name. Versions before kept the rules of taps in `bridge`. */
export const families = ['netdev', 'inet', 'bridge'] as const;
export type Family = (typeof families)[number];

/** Adding first makes the deletion right whether the table exists or not. */
export const removeTable = (family: Family, table: string): string[] => [
  `add table ${family} ${table}`,
  `delete table ${family} ${table}`,
];

export interface Rules extends HostFilter {
  /** Interfaces of guests. Their taps exist, as those of `closed` do: taps that no guest should have send nothing. */
  readonly ports: readonly Port[];
  readonly closed: readonly string[];
}

/**
 * `present` is the instance's netdev table as `nft list table` prints it. Chains and counters of taps that are gone are
 * removed, those that stay keep counting. A chain ends or is left without its interface when that goes: such a chain is
 * made anew.
 */
export function ruleset(table: string, { ports, closed, ...host }: Rules, present: string): string {
  const bound = (tap: string) => `type filter hook ingress device "${tap}" priority`;
  const chains = [
    ...ports.map((port) => ({ tap: port.tap, rules: tapRules(port) })),
    ...closed.map((tap) => ({ tap, rules: ['counter drop'] })),
  ];
  const kept = new Set(chains.filter(({ tap }) => present.includes(bound(tap))).map(({ tap }) => chainName(tap)));
  const counters = new Set(ports.flatMap(({ tap }) => dropReasons.map((reason) => counterName(tap, reason))));
  const stale = (kind: string, keep: Set<string>) =>
    [...present.matchAll(new RegExp(`^\\s*${kind} (\\w+) \\{`, 'gm'))].flatMap(([, name]) =>
      name === undefined || keep.has(name) ? [] : [`delete ${kind} netdev ${table} ${name}`],
    );
  return [
    `add table netdev ${table}`,
    `flush table netdev ${table}`,
    ...stale('chain', kept),
    ...stale('counter', counters),
    ...[...counters].map((name) => `add counter netdev ${table} ${name}`),
    // Policy accept, as hooks are in force before their rules are; the last rule drops.
    ...chains.map(({ tap }) => `add chain netdev ${table} ${chainName(tap)} { ${bound(tap)} -500; policy accept; }`),
    ...chains.flatMap(({ tap, rules }) => rules.map((rule) => `add rule netdev ${table} ${chainName(tap)} ${rule}`)),
    ...hostRules(table, host),
    ...removeTable('bridge', table),
    '',
  ].join('\n');
}
