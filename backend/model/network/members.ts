/**
 * The members of networks: the interfaces of placed VMs, with their hosts. Hosts program their forwarding tables from these
 * records, so nothing is learned or flooded. Pure.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Id } from '../../contract/fields.ts';
import { idFrom } from '../ids.ts';
import type { NetworkMemberRecord, VmRecord } from '../records/index.ts';
import { interfaceAddresses } from './interface-addresses.ts';

/** Returns the id of a member: `<network>/<MAC>`. */
export const memberId = (network: Id<'network'>, mac: string): string => `${network}/${mac}`;

/** Returns the network and the MAC address in the id of a member. */
export function parseMemberId(id: string): { readonly network: Id<'network'>; readonly mac: string } {
  const [network = '', mac = ''] = id.split('/');
  return { network: idFrom('network', network), mac };
}

/** A member with its id. */
export interface Member {
  readonly id: string;
  readonly value: NetworkMemberRecord;
}

/** Returns the security groups of an interface; undefined if its project has none. */
export type GroupsOfInterface = (
  vm: Pick<VmRecord, 'project' | 'labels'>,
  each: VmRecord['interfaces'][number],
) => Id<'security_group'>[] | undefined;

/** Returns the members that a VM has while it is placed on the host with this fence. */
export const membersOf = (
  vm: Pick<VmRecord, 'id' | 'project' | 'labels' | 'interfaces'>,
  host: Id<'host'>,
  fence: number,
  groupsOf: GroupsOfInterface,
): Member[] =>
  vm.interfaces.map((each) => {
    const { id, project, labels } = vm;
    const [address = each.address, ...more] = interfaceAddresses(each);
    const groups = groupsOf(vm, each);
    const optional = {
      ...(more.length > 0 && { more_addresses: more }),
      // Only groups need the labels. Otherwise, each change of labels would concern all hosts of the project.
      ...(groups && Object.keys(labels).length > 0 && { labels }),
      ...(groups && groups.length > 0 && { security_groups: groups }),
    };
    return { id: memberId(each.network, each.mac), value: { vm: id, host, fence, address, project, ...optional } };
  });

/** Returns all addresses of a member. */
export const memberAddresses = ({ address, more_addresses = [] }: NetworkMemberRecord): string[] => [
  address,
  ...more_addresses,
];

/** The difference between the members that a VM has and those that it should have. */
export interface MemberChanges {
  readonly put: readonly Member[];
  readonly remove: readonly string[];
}

const isEqual = (a: NetworkMemberRecord, b: NetworkMemberRecord): boolean => isDeepStrictEqual(a, b);

/** Returns the missing changes; undefined if there are none. */
export function memberChanges(wanted: readonly Member[], present: readonly Member[]): MemberChanges | undefined {
  const before = new Map(present.map(({ id, value }) => [id, value]));
  const ids = new Set(wanted.map(({ id }) => id));
  const put = wanted.filter(({ id, value }) => {
    const known = before.get(id);
    return known === undefined || !isEqual(known, value);
  });
  const remove = present.flatMap(({ id }) => (ids.has(id) ? [] : [id]));
  return put.length === 0 && remove.length === 0 ? undefined : { put, remove };
}
