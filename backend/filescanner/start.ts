/**
 * The file scanner of one file server. It records the files in the directories of projects, `<root>/<project id>/`, and
 * carries out deletions.
 *
 * The periodic scan is the truth: it lists a directory and compares names, sizes, times and inodes with the records. A
 * watch of the directory only makes a scan come sooner. Invariants:
 * - A record shows a content that lay in the file while inode, size and times were those of the record.
 * - Records are removed only after a complete listing of a directory that is certainly the right one. A root without the
 *   id of the server, a missing directory, and an empty directory with another inode are taken for unmounted.
 * - Each commit requires that this scanner leads for its server.
 *
 * Level-triggered: a crash at any point loses no more than the scan in progress.
 */
import { mkdir } from 'node:fs/promises';
import type { Component, Logger } from '../model/component.ts';
import {
  fileDeletions,
  fileDirectories,
  fileScannerTask,
  fileServers,
  leaders,
  projects,
  quotaGuards,
  uploads,
} from '../model/records/index.ts';
import { lead } from '../store/leadership.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { serverIdOf } from './server-id.ts';
import { ScanTerm } from './term.ts';

/** The limits of a file scanner. */
export interface FileScannerLimits {
  /** The time for which a file must be unchanged until it counts as complete, in milliseconds. Default: 10,000. */
  readonly quietMs: number;
  /** The time between two scans of a directory without a notification, in milliseconds. Default: 30,000. */
  readonly intervalMs: number;
  /** The shortest pause between two scans of a directory, in milliseconds. Default: 1000. */
  readonly pauseMs: number;
  /** The maximum size of an offered file, in bytes. Default: 1 TiB. */
  readonly maxFileBytes: number;
}

const defaultLimits: FileScannerLimits = {
  quietMs: 10_000,
  intervalMs: 30_000,
  pauseMs: 1000,
  maxFileBytes: 2 ** 40,
};

/** Options of `startFileScanner`. */
export interface FileScannerOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** The directory with one directory of files for each project. It is created on the first start. */
  readonly root: string;
  /** The name of the file server. */
  readonly name: string;
  readonly limits?: Partial<FileScannerLimits>;
  /** The time to live of the scanner's lease, in seconds. Default: 5. */
  readonly leaseTtl?: number;
}

/**
 * Starts the file scanner. Resolves when its mirror has read the database; another process may still lead.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function startFileScanner(options: FileScannerOptions): Promise<Component & { readonly server: string }> {
  const { store, logger, root, name, leaseTtl = 5 } = options;
  const mirror = await openMirror(store, {
    prefixes: [
      projects.prefix,
      quotaGuards.prefix,
      fileServers.prefix,
      fileDirectories.prefix,
      fileDeletions.prefix,
      uploads.prefix,
      `${leaders.prefix}file-scanner-`,
    ],
    kinds: [projects, quotaGuards, fileServers, fileDirectories, fileDeletions, uploads, leaders],
    logger,
  });
  const closing = new AbortController();
  try {
    const known = [...mirror.list(fileServers)].map(({ value }) => value);
    if (!known.some((each) => each.name === name)) await mkdir(root, { recursive: true });
    const server = await serverIdOf(root, name, known);
    const limits = { ...defaultLimits, ...options.limits };
    const serving = lead(store, mirror, {
      kind: leaders,
      task: fileScannerTask(server),
      leaseSeconds: leaseTtl,
      signal: closing.signal,
      logger,
      work: (leadership, termEnd) =>
        new ScanTerm({ store, mirror, logger, root, name, server, limits, holds: leadership.holds, termEnd }).run(),
    });
    return {
      server,
      close: async () => {
        closing.abort();
        await serving;
        await mirror.close();
      },
    };
  } catch (error) {
    await mirror.close();
    throw error;
  }
}
