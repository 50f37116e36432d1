/**
 * Faults of the links of a lab. Pure. The spine drops packets between nodes, so a fault needs nothing on the nodes, and ends
 * with the namespace of the spine.
 */

/** The direction of a fault, as the node sees it. */
export const directions = ['in', 'out', 'both'] as const;
export type Direction = (typeof directions)[number];

/** A fault of the link of a node. */
export interface LinkFault {
  readonly node: string;
  /** The lost packets in percent. 100 is a partition. */
  readonly percent: number;
  readonly direction: Direction;
  /** Only packets from or to this node are lost. Default: all. */
  readonly peer?: string;
}

/** Tells whether two faults concern the same packets; the later one then replaces the earlier one. */
const isSame = (a: LinkFault, b: LinkFault): boolean =>
  a.node === b.node && a.peer === b.peer && (a.direction === b.direction || b.direction === 'both');

/** Returns the faults together with a new one. */
export const withFault = (faults: readonly LinkFault[], fault: LinkFault): LinkFault[] => [
  ...faults.filter((each) => !isSame(each, fault)),
  fault,
];

/** Returns the faults that stay when the links of this node are healed; none without a node. */
export const withoutNode = (faults: readonly LinkFault[], node: string | undefined): LinkFault[] =>
  node === undefined ? [] : faults.filter((each) => each.node !== node && each.peer !== node);

/** Returns the ruleset of the spine for `nft -f`. The devices of the spine have the names of the nodes. */
export function ruleset(faults: readonly LinkFault[]): string {
  const rules = faults.flatMap(({ node, percent, direction, peer }) => {
    const loss = percent >= 100 ? 'drop' : `numgen random mod 100 < ${percent} drop`;
    const from = peer === undefined ? '' : ` iifname "${peer}"`;
    const to = peer === undefined ? '' : ` oifname "${peer}"`;
    return [
      ...(direction === 'in' ? [] : [`iifname "${node}"${to} ${loss}`]),
      ...(direction === 'out' ? [] : [`oifname "${node}"${from} ${loss}`]),
    ];
  });
  /** The router itself speaks BGP with the hosts. A fault between two nodes leaves that alone. */
  const ofRouter = (device: string, other: string): string[] =>
    rules.filter((rule) => rule.startsWith(device) && !rule.includes(other)).map((rule) => `    ${rule}`);
  return [
    'table inet lab_faults {}',
    'delete table inet lab_faults',
    'table inet lab_faults {',
    '  chain forward_faults {',
    '    type filter hook forward priority 0; policy accept;',
    ...rules.map((rule) => `    ${rule}`),
    '  }',
    '  chain input_faults {',
    '    type filter hook input priority 0; policy accept;',
    // Without neighbour discovery, the spine could not send to a node whose packets are lost.
    '    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept',
    ...ofRouter('iifname', 'oifname'),
    '  }',
    '  chain output_faults {',
    '    type filter hook output priority 0; policy accept;',
    '    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept',
    ...ofRouter('oifname', 'iifname'),
    '  }',
    '}',
    '',
  ].join('\n');
}

/** Returns a fault as a text for people. */
export function describeFault({ node, percent, direction, peer }: LinkFault): string {
  const packets = { in: 'to it', out: 'from it', both: 'in both directions' }[direction];
  const other = peer === undefined ? '' : ` between it and ${peer}`;
  return percent >= 100
    ? `${node}: no packets ${packets}${other}`
    : `${node}: ${percent} % of packets lost ${packets}${other}`;
}
