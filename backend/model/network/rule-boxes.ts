/**
 * The rules of one group and direction as boxes (prefix, protocols, ports). nftables finds the box of a packet in one search
 * of a set, however many boxes the set has, but refuses boxes that overlap. Pure.
 *
 * Prefixes either contain each other or are apart. The level of a prefix is the number of prefixes that contain it, so the
 * prefixes of one level are apart, and each level is one set. The ranges of one prefix are merged. A service is a number: that
 * of the protocol times 65,536 plus the port. ICMPv6 has types in place of ports, and gets boxes of its own.
 */
import { type Protocol, protocolNumbers } from '../../contract/resources/security-groups.ts';
import type { SecurityRuleRecord } from '../records/index.ts';
import { storedIpv6 } from './addresses.ts';
import { comparePrefixes, contains, type Prefix, storedPrefix } from './prefixes.ts';
import { parsePorts, type Range } from './security-groups.ts';

const portCount = 65_536;
/** The numbers of protocols and of types of ICMPv6 (8 bits). */
const maxByte = 255;
const icmpv6 = 58;

/** Services for the addresses of a prefix, or for all addresses without one. */
export interface ServiceBox {
  readonly prefix?: string;
  readonly protocols: Range;
  readonly ports: Range;
}

/** Types of ICMPv6 for the addresses of a prefix, or for all addresses without one. */
export interface TypeBox {
  readonly prefix?: string;
  readonly types: Range;
}

/** The boxes of rules. */
export interface Boxes {
  readonly services: readonly ServiceBox[];
  readonly types: readonly TypeBox[];
}

/** Returns the union of the ranges, in order and apart. */
export function union(ranges: readonly Range[]): Range[] {
  const merged: Range[] = [];
  for (const { from, to } of [...ranges].sort((a, b) => a.from - b.from)) {
    const last = merged.at(-1);
    if (last !== undefined && from <= last.to + 1)
      merged[merged.length - 1] = { from: last.from, to: Math.max(last.to, to) };
    else merged.push({ from, to });
  }
  return merged;
}

type Rule = Pick<SecurityRuleRecord, 'protocol' | 'ports' | 'icmp_types'>;

const allPorts: Range = { from: 0, to: portCount - 1 };
const serviceRange = (protocol: number, { from, to }: Range): Range => ({
  from: protocol * portCount + from,
  to: protocol * portCount + to,
});

/** The services of a rule. Those of ICMPv6 are its types. */
function servicesOf({ protocol, ports }: Rule): Range[] {
  const number = protocolNumbers[protocol as Protocol];
  if (protocol === 'icmpv6') return [];
  if (number === undefined) return [{ from: 0, to: (maxByte + 1) * portCount - 1 }];
  const ranges = ports === undefined ? [allPorts] : ports.flatMap((text) => parsePorts(text) ?? []);
  return ranges.map((range) => serviceRange(number, range));
}

function typesOf({ protocol, icmp_types }: Rule): Range[] {
  if (protocol === 'any') return [{ from: 0, to: maxByte }];
  if (protocol !== 'icmpv6') return [];
  return icmp_types === undefined ? [{ from: 0, to: maxByte }] : icmp_types.map((type) => ({ from: type, to: type }));
}

/** Returns the boxes of protocols and ports that make up a range of services. */
function boxesOf({ from, to }: Range): Omit<ServiceBox, 'prefix'>[] {
  const [first, last] = [Math.floor(from / portCount), Math.floor(to / portCount)];
  const boxes: Omit<ServiceBox, 'prefix'>[] = [];
  let protocol = first;
  while (protocol <= last) {
    const ports = {
      from: protocol === first ? from % portCount : 0,
      to: protocol === last ? to % portCount : portCount - 1,
    };
    const isWhole = ports.from === 0 && ports.to === portCount - 1;
    // The whole protocols in the middle share one box.
    const end = !isWhole ? protocol : to % portCount === portCount - 1 ? last : Math.max(protocol, last - 1);
    boxes.push({ protocols: { from: protocol, to: end }, ports });
    protocol = end + 1;
  }
  return boxes;
}

/** The services and types of one prefix. */
interface Node {
  readonly text: string;
  readonly prefix: Prefix;
  readonly services: Range[];
  readonly types: Range[];
}

/** Returns the boxes of rules whose other side is given by prefixes, by level. */
export function boxesWithPrefixes(rules: readonly (Rule & { readonly prefixes: readonly string[] })[]): Boxes[] {
  const nodes = new Map<string, Node>();
  for (const rule of rules) {
    const [services, types] = [servicesOf(rule), typesOf(rule)];
    for (const text of rule.prefixes) {
      const node = nodes.get(text) ?? { text, prefix: storedPrefix(text), services: [], types: [] };
      nodes.set(text, node);
      node.services.push(...services);
      node.types.push(...types);
    }
  }
  const levels: { services: ServiceBox[]; types: TypeBox[] }[] = [];
  /** The prefixes that contain the present one, the largest first. */
  const outer: Prefix[] = [];
  for (const { text, prefix, services, types } of [...nodes.values()].sort((a, b) =>
    comparePrefixes(a.prefix, b.prefix),
  )) {
    while (outer.length > 0 && !contains(outer.at(-1) as Prefix, prefix)) outer.pop();
    const depth = outer.push(prefix) - 1;
    while (levels.length <= depth) levels.push({ services: [], types: [] });
    for (const range of union(services)) {
      for (const box of boxesOf(range)) levels[depth]?.services.push({ prefix: text, ...box });
    }
    for (const range of union(types)) levels[depth]?.types.push({ prefix: text, types: range });
  }
  return levels;
}

/** Returns the boxes of rules for one set of addresses. */
export function boxesWithoutPrefixes(rules: readonly Rule[]): Boxes {
  return {
    services: union(rules.flatMap(servicesOf)).flatMap(boxesOf),
    types: union(rules.flatMap(typesOf)).map((types) => ({ types })),
  };
}

/** A packet, for the comparison of rules with boxes. Ports of protocols without ports are any number. */
export interface RulePacket {
  readonly address: string;
  readonly protocol: number;
  /** The destination port, or the type of ICMPv6. */
  readonly port: number;
}

/** Tells how many boxes contain the packet. A packet of ICMPv6 has only types. */
export function boxesWith({ services, types }: Boxes, { address, protocol, port }: RulePacket): number {
  const isIn = ({ from, to }: Range, value: number) => from <= value && value <= to;
  const holds = (text: string | undefined) => {
    if (text === undefined) return true;
    const { address: start, length } = storedPrefix(text);
    return (storedIpv6(address) ^ start) >> BigInt(128 - length) === 0n;
  };
  if (protocol === icmpv6) return types.filter((box) => holds(box.prefix) && isIn(box.types, port)).length;
  return services.filter((box) => holds(box.prefix) && isIn(box.protocols, protocol) && isIn(box.ports, port)).length;
}
