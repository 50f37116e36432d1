/**
 * Snapshots of volumes in a pool of Ceph: one RBD image each, `ucloud.<snapshot>`, a clone of the image of the volume. So
 * the volume can be deleted: its image stays in the trash until no clone needs it. A volume with the data of a snapshot is
 * a clone, too. Clones have the format 2, whose snapshots can be removed while clones use them.
 *
 * A snapshot is complete when its image has the time of the snapshot as metadata. The next attempt removes an incomplete one.
 */
import { randomBytes } from 'node:crypto';
import type { Id } from '../../../contract/fields.ts';
import { isIdOf } from '../../../model/ids.ts';
import { SnapshotError } from '../../hypervisor/hypervisor.ts';
import { type CephClient, exists, isObject, notFound, objects, parse } from './ceph-client.ts';
import type { CephOutcome } from './ceph-commands.ts';
import { type CephNames, temporaryOf } from './ceph-names.ts';
import { type AtInstant, type CopyContent, type PoolDriver, PoolFault, type PoolSnapshots } from './pool-driver.ts';

/** The time in milliseconds for the copy of one image into its clone. */
const flattenMs = 600_000;
const imagePattern = /^ucloud\.(vol|snap)-[0-9a-z]{16}$/;
const takenAtKey = 'ucloud.taken_at';
/** The RBD snapshot of a snapshot's image, from which volumes are cloned. */
const base = 'base';

/** Returns the name of an image. @throws Error if the text is no id of a volume or snapshot */
function imageOf(id: string): string {
  const name = `ucloud.${id}`;
  if (!imagePattern.test(name)) throw new Error(`not the id of a volume or snapshot: ${JSON.stringify(id)}`);
  return name;
}

const takeNow: AtInstant = async (take) => {
  await take();
  return new Date();
};

/** The volumes of the pool. */
interface Volumes extends Pick<PoolDriver, 'sizeOf'> {
  /** Grows a volume. @throws PoolFault without the volume */
  grow(volume: Id<'volume'>, size: number): Promise<void>;
}

/** The snapshots of a pool of Ceph. */
export class CephSnapshots implements PoolSnapshots {
  readonly #client: CephClient;
  readonly #names: CephNames;
  readonly #volumes: Volumes;
  /** The image that the last sweep has tried last. */
  #flattened = '';

  constructor(client: CephClient, names: CephNames, volumes: Volumes) {
    this.#client = client;
    this.#names = names;
    this.#volumes = volumes;
  }

  /** Runs `rbd`, and accepts this error number. */
  async #run(action: string, accepted: number, ...args: readonly string[]): Promise<CephOutcome> {
    const outcome = await this.#client.rbd(...args);
    if (!outcome.ok && outcome.errno !== accepted) throw this.#client.failure(action, 'rbd', outcome);
    return outcome;
  }

  async create(
    snapshot: Id<'snapshot'>,
    volume: Id<'volume'>,
    maxSize: number,
    atInstant: AtInstant = takeNow,
  ): Promise<Date> {
    const [image, source] = [imageOf(snapshot), imageOf(volume)];
    const complete = await this.#takenAt(snapshot);
    if (complete !== undefined) return complete;
    await this.#discard(snapshot, image);
    const size = await this.#volumes.sizeOf(volume);
    if (size === undefined) throw new SnapshotError('source_gone', `The data of ${volume} is gone.`);
    if (size > maxSize) {
      throw new SnapshotError('source_changed', 'The volume is larger than when the snapshot was requested.');
    }
    const action = `make ${snapshot}`;
    const name = `${source}@${snapshot}`;
    // The rest of an attempt that was interrupted shows an earlier instant.
    await this.#run(action, notFound, 'snap', 'rm', '--no-progress', name);
    const takenAt = await atInstant(async () => {
      await this.#run(action, 0, 'snap', 'create', '--no-progress', name);
    });
    await this.#clone(action, name, image);
    await this.#run(action, exists, 'snap', 'create', '--no-progress', `${image}@${base}`);
    await this.#run(action, 0, 'image-meta', 'set', image, takenAtKey, takenAt.toISOString());
    await this.#run(action, notFound, 'snap', 'rm', '--no-progress', name);
    return takenAt;
  }

  #clone(action: string, source: string, image: string): Promise<CephOutcome> {
    return this.#run(action, exists, 'clone', '--dest-pool', this.#client.pool, source, image);
  }

  /** Returns the instant of a complete snapshot. */
  async #takenAt(snapshot: Id<'snapshot'>): Promise<Date | undefined> {
    const outcome = await this.#client.rbd('image-meta', 'get', imageOf(snapshot), takenAtKey);
    if (!outcome.ok && outcome.errno !== notFound) throw this.#client.failure(`look at ${snapshot}`, 'rbd', outcome);
    const time = new Date(outcome.stdout.trim());
    return outcome.ok && !Number.isNaN(time.getTime()) ? time : undefined;
  }

  async fill(volume: Id<'volume'>, size: number, snapshot: Id<'snapshot'>): Promise<void> {
    const image = imageOf(volume);
    if ((await this.#volumes.sizeOf(volume)) === undefined) {
      if ((await this.#takenAt(snapshot)) === undefined) {
        throw new SnapshotError('source_gone', `The data of ${snapshot} is gone.`);
      }
      // The name may exist without an image, because a clone was interrupted.
      await this.#run(`fill ${volume}`, notFound, 'trash', 'mv', image);
      await this.#clone(`fill ${volume}`, `${imageOf(snapshot)}@${base}`, image);
    }
    await this.#volumes.grow(volume, size);
  }

  async restore(volume: Id<'volume'>, size: number, snapshot: Id<'snapshot'>): Promise<void> {
    const [image, source, action] = [imageOf(volume), imageOf(snapshot), `restore ${volume}`];
    const content = await this.#completeSize(snapshot);
    if (content > size) {
      throw new SnapshotError('source_changed', `The copy in ${snapshot} is larger than ${volume}.`);
    }
    // An earlier attempt may have begun to name its image.
    await this.#names.isNamed(image);
    const temporary = `${temporaryOf(image)}${randomBytes(8).toString('hex')}`;
    await this.#clone(action, `${source}@${base}`, temporary);
    if (content < size) await this.#client.grow(temporary, size);
    // After a crash between both steps there is no image, and the next attempt makes it.
    await this.#client.trash(image);
    if (!(await this.#names.publish(temporary, image))) throw new PoolFault(`${image} has got another content`);
  }

  async read(snapshot: Id<'snapshot'>): Promise<CopyContent> {
    const bytes = await this.#completeSize(snapshot);
    return { bytes, content: await this.#client.contentOf(`${imageOf(snapshot)}@${base}`) };
  }

  /** Returns the size of a complete snapshot in bytes. @throws SnapshotError without one */
  async #completeSize(snapshot: Id<'snapshot'>): Promise<number> {
    const size = (await this.#takenAt(snapshot)) && (await this.#client.sizeOf(imageOf(snapshot)));
    if (size === undefined) throw new SnapshotError('source_gone', `The data of ${snapshot} is gone.`);
    return size;
  }

  async remove(snapshot: Id<'snapshot'>, source?: Id<'volume'>): Promise<void> {
    if (source !== undefined) {
      const name = `${imageOf(source)}@${snapshot}`;
      await this.#run(`remove ${snapshot}`, notFound, 'snap', 'rm', '--no-progress', name);
    }
    await this.#discard(snapshot, imageOf(snapshot));
  }

  /** Removes the image of a snapshot, if there is one. It goes to the trash, because volumes may be clones of it. */
  async #discard(snapshot: Id<'snapshot'>, image: string): Promise<void> {
    const action = `remove ${snapshot}`;
    await this.#run(action, notFound, 'snap', 'rm', '--no-progress', `${image}@${base}`);
    await this.#run(action, notFound, 'trash', 'mv', image);
  }

  /** Removes the RBD snapshots that interrupted attempts have left on a volume in the trash. They would keep its data. */
  async dropSources(imageId: string): Promise<void> {
    const place = ['--pool', this.#client.pool, '--image-id', imageId];
    const outcome = await this.#client.run('rbd', ['snap', 'ls', '--format', 'json', ...place]);
    if (!outcome.ok) return;
    for (const { name } of objects(parse(outcome.stdout))) {
      if (typeof name !== 'string' || !isIdOf('snapshot', name)) continue;
      await this.#client.run('rbd', ['snap', 'rm', '--no-progress', ...place, '--snap', name]);
    }
  }

  /**
   * Gives clones data of their own if their parent is deleted, or is a clone itself. So deleted data goes, and a read asks
   * at most two images. Clients may use the images meanwhile.
   */
  async shortenChains(): Promise<void> {
    // This opens every image.
    const list = ['ls', '--long', '--format', 'json', '--pool', this.#client.pool];
    const outcome = await this.#client.run('rbd', list, flattenMs);
    if (!outcome.ok) throw this.#client.failure('list the images', 'rbd', outcome);
    const parents = new Map<string, string | undefined>();
    for (const { image, parent, snapshot } of objects(parse(outcome.stdout))) {
      if (typeof image !== 'string' || snapshot !== undefined) continue;
      parents.set(image, isObject(parent) && typeof parent.image === 'string' ? parent.image : undefined);
    }
    const images = [...parents.keys()].sort();
    // A slow image ends a sweep. The next sweep begins after it.
    const next = images.findIndex((image) => image > this.#flattened);
    const inTurn = next < 0 ? images : [...images.slice(next), ...images.slice(0, next)];
    for (const image of inTurn) {
      const parent = parents.get(image);
      // The pool may contain images of others.
      if (parent === undefined || !imagePattern.test(image) || !imagePattern.test(parent)) continue;
      if (parents.has(parent) && parents.get(parent) === undefined) continue;
      this.#flattened = image;
      // A failure may have many causes, such as a full pool. The next sweep tries again.
      await this.#client.run('rbd', ['flatten', '--no-progress', '--pool', this.#client.pool, image], flattenMs);
    }
  }
}
