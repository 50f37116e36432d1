/**
 * Volumes in a pool of Ceph: one RBD image each, `ucloud.<volume>`. QEMU opens the images with librbd. The volumes of one
 * image are clones (ceph-images.ts).
 *
 * A deleted image goes to the trash at once and is removed later, because the removal takes minutes, fails while a clone
 * or a client uses the image, and may be interrupted. The owner of a volume is a lock on an object of its own,
 * `ucloud.owner.<volume>`: the locks of `rbd lock` would stop the writes of QEMU without any message.
 */
import type { Id } from '../../../contract/fields.ts';
import type { PoolUsage } from '../../../model/storage/pool.ts';
import { Mutex } from '../../system/mutex.ts';
import { busy, CephClient, isObject, isSize, notFound, objects, parse } from './ceph-client.ts';
import { type CephCommandOptions, type CephSettings, PoolHangs } from './ceph-commands.ts';
import { CephImages, type CephImagesOptions, isImageName } from './ceph-images.ts';
import { readKey } from './ceph-key.ts';
import { CephNames } from './ceph-names.ts';
import { checkCeph } from './ceph-packages.ts';
import { CephSnapshots } from './ceph-snapshots.ts';
import { type PoolDriver, PoolFault, type VolumeContent, type VolumeSource } from './pool-driver.ts';

/** The time in milliseconds for the removal of one image from the trash. */
const removalMs = 600_000;
/** The same for an image in a full pool. Each attempt removes a part of the image. */
const fullRemovalMs = 60_000;
const lockName = 'owner';
const prefix = 'ucloud.';
const ourImage = /^ucloud\.(vol-[0-9a-z]{16})$/;
const ourSnapshot = /^ucloud\.snap-[0-9a-z]{16}$/;

/** A pool of Ceph. */
export class CephPool implements PoolDriver {
  readonly #settings: CephSettings;
  readonly #client: CephClient;
  readonly #names: CephNames;
  readonly #images: CephImages;
  readonly snapshots: CephSnapshots;
  /** The creation of each volume, so that no call takes the image of another call for an incomplete one. */
  readonly #creations = new Map<string, Mutex>();
  /** The copies that fill volumes. They end before their volume is removed. */
  readonly #fills = new Map<string, Set<AbortController>>();
  #sweep: Promise<void> | undefined;
  /** The machine has all programs. */
  #isComplete = false;

  constructor(
    pool: Id<'storage_pool'>,
    settings: CephSettings,
    options: CephCommandOptions & Pick<CephImagesOptions, 'leftMs' | 'lockSeconds'> = {},
  ) {
    this.#settings = settings;
    this.#client = new CephClient(pool, settings, options);
    this.#names = new CephNames(this.#client);
    this.snapshots = new CephSnapshots(this.#client, this.#names, this);
    this.#images = new CephImages({
      client: this.#client,
      names: this.#names,
      open: (name) => this.#sourceOf(name),
      leftMs: options.leftMs,
      lockSeconds: options.lockSeconds,
    });
  }

  #image(volume: Id<'volume'>): string {
    const name = `${prefix}${volume}`;
    if (!ourImage.test(name)) throw new Error(`not the id of a volume: ${JSON.stringify(volume)}`);
    return name;
  }

  async usage(): Promise<PoolUsage | undefined> {
    const missing = this.#isComplete ? [] : await checkCeph();
    if (missing.length > 0) throw new PoolFault(missing.join('; '));
    this.#isComplete = true;
    // The monitors answer without the pool. An object of the pool shows whether the pool itself answers.
    const probe = await this.#client.rados('stat', 'rbd_directory');
    if (!probe.ok && probe.errno !== notFound) throw this.#client.failure('look', 'rados', probe);
    const outcome = await this.#client.run('ceph', ['df', '--format', 'json']);
    if (!outcome.ok) throw this.#client.failure('look', 'ceph', outcome);
    const answer = parse(outcome.stdout);
    const pools = objects(isObject(answer) ? answer.pools : undefined);
    const stats = pools.find(({ name }) => name === this.#settings.rbd_pool)?.stats;
    if (!isObject(stats) || !isSize(stats.stored) || !isSize(stats.max_avail)) return undefined;
    return { size: stats.stored + stats.max_avail, free: stats.max_avail };
  }

  async sizeOf(volume: Id<'volume'>): Promise<number | undefined> {
    return this.#client.sizeOf(this.#image(volume));
  }

  async ensure(volume: Id<'volume'>, size: number): Promise<void> {
    const image = this.#image(volume);
    if (!isSize(size) || size === 0) throw new Error(`not the size of a volume: ${size}`);
    await this.#create(volume, () => this.#ensure(image, size));
  }

  async fill(volume: Id<'volume'>, size: number, content: VolumeContent, given: AbortSignal): Promise<void> {
    const image = this.#image(volume);
    const abort = new AbortController();
    const fills = this.#fills.get(volume) ?? new Set();
    this.#fills.set(volume, fills.add(abort));
    const signal = AbortSignal.any([given, abort.signal]);
    try {
      await this.#create(volume, async () => {
        signal.throwIfAborted();
        if (!(await this.#names.isNamed(image))) await this.#images.create(image, size, content, signal);
        signal.throwIfAborted();
        await this.grow(volume, size);
      });
    } finally {
      fills.delete(abort);
      if (fills.size === 0) this.#fills.delete(volume);
    }
  }

  /** Grows a volume. Never creates it, because it would lack its content. @throws PoolFault without the volume */
  async grow(volume: Id<'volume'>, size: number): Promise<void> {
    const image = this.#image(volume);
    const present = await this.#client.sizeOf(image);
    if (present === undefined) throw new PoolFault(`${image} has vanished`);
    if (present < size) await this.#client.grow(image, size);
  }

  /** Runs one creation or removal of the volume at a time. */
  async #create(volume: Id<'volume'>, create: () => Promise<void>): Promise<void> {
    const mutex = this.#creations.get(volume) ?? new Mutex();
    this.#creations.set(volume, mutex);
    try {
      await mutex.run(create);
    } finally {
      if (this.#creations.get(volume) === mutex) this.#creations.delete(volume);
    }
  }

  async #ensure(image: string, size: number): Promise<void> {
    const client = this.#client;
    const present = await client.sizeOf(image);
    if (present !== undefined && present >= size) return;
    if (present !== undefined) return client.grow(image, size);
    if (await client.create(image, size)) return;
    // The name exists without an image, because a creation was interrupted, or is still under way.
    if ((await client.sizeOf(image)) === undefined) await client.trash(image);
    if (await client.create(image, size)) return;
    const made = await client.sizeOf(image);
    if (made === undefined) throw new PoolFault(`cannot create ${image}: its name exists`);
    if (made < size) await client.grow(image, size);
  }

  async remove(volume: Id<'volume'>): Promise<void> {
    for (const fill of this.#fills.get(volume) ?? []) fill.abort();
    await this.#create(volume, () => this.#remove(volume));
  }

  async #remove(volume: Id<'volume'>): Promise<void> {
    try {
      await this.#client.trash(this.#image(volume));
    } catch (error) {
      if (!(error instanceof PoolHangs)) throw error;
      await this.#removeNow(volume);
    }
    // Without the option, a full pool would keep the object.
    const outcome = await this.#client.rados('rm', this.#ownerObject(volume), '--force-full');
    if (!outcome.ok && outcome.errno !== notFound) throw this.#client.failure(`release ${volume}`, 'rados', outcome);
  }

  /** Removes the image without the trash, because a full pool has no space for the note in the trash. */
  async #removeNow(volume: Id<'volume'>): Promise<void> {
    const args = ['rm', '--no-progress', '--pool', this.#settings.rbd_pool, this.#image(volume)];
    const outcome = await this.#client.run('rbd', args, fullRemovalMs);
    if (!outcome.ok && outcome.errno !== notFound) throw this.#client.failure(`remove ${volume}`, 'rbd', outcome);
  }

  async list(): Promise<Id<'volume'>[]> {
    return (await this.#client.names()).flatMap((name) => {
      const id = ourImage.exec(name)?.[1];
      return id === undefined ? [] : [id as Id<'volume'>];
    });
  }

  async source(volume: Id<'volume'>): Promise<VolumeSource> {
    return this.#sourceOf(this.#image(volume));
  }

  async #sourceOf(image: string): Promise<VolumeSource> {
    const { rbd_pool, user, key_file, monitors } = this.#settings;
    const server = monitors.map((monitor) => {
      const [, host = '', port = ''] = /^\[?([^\]]*)\]?:(\d+)$/.exec(monitor) ?? [];
      if (host === '' || port === '') throw new Error(`monitors: ${JSON.stringify(monitor)} is no address with a port`);
      return { host, port };
    });
    return { kind: 'rbd', pool: rbd_pool, image, user, key: await readKey(key_file), server };
  }

  async claim(volume: Id<'volume'>, owner: string): Promise<void> {
    if (!/^[0-9A-Za-z][\w.-]{0,99}$/.test(owner)) throw new Error(`not the name of an owner: ${JSON.stringify(owner)}`);
    const object = this.#ownerObject(volume);
    const take = () =>
      this.#client.rados('lock', 'get', object, lockName, '--lock-cookie', owner, '--lock-type', 'exclusive');
    let outcome = await take();
    if (outcome.errno === busy) {
      // The lock belongs to a process that has ended. Its cookie tells the owner.
      const lockers = await this.#lockers(volume);
      if (lockers.some(({ cookie }) => cookie === owner)) return;
      await this.#checkClosed(volume);
      for (const { cookie, name } of lockers) {
        const broken = await this.#client.rados('lock', 'break', object, lockName, name, '--lock-cookie', cookie);
        if (!broken.ok && broken.errno !== notFound) throw this.#client.failure(`take over ${volume}`, 'rados', broken);
      }
      outcome = await take();
    }
    if (!outcome.ok) throw this.#client.failure(`claim ${volume}`, 'rados', outcome);
  }

  /** Checks that no client has the volume open. @throws PoolFault */
  async #checkClosed(volume: Id<'volume'>): Promise<void> {
    const addresses = await this.#client.clientsOf(this.#image(volume));
    if (addresses.length === 0) return;
    throw new PoolFault(`${volume} is still open at ${addresses.join(', ')}, and belongs to another host`);
  }

  #ownerObject = (volume: Id<'volume'>): string => {
    this.#image(volume);
    return `${prefix}owner.${volume}`;
  };

  async #lockers(volume: Id<'volume'>): Promise<{ readonly name: string; readonly cookie: string }[]> {
    const outcome = await this.#client.rados('lock', 'info', this.#ownerObject(volume), lockName, '--format', 'json');
    if (outcome.errno === notFound) return [];
    if (!outcome.ok) throw this.#client.failure(`look at the owner of ${volume}`, 'rados', outcome);
    const info = parse(outcome.stdout);
    return objects(isObject(info) ? info.lockers : undefined).flatMap(({ name, cookie }) =>
      typeof name === 'string' && typeof cookie === 'string' && /^client\.\d+$/.test(name) ? [{ name, cookie }] : [],
    );
  }

  async sweep(wanted: ReadonlySet<string> = new Set()): Promise<void> {
    this.#sweep ??= this.#sweepAll(wanted).finally(() => {
      this.#sweep = undefined;
    });
    await this.#sweep;
  }

  async #sweepAll(wanted: ReadonlySet<string>): Promise<void> {
    // A full pool takes nothing into its trash, so the trash comes first.
    await this.#emptyTrash();
    if (await this.#images.sweep(wanted)) await this.#emptyTrash();
    await this.snapshots.shortenChains();
  }

  async #emptyTrash(): Promise<void> {
    const outcome = await this.#client.rbd('trash', 'ls', '--format', 'json');
    if (!outcome.ok) throw this.#client.failure('look at the trash', 'rbd', outcome);
    for (const { id, name } of objects(parse(outcome.stdout))) {
      // The pool may contain images of others.
      if (typeof name !== 'string' || !(ourImage.test(name) || ourSnapshot.test(name) || isImageName(name))) continue;
      if (typeof id !== 'string' || !/^[0-9a-f]{1,64}$/.test(id)) continue;
      if (isImageName(name)) await this.#images.dropSnapshot(id);
      if (ourImage.test(name)) await this.snapshots.dropSources(id);
      // Fails while a clone or a client uses the image. The next sweep tries again.
      const options = ['--no-progress', '--pool', this.#settings.rbd_pool, '--image-id', id];
      await this.#client.run('rbd', ['trash', 'rm', ...options], removalMs);
    }
  }
}
