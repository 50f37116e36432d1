/** The rules of security groups, and the groups of interfaces. Pure. */
import type { Id } from '../../contract/fields.ts';
import { directions, protocolsWithPorts, type SecurityRule } from '../../contract/resources/security-groups.ts';
import type { NetworkRecord, SecurityGroupRecord } from '../records/index.ts';
import { matches, parseSelector, type Selector } from '../text/selectors.ts';
import { comparePrefixes, contains, type Prefix, parsePrefix } from './prefixes.ts';

/** The maximum number of combinations of a prefix with ports or types in one group. */
export const maxCombinations = 4_096;
/** The maximum number of other groups and selectors that the rules of one group name. Each costs every packet a search. */
export const maxPeers = 32;
/** The maximum number of prefixes in a row of which each contains the next. Each costs every packet a search. */
export const maxNesting = 8;
/** The maximum number of groups of an interface. Of more, those with the first ids apply. */
export const maxGroupsOfInterface = 16;

/** The ways to name the other side of a rule. */
export const peerFields = ['prefixes', 'security_group', 'self', 'vm_selector'] as const;

/** A range of ports, or of types of ICMPv6, with both ends. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** Returns the range of ports; undefined if the text is none. */
export function parsePorts(text: string): Range | undefined {
  const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const range = { from: Number(first), to: Number(last) };
  return range.from >= 1 && range.to <= 65_535 && range.from <= range.to ? range : undefined;
}

/** A problem of a declaration. The pointer begins at the list of rules. */
export interface RuleProblem {
  readonly pointer: string;
  readonly rule: string;
}

type Declared = Pick<SecurityRule, 'protocol' | 'ports' | 'icmp_types' | 'direction'> &
  Pick<SecurityRule, (typeof peerFields)[number]>;

/**
 * Returns the problem of a selector for VMs; undefined if it has none. A selector whose requirements all hold without any
 * label would select almost every VM, also later ones.
 */
export function selectorProblem(text: string): string | undefined {
  const selector = parseSelector(text);
  if (typeof selector === 'string') return `must be a label selector: ${selector}`;
  if (!matches(selector, {})) return undefined;
  return 'must require a label that exists or has a certain value, such as tier=web: it matches every VM without labels';
}

const isNamed = (value: unknown): boolean => value !== undefined && value !== false;

/** Returns the number of combinations of the rule. */
const combinationsOf = ({ prefixes = [], ports, icmp_types }: Declared): number =>
  Math.max(1, prefixes.length) * (ports ?? icmp_types ?? [0]).length;

function problemsOfRule(rule: Declared, at: string, defaultEgress: string): RuleProblem[] {
  const { direction, protocol, ports, icmp_types } = rule;
  const problems: RuleProblem[] = [];
  const named = peerFields.filter((field) => isNamed(rule[field]));
  if (named.length !== 1) {
    const detail =
      named.length === 0
        ? 'must name the other side by one of prefixes, security_group, self and vm_selector; ["::/0"] as prefixes stands for all addresses'
        : `must name the other side in one way, not by ${named.join(' and ')}`;
    problems.push({ pointer: at, rule: detail });
  }
  if (ports !== undefined && !protocolsWithPorts.includes(protocol)) {
    problems.push({
      pointer: `${at}/ports`,
      rule: `must be omitted with the protocol ${protocol}, which has no ports`,
    });
  }
  for (const [index, text] of (ports ?? []).entries()) {
    if (parsePorts(text) === undefined) {
      problems.push({
        pointer: `${at}/ports/${index}`,
        rule: 'must be a port from 1 to 65535, or a range such as 8000-8010 whose first port is not above its last',
      });
    }
  }
  if (icmp_types !== undefined && protocol !== 'icmpv6') {
    problems.push({ pointer: `${at}/icmp_types`, rule: `must be omitted with the protocol ${protocol}` });
  }
  const selector = rule.vm_selector === undefined ? undefined : selectorProblem(rule.vm_selector);
  if (selector !== undefined) problems.push({ pointer: `${at}/vm_selector`, rule: selector });
  if (direction === 'egress' && defaultEgress === 'allow') {
    const detail = 'must not be egress while default_egress is allow, because all connections from the VM are allowed';
    problems.push({ pointer: `${at}/direction`, rule: detail });
  }
  return problems;
}

/** Returns the problems of the rules; none if all are right. */
export function ruleProblems(rules: readonly Declared[], defaultEgress: string): RuleProblem[] {
  const problems = rules.flatMap((rule, index) => problemsOfRule(rule, `/rules/${index}`, defaultEgress));
  const combinations = rules.reduce((total, rule) => total + combinationsOf(rule), 0);
  if (combinations > maxCombinations) {
    const detail = `must have at most ${maxCombinations} combinations of prefixes with ports or types, not ${combinations}`;
    problems.push({ pointer: '/rules', rule: detail });
  }
  const peers = new Set(rules.flatMap(({ security_group, vm_selector }) => security_group ?? vm_selector ?? []));
  if (peers.size > maxPeers) {
    const detail = `must name at most ${maxPeers} other groups and selectors, not ${peers.size}`;
    problems.push({ pointer: '/rules', rule: detail });
  }
  for (const direction of directions) {
    const prefixes = rules.flatMap((rule) => (rule.direction === direction ? (rule.prefixes ?? []) : []));
    const nesting = nestingOf(prefixes.flatMap((text) => parsed(text)));
    if (nesting <= maxNesting) continue;
    const detail = `must have at most ${maxNesting} prefixes of which each contains the next, not ${nesting}`;
    problems.push({ pointer: '/rules', rule: detail });
    break;
  }
  return problems;
}

const parsed = (text: string): Prefix[] => {
  const prefix = parsePrefix(text);
  return prefix.ok ? [prefix.value] : [];
};

/** Returns the maximum number of different prefixes of which each contains the next. */
export function nestingOf(prefixes: readonly Prefix[]): number {
  let most = 0;
  const outer: Prefix[] = [];
  for (const prefix of [...prefixes].sort(comparePrefixes)) {
    while (outer.length > 0 && !contains(outer.at(-1) as Prefix, prefix)) outer.pop();
    const last = outer.at(-1);
    if (last?.address !== prefix.address || last.length !== prefix.length) outer.push(prefix);
    most = Math.max(most, outer.length);
  }
  return most;
}

/** The parsed selectors of groups, because many VMs are compared with one group. */
const selectors = new WeakMap<object, Selector>();

/** Returns the selector of the group. A text of a later version that is no selector matches nothing. */
function selectorOf(group: Group): Selector | undefined {
  if (group.vm_selector === undefined) return undefined;
  const known = selectors.get(group);
  if (known !== undefined) return known;
  const parsed = parseSelector(group.vm_selector);
  if (typeof parsed === 'string') return undefined;
  selectors.set(group, parsed);
  return parsed;
}

type Group = Pick<SecurityGroupRecord, 'id' | 'vm_selector'>;

/**
 * Returns the groups of an interface, in the order of their ids: those that it names, and those that select its VM. Without
 * any, it has those of its network.
 * @param groups the groups of the project of the VM
 */
export function groupsOf(
  { labels, own = [] }: { readonly labels: Readonly<Record<string, string>>; readonly own?: readonly string[] },
  network: Pick<NetworkRecord, 'default_security_groups'> | undefined,
  groups: readonly Group[],
): Id<'security_group'>[] {
  const named = groups.filter((group) => {
    const selector = selectorOf(group);
    return own.includes(group.id) || (selector !== undefined && matches(selector, labels));
  });
  const defaults = network?.default_security_groups ?? [];
  const found = named.length > 0 ? named : groups.filter(({ id }) => defaults.includes(id));
  return found
    .map(({ id }) => id)
    .sort()
    .slice(0, maxGroupsOfInterface);
}
