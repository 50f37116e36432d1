/**
 * The images of ucloud in a pool of Ceph. A pool has each image once, as the RBD image `ucloud.<image>` with the snapshot
 * `base`, and each volume is a clone of this snapshot. So a new volume takes the same time for each size of the image.
 *
 * An RBD image is written under a temporary name, `ucloud.new.<id>.<random>`, and gets its name when it is complete. A name
 * is given only once, so a slow host never replaces a volume that another host has filled meanwhile.
 *
 * Several hosts may want one image. A host begins no import while another one has the lock (ceph-import-lock.ts) or writes
 * the image. If both fail to show, two hosts import the image, and the second import is discarded.
 *
 * Clones have the format 2: they keep the data of their image when the image goes to the trash.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Id } from '../../../contract/fields.ts';
import { Mutex } from '../../system/mutex.ts';
import { type CephClient, notFound, objects, parse } from './ceph-client.ts';
import { CephImportLock } from './ceph-import-lock.ts';
import { type CephNames, finalOf, temporaryOf } from './ceph-names.ts';
import { PoolFault, type VolumeContent, type VolumeSource } from './pool-driver.ts';

const snapshotName = 'base';
/** The time in seconds after which the lock of a host that has died ends. */
const defaultLockSeconds = 60;
/** The time in milliseconds that a call waits for the import of another host. The agent then tries again. */
const maxWaitMs = 30_000;
const waitIntervalMs = 1_000;
/** The time in milliseconds after which an incomplete image without client is one that a crash has left. */
const defaultLeftMs = 3_600_000;

const importedName = /^ucloud\.(img-[0-9a-z]{16})$/;

/** Tells whether an image of this name is one that this file makes. */
export const isImageName = (name: string): boolean => finalOf(name) !== undefined || importedName.test(name);

/** Options of `CephImages`. */
export interface CephImagesOptions {
  readonly client: CephClient;
  readonly names: CephNames;
  /** Returns how QEMU opens the RBD image. */
  readonly open: (name: string) => Promise<VolumeSource>;
  /** For tests: shorter times. */
  readonly leftMs?: number | undefined;
  readonly lockSeconds?: number | undefined;
}

/** The images of one pool. */
export class CephImages {
  readonly #client: CephClient;
  readonly #names: CephNames;
  readonly #open: CephImagesOptions['open'];
  readonly #leftMs: number;
  readonly #lockSeconds: number;
  /** Two volumes of one image must not import it twice. */
  readonly #imports = new Map<string, Mutex>();
  /** The temporary names that this process uses. */
  readonly #current = new Set<string>();
  /** The other temporary names, with the time at which a sweep first saw them. */
  readonly #seen = new Map<string, number>();

  constructor({ client, names, open, leftMs = defaultLeftMs, lockSeconds = defaultLockSeconds }: CephImagesOptions) {
    this.#client = client;
    this.#names = names;
    this.#open = open;
    this.#leftMs = leftMs;
    this.#lockSeconds = lockSeconds;
  }

  /**
   * Creates the RBD image with the content, and with `size` bytes. Does nothing if the name exists.
   * @throws PoolFault while another host imports the image
   */
  async create(name: string, size: number, content: VolumeContent, signal: AbortSignal): Promise<void> {
    const { image } = content;
    const base = image === undefined ? undefined : await this.#import(image, content, signal);
    await this.#publish(name, async (temporary) => {
      if (base === undefined) await this.#write(temporary, content, signal);
      else await this.#clone(base, temporary);
      if (size > content.size) await this.#client.grow(temporary, size);
      // The volume may be deleted by now.
      signal.throwIfAborted();
    });
  }

  /** Makes an RBD image under a temporary name and gives it its name. Another one may have got the name meanwhile. */
  async #publish(name: string, make: (temporary: string) => Promise<void>): Promise<void> {
    const temporary = `${temporaryOf(name)}${randomBytes(8).toString('hex')}`;
    this.#current.add(temporary);
    let isNamed = false;
    try {
      await make(temporary);
      isNamed = await this.#names.publish(temporary, name);
    } finally {
      // A later sweep tries again.
      if (!isNamed) await this.#names.discard(temporary).catch(() => undefined);
      this.#current.delete(temporary);
    }
  }

  async #write(name: string, content: VolumeContent, signal: AbortSignal): Promise<void> {
    if (!(await this.#client.create(name, content.size))) throw new PoolFault(`${name} exists`);
    await content.write(await this.#open(name), signal);
  }

  async #clone(base: string, name: string): Promise<void> {
    const target = ['--dest-pool', this.#client.pool, '--dest', name];
    const outcome = await this.#client.rbd('clone', '--image', base, '--snap', snapshotName, ...target);
    if (!outcome.ok) throw this.#client.failure(`clone ${base}`, 'rbd', outcome);
  }

  async #import(image: Id<'image'>, content: VolumeContent, signal: AbortSignal): Promise<string> {
    const name = `ucloud.${image}`;
    if (!importedName.test(name)) throw new Error(`not the id of an image: ${JSON.stringify(image)}`);
    const mutex = this.#imports.get(image) ?? new Mutex();
    this.#imports.set(image, mutex);
    try {
      await mutex.run(() => this.#importOnce(name, content, signal));
    } finally {
      if (this.#imports.get(image) === mutex) this.#imports.delete(image);
    }
    return name;
  }

  async #importOnce(name: string, content: VolumeContent, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + maxWaitMs;
    const lock = this.#lockOf(name);
    for (;;) {
      signal.throwIfAborted();
      const state = await this.#names.settle(name);
      if (state === 'named' && (await this.#isComplete(name))) return;
      if (state !== 'being_named' && !(await this.#isWritten(name)) && (await lock.take())) break;
      if (performance.now() > deadline) throw new PoolFault(`another host imports ${name}`);
      await delay(waitIntervalMs, undefined, { signal });
    }
    await lock.hold(async () => {
      // The image may have become complete before the lock was free.
      const isNamed = (await this.#names.settle(name)) === 'named';
      if (isNamed && (await this.#isComplete(name))) return;
      // The rest of an image without its snapshot.
      if (isNamed) await this.#client.trash(name);
      await this.#publish(name, async (temporary) => {
        await this.#write(temporary, content, signal);
        const outcome = await this.#client.rbd('snap', 'create', '--image', temporary, '--snap', snapshotName);
        if (!outcome.ok) throw this.#client.failure(`complete ${name}`, 'rbd', outcome);
        signal.throwIfAborted();
      });
    });
  }

  #lockOf = (name: string): CephImportLock => new CephImportLock(this.#client, name, this.#lockSeconds);

  /** Tells whether a host writes the image. */
  async #isWritten(name: string): Promise<boolean> {
    for (const each of await this.#client.names()) {
      if (each.startsWith(temporaryOf(name)) && (await this.#client.clientsOf(each)).length > 0) return true;
    }
    return false;
  }

  /** Tells whether the image has its snapshot. */
  async #isComplete(name: string): Promise<boolean> {
    const outcome = await this.#client.rbd('snap', 'ls', '--format', 'json', '--image', name);
    if (outcome.errno === notFound) return false;
    if (!outcome.ok) throw this.#client.failure(`look at ${name}`, 'rbd', outcome);
    return objects(parse(outcome.stdout)).some((snapshot) => snapshot.name === snapshotName);
  }

  /**
   * Moves to the trash: images without clones that no new volume waits for, and incomplete images that a crash has left.
   * Returns whether it has moved any.
   * @param wanted the images that new volumes of the pool wait for
   */
  async sweep(wanted: ReadonlySet<string>): Promise<boolean> {
    let hasMoved = false;
    const names = await this.#client.names();
    const now = performance.now();
    for (const name of this.#seen.keys()) if (!names.includes(name)) this.#seen.delete(name);
    for (const name of names) {
      const image = importedName.exec(name)?.[1];
      if (image !== undefined && !wanted.has(image) && !this.#imports.has(image)) {
        // The object of the lock goes first, because nothing else remembers it.
        if ((await this.#hasNoClones(name)) && (await this.#lockOf(name).clear())) {
          await this.#client.trash(name);
          hasMoved = true;
        }
        continue;
      }
      const final = finalOf(name);
      if (final === undefined || this.#current.has(name)) continue;
      const since = this.#seen.get(name) ?? now;
      this.#seen.set(name, since);
      if (now - since < this.#leftMs || (await this.#client.clientsOf(name)).length > 0) continue;
      // A host may import the image without a client at this moment.
      if (!(await this.#lockOf(final).clear())) continue;
      if (await this.#names.discard(name)) hasMoved = true;
      this.#seen.delete(name);
    }
    return hasMoved;
  }

  /** A clone that another host makes at this moment keeps its data, because it has the format 2. */
  async #hasNoClones(name: string): Promise<boolean> {
    const outcome = await this.#client.rbd('children', '--all', '--format', 'json', '--image', name);
    if (outcome.errno === notFound) return false;
    if (!outcome.ok) throw this.#client.failure(`look at the clones of ${name}`, 'rbd', outcome);
    const clones = parse(outcome.stdout);
    return Array.isArray(clones) && clones.length === 0;
  }

  /** Removes the snapshot of an image in the trash. Clones keep their data. */
  async dropSnapshot(id: string): Promise<void> {
    await this.#client.rbd('snap', 'rm', '--no-progress', '--image-id', id, '--snap', snapshotName);
  }
}
