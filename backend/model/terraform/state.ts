/**
 * The rules for the order of Terraform states, and for the size of their history.
 *
 * Terraform assigns the lineage when it first writes a state, and raises the serial with every change. So a state with
 * another lineage belongs to another configuration. A state whose serial is not greater was made from an old version.
 */
import { keptVersions } from '../../contract/resources/terraform-states.ts';

/** The place of a state in the history of its configuration. */
export interface StatePosition {
  readonly serial: number;
  readonly lineage: string;
}

/** Returns why `next` may not follow `latest`; undefined if it may. */
export function staleReason(latest: StatePosition, next: StatePosition): string | undefined {
  if (latest.lineage !== next.lineage) {
    return `the lineage is ${next.lineage}, that of the latest version is ${latest.lineage}: this is the state of another configuration`;
  }
  if (next.serial <= latest.serial) {
    return `the serial is ${next.serial}, that of the latest version is ${latest.serial} already: this state was made from an older version`;
  }
  return undefined;
}

/** The maximum stored size, in bytes, of all versions of one state. The latest version stays, whatever its size. */
export const maxHistoryBytes = 64 * 1024 * 1024;
/** The maximum number of versions that one transaction removes: its operations are limited. */
const maxRemovedVersions = 40;

/**
 * Returns the oldest versions that must be removed before a new version is stored.
 * @param versions the versions, oldest first
 * @param newVersionBytes the stored size of the new version, in bytes
 * @param maxBytes the stored size that the project has room for
 */
export function versionsToRemove<V extends { readonly stored: number }>(
  versions: readonly V[],
  newVersionBytes: number,
  maxBytes = maxHistoryBytes,
): V[] {
  let bytes = versions.reduce((sum, { stored }) => sum + stored, newVersionBytes);
  let count = versions.length + 1;
  const removed: V[] = [];
  for (const version of versions) {
    const fits = count <= keptVersions && bytes <= Math.min(maxHistoryBytes, maxBytes);
    if (fits || removed.length === maxRemovedVersions) break;
    removed.push(version);
    bytes -= version.stored;
    count--;
  }
  return removed;
}
