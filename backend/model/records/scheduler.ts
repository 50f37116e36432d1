/** Records that only the scheduler writes: the host of each VM. Leaders of all components have the same form. */
import { type Static, Type } from '@sinclair/typebox';
import { antiAffinity, id, kind, resources, time } from './form.ts';

/** `schedules/<vm>`: where it runs, or why nowhere. */
export const schedules = kind('schedules/', {
  host: Type.Optional(id('host')),
  /** Counts the placements of the VM; a host acts only for the newest. */
  fence: Type.Integer(),
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  /** Why nowhere: how many hosts each filter of placement refuses. */
  refusals: Type.Optional(
    Type.Array(Type.Object({ filter: Type.String(), hosts: Type.Integer(), message: Type.String() })),
  ),
  at: time,
});
export type ScheduleRecord = Static<typeof schedules.schema>;

/**
 * `placements/<host>/<vm>`: the same by host, with what the VM may take there. A host starts a VM with no more than
 * this, whatever its declaration has become meanwhile. And the group that it keeps from this host.
 */
export const placements = kind('placements/', {
  fence: Type.Integer(),
  ...resources,
  anti_affinity: antiAffinity,
  at: time,
});
export type PlacementRecord = Static<typeof placements.schema>;

/** `leader/scheduler`, `leader/image-scanner`: under the lease of the one that works on it. */
export const leaders = kind('leader/', { id: Type.String() });
