/**
 * Anti-affinity: the scheduler keeps the VMs of one group on different hosts.
 *
 * Two VMs of a group never share a host if at least one of them has the mode `required`. So a VM with this mode stays
 * alone, whatever later VMs ask for. A VM with the mode `preferred` shares a host only when no other host has room. The
 * scheduler then takes the host with the fewest VMs of the group.
 *
 * A VM counts from its placement until its host has removed everything of it, so a VM in deletion still counts. The
 * placement record contains the group, so the placements of a host are enough to know its groups.
 */
import type { antiAffinityModes } from '../../contract/resources/vms.ts';
import type { VmRecord } from '../records/index.ts';

/** The anti-affinity group of one VM, and how strict the VM is. */
export interface AntiAffinity {
  /** `<project>/<name>`: groups with the same name in two projects are different groups. */
  readonly group: string;
  readonly mode: (typeof antiAffinityModes)[number];
}

/** The number of VMs of one group on one host. */
export interface GroupMembers {
  readonly all: number;
  /** The VMs with the mode `required`. */
  readonly required: number;
}
/** The groups on one host, by `<project>/<name>`. */
export type Groups = ReadonlyMap<string, GroupMembers>;

/** Returns the anti-affinity of a VM record; undefined if the VM has none. */
export const antiAffinityOf = ({
  project,
  anti_affinity,
}: Pick<VmRecord, 'project' | 'anti_affinity'>): AntiAffinity | undefined =>
  anti_affinity && { group: `${project}/${anti_affinity.group}`, mode: anti_affinity.mode };

/** Returns the name of the group without its project, as the owner wrote it. */
export const groupName = (antiAffinity: AntiAffinity | undefined): string =>
  antiAffinity?.group.split('/').at(-1) ?? '';

/** Tells whether a host with these groups may take a VM with this anti-affinity. */
export function satisfiesAntiAffinity(groups: Groups, { group, mode }: AntiAffinity): boolean {
  const members = groups.get(group);
  return members === undefined || (mode === 'preferred' && members.required === 0);
}

/** Returns the number of VMs of the group on the host. */
export const memberCount = (groups: Groups, { group }: AntiAffinity): number => groups.get(group)?.all ?? 0;

/** Adds one VM of the group to the host's counts, or removes one. */
export function adjustMemberCount(
  groups: Map<string, GroupMembers>,
  antiAffinity: AntiAffinity | undefined,
  by: 1 | -1,
): void {
  if (antiAffinity === undefined) return;
  const { all, required } = groups.get(antiAffinity.group) ?? { all: 0, required: 0 };
  if (all + by === 0) groups.delete(antiAffinity.group);
  else
    groups.set(antiAffinity.group, { all: all + by, required: required + (antiAffinity.mode === 'required' ? by : 0) });
}
