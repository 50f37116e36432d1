/**
 * Copies disks of a QEMU process as they are at one instant (`blockdev-backup`, all disks in one `transaction`). The guest
 * goes on writing meanwhile: QEMU first copies a block that the guest is about to overwrite. The target is a raw file.
 *
 * All jobs, nodes and descriptor sets of copies have names that begin with the id of a snapshot or image. So `endCopies` finds those
 * of an agent that has ended.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Qmp } from './qmp.ts';
import { objectsOf, QmpError, type QmpObject, readable } from './qmp-messages.ts';

/** A guest starts with a disk that is being copied. The copy begins again, and this is no failure. */
export class CopyInterrupted extends Error {
  override readonly name = 'CopyInterrupted';
}

/** A disk to copy. */
export interface DiskCopy {
  /** The name of the block node with the content. */
  readonly node: string;
  /** Opens the target as a node with this name. */
  open(mark: string): Promise<void>;
}

/** Options of `copyDisks`. */
export interface CopyOptions {
  /** The id of the snapshot, or of the image. */
  readonly id: string;
  /** The limit of each disk in bytes per second; 0 for none. */
  readonly speed: number;
  readonly signal: AbortSignal;
  /** `top` copies only the parts that a disk has itself, onto a target of zeros. Default: `full`. */
  readonly sync?: 'full' | 'top';
  /** Runs the step that determines the instant, after all preparations. Default: only runs it. */
  readonly atInstant?: (begin: () => Promise<Date>) => Promise<Date>;
}

const pollMs = 200;
/** The time in milliseconds without progress after which a copy fails. */
export const stallMs = 120_000;
/** The maximum number of jobs, nodes or sets of copies. A process with more of them is broken. */
const maxParts = 200;

/** Tells whether the name belongs to a copy, of one snapshot or of any. */
const belongs = (name: unknown, snapshot?: string): name is string =>
  typeof name === 'string' &&
  /^(snap|img)-[0-9a-z]{16}-\d{1,2}$/.test(name) &&
  (snapshot === undefined || name.startsWith(`${snapshot}-`));

/**
 * Opens a descriptor set (`/dev/fdset/<number>`) as the target of a copy. The caller syncs the file after the copy.
 *
 * The last writes are in the cache of the kernel at the end of a copy, and may still fail. Linux tells this once. QEMU would
 * flush the file when it closes the node, and ignore the result. So it never flushes, and the sync of the caller fails.
 */
export async function addFile(qmp: Qmp, mark: string, filename: string): Promise<void> {
  // Zeros that the guest has written take no space.
  const file = { driver: 'file', 'node-name': mark, filename, locking: 'on', discard: 'unmap' };
  await qmp.execute('blockdev-add', { ...file, 'detect-zeroes': 'unmap', cache: { 'no-flush': true } });
}

/** Returns the texts of a field that belong to copies. */
function names(answer: unknown, field: string, snapshot?: string): string[] {
  const found = objectsOf(answer).flatMap((each) => (belongs(each[field], snapshot) ? [each[field]] : []));
  if (found.length > maxParts) throw new QmpError('QEMU names too many copies');
  return found;
}

const jobsOf = async (qmp: Qmp, snapshot?: string): Promise<QmpObject[]> =>
  objectsOf(await qmp.execute('query-jobs')).filter(({ id }) => belongs(id, snapshot));

/**
 * Ends the copies of one snapshot, or of all, and removes everything of them from the process.
 * @throws QmpError if QEMU does not end them in time
 */
export async function endCopies(qmp: Qmp, snapshot?: string): Promise<void> {
  // A hostile QEMU could answer each of many commands just in time, so all of them share the deadline of one answer.
  const deadline = performance.now() + qmp.answerMs;
  const execute = (command: string, args: object = {}): Promise<unknown> => {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) throw new QmpError('QEMU does not end a copy');
    return qmp.execute(command, args, leftMs);
  };
  for (;;) {
    const jobs = objectsOf(await execute('query-jobs')).filter(({ id }) => belongs(id, snapshot));
    if (jobs.length === 0) break;
    if (jobs.length > maxParts) throw new QmpError('QEMU names too many copies');
    for (const { id, status } of jobs) {
      if (status === 'concluded') await execute('job-dismiss', { id });
      // A job may conclude between the question and this command.
      else await execute('job-cancel', { id }).catch(ignoreRefusal);
    }
    await delay(pollMs / 4);
  }
  // Unlike query-named-block-nodes, this command asks no storage pool, which may hang.
  const nodes = names(await execute('query-blockstats', { 'query-nodes': true }), 'node-name', snapshot);
  for (const node of nodes) await execute('blockdev-del', { 'node-name': node });
  for (const { 'fdset-id': set, fds } of objectsOf(await execute('query-fdsets'))) {
    if (Array.isArray(fds) && belongs((fds[0] as QmpObject | undefined)?.opaque, snapshot)) {
      await execute('remove-fd', { 'fdset-id': set });
    }
  }
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof QmpError)) throw error;
}

/** Waits until all jobs of the copy have concluded. @throws QmpError with the reason if one failed */
export async function finish(
  qmp: Qmp,
  { id, signal }: Pick<CopyOptions, 'id' | 'signal'>,
  count: number,
): Promise<void> {
  let progress = '';
  let progressedMs = performance.now();
  for (;;) {
    signal.throwIfAborted();
    const jobs = await jobsOf(qmp, id);
    if (jobs.length !== count) throw new QmpError('QEMU lost a copy');
    const failed = jobs.find(({ error }) => error !== undefined);
    if (failed) throw new QmpError(`QEMU could not copy a disk: ${readable(failed.error)}`);
    if (jobs.every(({ status }) => status === 'concluded')) return;
    const now = jobs.map((job) => `${job['current-progress']}`).join();
    if (now !== progress) progressedMs = performance.now();
    else if (performance.now() - progressedMs > stallMs) throw new QmpError('a copy makes no progress');
    progress = now;
    await delay(pollMs, undefined, { signal });
  }
}

/**
 * Copies the disks, and removes everything of the copy from the process, also after a failure. Returns the instant.
 * @throws QmpError if a copy fails; AbortError after an interruption
 */
export async function copyDisks(qmp: Qmp, disks: readonly DiskCopy[], options: CopyOptions): Promise<Date> {
  const { id, speed, sync = 'full' } = options;
  await endCopies(qmp, id);
  try {
    const copies: { readonly node: string; readonly target: string }[] = [];
    for (const [index, { node, open }] of disks.entries()) {
      const target = `${id}-${index}`;
      options.signal.throwIfAborted();
      await open(target);
      copies.push({ node, target });
    }
    const actions = copies.map(({ node, target }) => ({
      type: 'blockdev-backup',
      data: {
        ...{ 'job-id': target, device: node, target, sync, speed },
        ...{ 'auto-dismiss': false, 'on-source-error': 'report', 'on-target-error': 'report' },
      },
    }));
    const begin = async () => {
      if (actions.length > 0)
        await qmp.execute('transaction', { actions, properties: { 'completion-mode': 'grouped' } });
      return new Date();
    };
    const instant = await (options.atInstant ?? ((run) => run()))(begin);
    await finish(qmp, options, copies.length);
    return instant;
  } finally {
    if (!qmp.closed) await endCopies(qmp, id);
  }
}
