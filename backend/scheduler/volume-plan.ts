/**
 * The decision of the scheduler for one volume: a pure function of its records. A snapshot is like a volume whose host is
 * known from the beginning.
 *
 * The states of a volume, by its records:
 *   unplaced   no placement: no VM had it yet, and it takes no space
 *   waiting    a placement without host, with the reason
 *   placed     a placement with host and granted size
 *
 *   unplaced, waiting → placed    its VM has a host with enough space
 *   placed → placed               it grew, and its host has enough space
 *   waiting → unplaced            it was detached
 *   placed → placed elsewhere     only in a pool that other hosts reach too: its next VM is on another host, or its VM has
 *                                 moved; or its host is dead or does not reach the pool, and it is deleted or lacks the
 *                                 data of its source
 *   placed → unplaced             deleted, and the host has removed the data, or the host's record is gone
 *
 * A volume of a local pool keeps its host after its VM, because no other host has its data. A volume moves only while no
 * guest can have it: there is no report on its attachment.
 */
import type { Id } from '../contract/fields.ts';
import type { VolumePlacementRecord, VolumeRecord, VolumeReportRecord } from '../model/records/index.ts';

/** The records that a decision depends on. */
export interface VolumeFacts {
  /** Undefined if the record is gone, which counts as deleted. */
  readonly volume: Pick<VolumeRecord, 'size' | 'deleted_at'> | undefined;
  readonly placement: VolumePlacementRecord | undefined;
  readonly report: { readonly host: VolumeReportRecord['host']; readonly phase: string } | undefined;
  /** The host that the volume belongs to, if it is alive: that of its source, or of the VM that has it. */
  readonly vmHost: Id<'host'> | undefined;
  /** The data comes from a source, and can be made before a VM has the volume. */
  readonly hasSource: boolean;
  /** The host of the placement has a record in `hosts/`. */
  readonly hostExists: boolean;
  /** The host of the placement is alive and reaches the pool. */
  readonly hostActs: boolean;
  /** Other hosts reach the data of the volume. */
  readonly movable: boolean;
  /** The placement has another pool than the volume: a scheduler of an earlier version has written it. */
  readonly otherPool: boolean;
  /** A guest has the volume, or may have it. */
  readonly claimed: boolean;
  /** A host that is alive and reaches the pool; undefined if there is none. */
  readonly successor: Id<'host'> | undefined;
}

/** The action of the scheduler for one volume. */
export type VolumeDecision =
  | { readonly do: 'nothing' }
  /** Give the volume this size on the host, if the host has the space. */
  | { readonly do: 'grant'; readonly host: Id<'host'>; readonly size: number }
  /** The granted size is right: remove the reason. */
  | { readonly do: 'clear' }
  | { readonly do: 'release' };

const noAction: VolumeDecision = { do: 'nothing' };

/** Returns the action for the volume; `nothing` if its records are as they should be. */
export function decideVolume(facts: VolumeFacts): VolumeDecision {
  const { volume, placement, report, hostExists, hostActs, movable, otherPool, claimed, successor } = facts;
  const host = placement?.host;
  if (volume === undefined || volume.deleted_at !== undefined) {
    if (host === undefined) return noAction;
    if (report?.phase === 'gone' && (movable || report.host === host)) return { do: 'release' };
    if (!movable) return hostExists ? noAction : { do: 'release' };
    if (hostActs || claimed || successor === undefined) return noAction;
    return { do: 'grant', host: successor, size: placement?.size ?? 0 };
  }
  // Another host that reaches the pool makes the data of a source, if the right one cannot.
  const isMade = report !== undefined && report.phase !== 'creating';
  const orphaned = movable && facts.hasSource && !isMade && !hostActs;
  const vmHost = facts.vmHost ?? (orphaned ? successor : undefined);
  if (host === undefined) {
    if (vmHost !== undefined) return { do: 'grant', host: vmHost, size: volume.size };
    return placement === undefined ? noAction : { do: 'release' };
  }
  if (movable && vmHost !== undefined && vmHost !== host) {
    return claimed ? noAction : { do: 'grant', host: vmHost, size: volume.size };
  }
  if (placement !== undefined && placement.size < volume.size) return { do: 'grant', host, size: volume.size };
  return placement?.reason === undefined && !otherPool ? noAction : { do: 'clear' };
}
