/** The whole rule set of an instance, as text for `nft -f -`. nft applies it in one transaction. Pure. */
import { multicastRules } from './group-filter.ts';
import { type HostFilter, hostRules } from './host-filter.ts';
import { chainName, counterName, dropReasons, type Port, tapRules } from './tap-filter.ts';
import { type Tunnel, tunnelChains } from './tunnel-filter.ts';

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
  /** The taps of interfaces with security groups. */
  readonly guarded: readonly string[];
  /** The names of existing taps without a guest. They may send nothing. */
  readonly closed: readonly string[];
  /** The VXLAN devices of networks. They exist. */
  readonly tunnels: readonly Tunnel[];
}

/**
 * Returns the rule set. It removes chains and counters of removed taps, and keeps the counts of the others. It creates
 * a chain again if the chain has lost its interface.
 * @param present the instance's netdev table, as `nft list table` prints it
 */
export function ruleset(table: string, { ports, guarded, closed, tunnels, ...host }: Rules, present: string): string {
  const hookOn = (hook: string, device: string) => `type filter hook ${hook} device "${device}" priority`;
  const tapChain = (tap: string, rules: readonly string[]) => ({
    name: chainName(tap),
    hook: hookOn('ingress', tap),
    rules,
  });
  const chains = [
    ...ports.map((port) => tapChain(port.tap, tapRules(port))),
    ...guarded.map((tap) => ({ name: `to_${tap}`, hook: hookOn('egress', tap), rules: multicastRules })),
    ...closed.map((tap) => tapChain(tap, ['counter drop'])),
    ...tunnels.flatMap((tunnel) =>
      tunnelChains(tunnel).map(({ hook, ...chain }) => ({ ...chain, hook: hookOn(hook, tunnel.device) })),
    ),
  ];
  const kept = new Set(chains.filter(({ hook }) => present.includes(hook)).map(({ name }) => name));
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
    // The policy is accept, because nft adds the hooks before the rules. The last rule of each tap's chain drops.
    ...chains.map(({ name, hook }) => `add chain netdev ${table} ${name} { ${hook} -500; policy accept; }`),
    ...chains.flatMap(({ name, rules }) => rules.map((rule) => `add rule netdev ${table} ${name} ${rule}`)),
    ...hostRules(table, host),
    '',
  ].join('\n');
}
