/**
 * When a state of Terraform follows another, and how much of its history is kept.
 *
 * Terraform gives a state its lineage when it first writes it, and raises the serial with every change. So a state of
 * another lineage belongs to another configuration, and one whose serial is not greater was made from an old version.
 */
import { keptVersions } from '../contract/terraform-states.ts';

export interface Position {
  readonly serial: number;
  readonly lineage: string;
}

/** Why `next` does not follow `latest`; undefined when it does. */
export function staleness(latest: Position, next: Position): string | undefined {
  if (latest.lineage !== next.lineage) {
    return `the lineage is ${next.lineage}, that of the latest version is ${latest.lineage}: this is the state of another configuration`;
  }
  if (next.serial <= latest.serial) {
    return `the serial is ${next.serial}, that of the latest version is ${latest.serial} already: this state was made from an older version`;
  }
  return undefined;
}

/** Bytes, as they are stored, of all versions of one state together. The latest version is kept whatever its size. */
export const keptBytes = 64 * 1024 * 1024;
/** Versions removed in one transaction, which has room for so many. */
const mostAtOnce = 40;

/**
 * Which of the versions, oldest first, have to go when one of `newcomer` bytes comes after them: some of the oldest.
 * `mostBytes` is what the project has room for.
 */
export function surplus<V extends { readonly stored: number }>(
  versions: readonly V[],
  newcomer: number,
  mostBytes = keptBytes,
): V[] {
  let bytes = versions.reduce((sum, { stored }) => sum + stored, newcomer);
  let count = versions.length + 1;
  const going: V[] = [];
  for (const version of versions) {
    if ((count <= keptVersions && bytes <= Math.min(keptBytes, mostBytes)) || going.length === mostAtOnce) break;
    going.push(version);
    bytes -= version.stored;
    count--;
  }
  return going;
}
