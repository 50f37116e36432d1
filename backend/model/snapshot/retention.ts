/** Which snapshots of a schedule stay. Pure. */

/** A snapshot that a schedule has made. */
export interface ScheduledSnapshot {
  readonly id: string;
  readonly phase: 'pending' | 'creating' | 'available' | 'error' | 'deleting';
  /** RFC 3339, UTC. */
  readonly created_at: string;
  /** True while it must not be deleted. It then does not count. */
  readonly delete_protection: boolean;
}

/** True if the schedule must wait, because an earlier snapshot is not complete. So incomplete snapshots do not pile up. */
export const isUnfinished = ({ phase }: ScheduledSnapshot): boolean => phase === 'pending' || phase === 'creating';

/**
 * Returns the ids of the snapshots to delete. The newest `retain` complete ones stay. A failed one stays only as long as it
 * is the newest of all, so that its reason can be seen, and it never displaces a complete one.
 */
export function expiredSnapshots(snapshots: readonly ScheduledSnapshot[], retain: number): string[] {
  const candidates = snapshots
    .filter(({ phase, delete_protection }) => !delete_protection && (phase === 'available' || phase === 'error'))
    .toSorted((a, b) =>
      a.created_at === b.created_at ? (a.id < b.id ? 1 : -1) : a.created_at < b.created_at ? 1 : -1,
    );
  let kept = 0;
  return candidates.flatMap(({ id, phase }, index) => {
    if (phase === 'error') return index === 0 ? [] : [id];
    kept++;
    return kept > retain ? [id] : [];
  });
}
