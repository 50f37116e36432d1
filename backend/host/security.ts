/** Derives the filters of the interfaces on a host from the database. */
import { createHash } from 'node:crypto';
import type { Id } from '../contract/fields.ts';
import { formatIpv6, linkLocalAddress } from '../model/network/addresses.ts';
import { memberAddresses, memberId, parseMemberId } from '../model/network/members.ts';
import {
  type NetworkMemberRecord,
  networkMembers,
  type SecurityGroupRecord,
  type SecurityRuleRecord,
  securityGroups,
  vms,
} from '../model/records/index.ts';
import { matches, parseSelector } from '../model/text/selectors.ts';
import type { SecurityGroupSpec, SecurityRuleSpec, SecuritySpec } from './hypervisor/specs.ts';
import type { HostView } from './view.ts';

type Member = { readonly id: string; readonly value: NetworkMemberRecord };

/** The addresses that belong to an interface. Rules about others do not know the prefixes behind it. */
const addressesOf = ({ id, value }: Member): string[] => [
  ...memberAddresses(value),
  formatIpv6(linkLocalAddress(parseMemberId(id).mac)),
];

/** The sets of addresses that rules name. Groups with one selector share a set. */
class Peers {
  readonly #view: HostView;
  readonly #sets = new Map<string, readonly string[]>();

  constructor(view: HostView) {
    this.#view = view;
  }

  /** Returns the name of the set for a group, or for a selector of VMs of the project. */
  nameOf(
    project: Id<'project'>,
    peer: { readonly group: Id<'security_group'> } | { readonly selector: string },
  ): string {
    const isGroup = 'group' in peer;
    const digest = isGroup ? '' : createHash('sha256').update(`${project} ${peer.selector}`).digest('hex').slice(0, 24);
    const name = isGroup ? `group_${peer.group.replace('-', '_')}` : `vms_${digest}`;
    if (!this.#sets.has(name)) {
      const members = isGroup ? this.#view.membersWith(peer.group) : this.#selected(project, peer.selector);
      // A group belongs to one project, as its members do.
      const own = members.filter(({ value }) => value.project === project);
      this.#sets.set(name, [...new Set(own.flatMap(addressesOf))].sort());
    }
    return name;
  }

  #selected(project: Id<'project'>, text: string): Member[] {
    const selector = parseSelector(text);
    if (typeof selector === 'string') return [];
    return this.#view.membersOfProject(project).filter(({ value }) => matches(selector, value.labels ?? {}));
  }

  get all(): SecuritySpec['peers'] {
    return [...this.#sets].map(([name, addresses]) => ({ name, addresses }));
  }
}

function ruleSpec(
  { id, project }: SecurityGroupRecord,
  { direction, protocol, ports, icmp_types, prefixes, security_group, self, vm_selector }: SecurityRuleRecord,
  peers: Peers,
): SecurityRuleSpec {
  const rule = { direction, protocol, ...(ports && { ports }), ...(icmp_types && { icmp_types }) };
  const group = self ? id : security_group;
  if (group !== undefined) return { ...rule, peers: peers.nameOf(project, { group }) };
  if (vm_selector !== undefined) return { ...rule, peers: peers.nameOf(project, { selector: vm_selector }) };
  // A rule of a later version may name the other side in another way. It then allows nothing.
  return { ...rule, prefixes: prefixes ?? [] };
}

/**
 * Returns the filters of the interfaces of all VMs that are placed on the host. Until the records of a VM are known, its
 * interfaces keep their filters.
 * @param before the filters of the last call
 */
export function securityOf(view: HostView, host: Id<'host'>, before: SecuritySpec): SecuritySpec {
  const { mirror } = view;
  const groupsBefore = new Map(before.interfaces.map(({ mac, groups }) => [mac, groups]));
  const interfaces: { mac: string; groups: readonly Id<'security_group'>[] }[] = [];
  const used = new Set<Id<'security_group'>>();
  for (const id of view.placedOn(host)) {
    const isKnown = view.isKnown(id);
    const vm = mirror.get(vms, id)?.value;
    for (const { network, mac } of vm?.interfaces ?? []) {
      const member = mirror.get(networkMembers, memberId(network, mac))?.value;
      // The members of a placed VM are there with its placement. A new interface of it gets its member later.
      const isMissing = member === undefined && vm?.interfaces_generation !== undefined;
      const now = isMissing ? undefined : (member?.security_groups ?? []);
      const groups = isKnown && now !== undefined ? now : groupsBefore.get(mac);
      if (groups === undefined) continue;
      interfaces.push({ mac, groups });
      for (const group of groups) used.add(group);
    }
  }
  const peers = new Peers(view);
  const kept = new Set<string>();
  const groups = [...used].sort().map((id): SecurityGroupSpec => {
    const group = mirror.get(securityGroups, id)?.value;
    if (group === undefined) {
      const last = before.groups.find((each) => each.id === id);
      for (const { peers: name } of last?.rules ?? []) if (name !== undefined) kept.add(name);
      // A group that was never known allows nothing.
      return last ?? { id, default_egress: 'deny', rules: [] };
    }
    const rules = group.rules.map((rule) => ruleSpec(group, rule, peers));
    return { id, default_egress: group.default_egress, rules };
  });
  const named = new Set(peers.all.map(({ name }) => name));
  const older = before.peers.filter(({ name }) => kept.has(name) && !named.has(name));
  return { groups, peers: [...peers.all, ...older], interfaces };
}
