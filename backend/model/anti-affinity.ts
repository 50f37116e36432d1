/**
 * VMs of one group are kept on different hosts. One rule decides it: two of a group never share a host if either of them
 * requires it. So who requires it can rely on it, whatever those that come later ask for. Those that only prefer it
 * share a host when no other has room, and then one with as few of the group as there is.
 *
 * A VM counts from the moment it is given to a host until nothing of it is left there, so one that is being deleted
 * still counts. The group is part of its placement: who knows the placements of a host knows its groups.
 */
import type { antiAffinityModes } from '../contract/vms.ts';
import type { VmRecord } from './records.ts';

export interface AntiAffinity {
  /** `<project>/<name>`: the groups of different projects have nothing to do with each other. */
  readonly group: string;
  readonly mode: (typeof antiAffinityModes)[number];
}

/** How many VMs of a group a host has. */
export interface Members {
  readonly all: number;
  /** Those that require to be the only one. */
  readonly required: number;
}
export type Groups = ReadonlyMap<string, Members>;

export const antiAffinityOf = ({
  project,
  anti_affinity,
}: Pick<VmRecord, 'project' | 'anti_affinity'>): AntiAffinity | undefined =>
  anti_affinity && { group: `${project}/${anti_affinity.group}`, mode: anti_affinity.mode };

/** What its owner calls the group. */
export const groupName = (wish: AntiAffinity | undefined): string => wish?.group.split('/').at(-1) ?? '';

/** Whether a VM with that wish may be on a host with these groups. */
export function apart(groups: Groups, { group, mode }: AntiAffinity): boolean {
  const members = groups.get(group);
  return members === undefined || (mode === 'preferred' && members.required === 0);
}

export const membersOf = (groups: Groups, { group }: AntiAffinity): number => groups.get(group)?.all ?? 0;

/** Counts one VM of the group more or less. */
export function count(groups: Map<string, Members>, wish: AntiAffinity | undefined, by: 1 | -1): void {
  if (wish === undefined) return;
  const { all, required } = groups.get(wish.group) ?? { all: 0, required: 0 };
  if (all + by === 0) groups.delete(wish.group);
  else groups.set(wish.group, { all: all + by, required: required + (wish.mode === 'required' ? by : 0) });
}
