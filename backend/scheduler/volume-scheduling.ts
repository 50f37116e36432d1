/** The parts of commits that give volumes and snapshots their hosts and their space. They reserve the space in the pool of hosts. */
import type { Id } from '../contract/fields.ts';
import type { PoolRequest } from '../model/placement/filters.ts';
import type { HostPool } from '../model/placement/host-pool.ts';
import { enterVolumePlacement, removeVolumePlacement } from '../model/placement/pool-records.ts';
import { storagePools, type VolumePlacementRecord, volumeAttachments, volumeHolders } from '../model/records/index.ts';
import { builtInPool } from '../model/storage/pool.ts';
import { describeSize } from '../model/text/sizes.ts';
import type { Mirror } from '../store/mirror.ts';
import { type AttachmentsByVm, isClaimed, recordsOf, volumeFacts, volumesOf } from './volume-facts.ts';
import { decideVolume } from './volume-plan.ts';
import {
  clearVolumeReason,
  grantVolume,
  kindsOf,
  type PlacedId,
  refuseVolume,
  releaseVolume,
  type VolumeRecords,
} from './volume-writes.ts';
import type { CommitPart } from './writes.ts';

/** The needs of the volumes of a VM that has no host yet. */
export interface VolumesOfVm {
  /** Bytes on the disk of the host. */
  readonly disk: number;
  /** The hosts that the volumes are bound to. */
  readonly hosts: readonly Id<'host'>[];
  readonly pools: readonly PoolRequest[];
  /** The volumes that the host of the VM must get. */
  readonly moving: readonly VolumeRecords[];
}

/** Decides about volumes and snapshots. */
export class VolumeScheduling {
  readonly #mirror: Mirror;
  readonly #attachments: AttachmentsByVm;
  readonly #pool: HostPool;

  constructor(mirror: Mirror, attachments: AttachmentsByVm, pool: HostPool) {
    this.#mirror = mirror;
    this.#attachments = attachments;
    this.#pool = pool;
  }

  /** Returns the part of a commit for the volume or snapshot, and whether it waits for space or for its pool. */
  decide(id: PlacedId, now: Date): { readonly part: CommitPart | undefined; readonly waits: boolean } {
    const records = recordsOf(this.#mirror, id);
    const facts = volumeFacts(this.#mirror, this.#pool.storage, records);
    const decision = decideVolume(facts);
    switch (decision.do) {
      case 'nothing':
        return { part: undefined, waits: false };
      case 'clear':
        return { part: records.placement && clearVolumeReason(records, records.placement.value, now), waits: false };
      case 'release':
        return { part: releaseVolume(records, facts.hostExists), waits: false };
      case 'grant': {
        const { host, size } = decision;
        const refusal = this.#refusal(records, host, size);
        const before = records.placement?.value;
        if (
          refusal &&
          before?.host !== undefined &&
          before.host !== host &&
          !this.#refusal(records, host, before.size)
        ) {
          // The volume can move, although there is no space for its growth.
          this.#reserve(records, host, before.size);
          return { part: grantVolume(records, host, before.size, now), waits: false };
        }
        if (refusal) return { part: refuseVolume(records, refusal, now), waits: true };
        this.#reserve(records, host, size);
        return { part: grantVolume(records, host, size, now), waits: false };
      }
    }
  }

  #refusal({ id, pool }: VolumeRecords, host: Id<'host'>, size: number) {
    const { storage } = this.#pool;
    if (pool === builtInPool) {
      const lacking = size - (this.#pool.placement(host, id)?.disk ?? 0);
      if (lacking <= (this.#pool.get(host)?.free.disk ?? 0)) return undefined;
      return { reason: 'no_space', message: `The host has not enough disk left for ${describeSize(lacking)} more.` };
    }
    const free = storage.free(pool, host);
    if (free === undefined) {
      return { reason: 'pool_unreachable', message: 'The host does not reach the storage pool of the volume.' };
    }
    const lacking = size - storage.granted(id);
    if (lacking <= 0 || lacking <= free) return undefined;
    const message = `The storage pool has not enough space left for ${describeSize(lacking)} more.`;
    return { reason: 'no_space', message };
  }

  #reserve(records: VolumeRecords, host: Id<'host'>, size: number): void {
    // Space elsewhere stays taken until the mirror shows the commit.
    const { id, pool } = records;
    enterVolumePlacement(this.#pool, id, { host, size, at: '', ...(pool !== builtInPool && { pool }) });
  }

  /** Returns the VM that the volume is attached to. */
  vmOf(volume: string): Id<'vm'> | undefined {
    const holder = this.#mirror.get(volumeHolders, volume)?.value.id ?? '';
    return this.#mirror.get(volumeAttachments, holder)?.value.vm;
  }

  /** Returns the needs of the volumes of a VM that has no host. */
  needsOf(vm: Id<'vm'>): VolumesOfVm {
    const held = volumesOf(this.#mirror, this.#attachments, vm).filter(
      ({ volume }) => volume !== undefined && volume.value.deleted_at === undefined,
    );
    const bound = held.filter(
      (each) => each.placement?.value.host !== undefined && (!each.movable || isClaimed(this.#mirror, each)),
    );
    const moving = held.filter((each) => !bound.includes(each));
    const bytes = new Map<Id<'storage_pool'>, number>();
    for (const each of held) {
      const lacking = each.size - (each.placement?.value.host === undefined ? 0 : each.placement.value.size);
      const needed = bound.includes(each) ? 0 : Math.max(0, lacking);
      bytes.set(each.pool, (bytes.get(each.pool) ?? 0) + needed);
    }
    const others = [...bytes].filter(([pool]) => pool !== builtInPool);
    return {
      disk: bytes.get(builtInPool) ?? 0,
      // A volume without host goes to the data that it gets, unless other hosts reach the data.
      hosts: [
        ...new Set(
          held.flatMap((each) => {
            const source = each.movable ? undefined : each.source;
            return (bound.includes(each) ? each.placement?.value.host : source) ?? [];
          }),
        ),
      ],
      pools: others.map(([pool, each]) => ({
        pool,
        name: this.#mirror.get(storagePools, pool)?.value.name ?? pool,
        bytes: each,
      })),
      moving,
    };
  }

  /** Returns the parts that give the host the volumes of a VM that is placed on it. */
  grantAll(moving: readonly VolumeRecords[], host: Id<'host'>, now: Date): CommitPart[] {
    return moving.flatMap((records) => {
      if (records.volume === undefined) return [];
      const { size } = records;
      const before = records.placement?.value;
      if (before?.host === host && before.size >= size && before.reason === undefined) return [];
      this.#reserve(records, host, size);
      return [grantVolume(records, host, size, now)];
    });
  }

  /** Updates the pool with the placement of a volume or snapshot in the mirror. Returns the host that has more space than before. */
  apply(
    id: PlacedId,
    before: VolumePlacementRecord | undefined,
    after: VolumePlacementRecord | undefined,
  ): Id<'host'> | undefined {
    if (before) removeVolumePlacement(this.#pool, id, before);
    enterVolumePlacement(this.#pool, id, after);
    return before !== undefined && before.size > (after?.size ?? 0) ? before.host : undefined;
  }

  /** Sets the volume or snapshot in the pool to its placement in the mirror, after a commit for this host has failed. */
  reset(id: PlacedId, host: Id<'host'>): void {
    removeVolumePlacement(this.#pool, id, { host, size: 0, at: '' });
    enterVolumePlacement(this.#pool, id, this.#mirror.get(kindsOf(id).placements, id)?.value);
  }
}
