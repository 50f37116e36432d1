/**
 * The snapshots of volumes in a directory: one sparse raw file each, `<snapshot>.raw`, beside the volumes. A host writes a
 * copy under a temporary name, and the complete copy gets its name. A name is given only once, so a slow host never replaces
 * the copy of another one. The time of the file is the instant of the snapshot.
 *
 * The directory may lie on a file server that hangs, so short-lived programs do all the work, as for volumes.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { basename, join } from 'node:path';
import type { Id } from '../../../contract/fields.ts';
import { SnapshotError } from '../../hypervisor/hypervisor.ts';
import { CommandError, environment, type Run } from '../../system/command.ts';
import { programOutput } from '../../system/program-output.ts';
import { punchHoles } from '../punch-holes.ts';
import { type CopyContent, type PoolCopies, type PoolCopy, PoolFault } from './pool-driver.ts';

const idPattern = /^snap-[0-9a-z]{16}$/;

/** The directory of a pool. */
export interface CopiesDirectory {
  readonly path: string;
  /** Runs a program, and gives up soon. */
  readonly run: Run;
  /** Runs a program that waits for disks. */
  readonly runLong: Run;
  /** @throws PoolFault unless the directory is that of the pool */
  check(): Promise<void>;
}

const stderrHas = (error: unknown, text: string): boolean =>
  error instanceof CommandError && error.stderr.includes(text);

/** The copies in one directory. */
export class DirectoryCopies implements PoolCopies {
  readonly #directory: CopiesDirectory;

  constructor(directory: CopiesDirectory) {
    this.#directory = directory;
  }

  #path(snapshot: Id<'snapshot'>): string {
    if (!idPattern.test(snapshot)) throw new Error(`not the id of a snapshot: ${JSON.stringify(snapshot)}`);
    return join(this.#directory.path, `${snapshot}.raw`);
  }

  async find(snapshot: Id<'snapshot'>): ReturnType<PoolCopies['find']> {
    const path = this.#path(snapshot);
    await this.#directory.check();
    try {
      const text = await this.#directory.run('stat', ['--format=%s %.3Y %b %F', '--', path]);
      const [, size, seconds, blocks, type = ''] = /^(\d+) (\d+\.\d+) (\d+) (.*)/.exec(text) ?? [];
      // Another host with access to the directory may have put a link there.
      if (!type.startsWith('regular')) throw new PoolFault(`The file of ${snapshot} is a ${type.trim()}.`);
      const takenAt = new Date(Math.round(Number(seconds) * 1_000));
      return { path, size: Number(size), takenAt, allocated: Number(blocks) * 512 };
    } catch (error) {
      if (stderrHas(error, 'No such file or directory')) return undefined;
      throw error;
    }
  }

  async begin(snapshot: Id<'snapshot'>, size: number): Promise<string> {
    const { run, check } = this.#directory;
    const temporary = `${this.#path(snapshot)}.${randomBytes(8).toString('hex')}.new`;
    await check();
    await this.#removeTemporary(snapshot);
    await run('install', ['--mode=0600', '/dev/null', temporary]);
    await run('truncate', [`--size=${size}`, '--', temporary]);
    return temporary;
  }

  async complete(
    snapshot: Id<'snapshot'>,
    { path: temporary, size, takenAt }: PoolCopy,
    check?: () => Promise<void>,
  ): Promise<void> {
    const { path: directory, run, runLong } = this.#directory;
    await runLong('sync', ['--', temporary]);
    // A process that its guest has taken over may have made the file larger than the space that it was granted.
    if (Number(await run('stat', ['--format=%s', '--', temporary])) !== size) {
      throw new Error('the copy of a volume has another size');
    }
    // Without this, the copy is right and takes more space. Not every file server can do it.
    await punchHoles(runLong, temporary).catch((error: unknown) => {
      if (!(error instanceof CommandError)) throw error;
    });
    await run('touch', ['--no-create', `--date=${takenAt.toISOString()}`, '--', temporary]);
    await runLong('sync', ['--', temporary]);
    await check?.();
    try {
      await run('ln', ['--no-target-directory', '--', temporary, this.#path(snapshot)]);
    } catch (error) {
      // Another host has completed the snapshot first.
      if (!stderrHas(error, 'File exists')) throw error;
    }
    await run('sync', ['--', directory]);
    await run('rm', ['--force', '--', temporary]);
  }

  async read(snapshot: Id<'snapshot'>): Promise<CopyContent> {
    const copy = await this.find(snapshot);
    if (copy === undefined) throw new SnapshotError('source_gone', `The data of ${snapshot} is gone.`);
    // A process that still has the file may make it longer.
    const part = [`count=${copy.size}`, 'iflag=nofollow,count_bytes,fullblock', 'bs=1M', 'status=none'];
    const child = spawn('dd', [`if=${copy.path}`, ...part], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    return { bytes: copy.size, content: programOutput(child) };
  }

  async abandon(snapshot: Id<'snapshot'>, temporary: string): Promise<void> {
    if (!basename(temporary).startsWith(`${snapshot}.raw.`)) throw new Error(`not a copy of ${snapshot}`);
    await this.#directory.run('rm', ['--force', '--', temporary]);
  }

  async remove(snapshot: Id<'snapshot'>): Promise<void> {
    const path = this.#path(snapshot);
    await this.#directory.check();
    await this.#removeTemporary(snapshot);
    await this.#directory.run('rm', ['--force', '--', path]);
  }

  async #removeTemporary(snapshot: Id<'snapshot'>): Promise<void> {
    const files = ['-maxdepth', '1', '-type', 'f', '-name', `${basename(this.#path(snapshot))}.*.new`, '-delete'];
    await this.#directory.run('find', ['-H', this.#directory.path, '-ignore_readdir_race', ...files]);
  }
}
