/** The whole rule set of an instance, as text for `nft -f -`. nft applies it in one transaction. Pure. */
import { type HostFilter, hostRules } from './host-filter.ts';
import { chainName, counterName, dropReasons, type Port, tapRules } from './tap-filter.ts';

/** The families in which the instance may have a table. */
export const families = ['netdev', 'inet'] as const;
/** A family of nftables. */
export type Family = (typeof families)[number];

/** Returns lines that remove the table. The first line adds it, so the deletion succeeds even without a table. */
export const removeTable = (family: Family, table: string): string[] => [
  `add table ${family} ${table}`,
  `delete table ${family} ${table}`,
];

/** The parts of the host that the rule set depends on. */
export interface Rules extends HostFilter {
  /** The interfaces of guests. Their taps exist. */
  readonly ports: readonly Port[];
  /** The names of existing taps without a guest. They may send nothing. */
  readonly closed: readonly string[];
}

/**
 * Returns the rule set. It removes chains and counters of removed taps, and keeps the counts of the others. It creates
 * a chain again if the chain has lost its interface.
 * @param present the instance's netdev table, as `nft list table` prints it
 */
export function ruleset(table: string, { ports, closed, ...host }: Rules, present: string): string {
  const hookOn = (tap: string) => `type filter hook ingress device "${tap}" priority`;
  const chains = [
    ...ports.map((port) => ({ tap: port.tap, rules: tapRules(port) })),
    ...closed.map((tap) => ({ tap, rules: ['counter drop'] })),
  ];
  const kept = new Set(chains.filter(({ tap }) => present.includes(hookOn(tap))).map(({ tap }) => chainName(tap)));
  const counters = new Set(ports.flatMap(({ tap }) => dropReasons.map((reason) => counterName(tap, reason))));
  const deletions = (kind: string, keep: Set<string>) =>
    [...present.matchAll(new RegExp(`^\\s*${kind} (\\w+) \\{`, 'gm'))].flatMap(([, name]) =>
      name === undefined || keep.has(name) ? [] : [`delete ${kind} netdev ${table} ${name}`],
    );
  return [
    `add table netdev ${table}`,
    `flush table netdev ${table}`,
    ...deletions('chain', kept),
    ...deletions('counter', counters),
    ...[...counters].map((name) => `add counter netdev ${table} ${name}`),
    // The policy is accept, because nft adds the hooks before the rules. The last rule of each chain drops.
    ...chains.map(({ tap }) => `add chain netdev ${table} ${chainName(tap)} { ${hookOn(tap)} -500; policy accept; }`),
    ...chains.flatMap(({ tap, rules }) => rules.map((rule) => `add rule netdev ${table} ${chainName(tap)} ${rule}`)),
    ...hostRules(table, host),
    '',
  ].join('\n');
}
