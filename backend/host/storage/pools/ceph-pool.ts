/**
 * Volumes in a pool of Ceph: one RBD image each, `ucloud.<volume>`. QEMU opens the images with librbd.
 *
 * A deleted image goes to the trash at once and is removed later, because the removal takes minutes, fails while a clone
 * or a client uses the image, and may be interrupted. The owner of a volume is a lock on an object of its own,
 * `ucloud.owner.<volume>`: the locks of `rbd lock` would stop the writes of QEMU without any message.
 */
import type { Id } from '../../../contract/fields.ts';
import type { PoolUsage } from '../../../model/storage/pool.ts';
import { Mutex } from '../../system/mutex.ts';
import {
  type CephCommandOptions,
  CephCommands,
  type CephOutcome,
  type CephProgram,
  type CephSettings,
  PoolHangs,
} from './ceph-commands.ts';
import { readKey } from './ceph-key.ts';
import { checkCeph } from './ceph-packages.ts';
import { type PoolDriver, PoolFault, type VolumeSource } from './pool-driver.ts';

/** Error numbers of Linux (errno(3)). */
const notFound = 2;
const busy = 16;
const exists = 17;

/** The time in milliseconds for the removal of one image from the trash. */
const removalMs = 600_000;
/** The same for an image in a full pool. Each attempt removes a part of the image. */
const fullRemovalMs = 60_000;
const lockName = 'owner';
const prefix = 'ucloud.';
const ourImage = /^ucloud\.(vol-[0-9a-z]{16})$/;

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Parses the output of a program. A QEMU with the key of the pool may have chosen a part of it. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('the pool gave an answer that is no JSON');
  }
}

const objects = (value: unknown): Readonly<Record<string, unknown>>[] =>
  Array.isArray(value) ? value.filter(isObject) : [];

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** A pool of Ceph. */
export class CephPool implements PoolDriver {
  readonly #settings: CephSettings;
  readonly #commands: CephCommands;
  /** The creation of each volume, so that no call takes the image of another call for an incomplete one. */
  readonly #creations = new Map<string, Mutex>();
  #sweep: Promise<void> | undefined;
  /** The machine has all programs. */
  #isComplete = false;

  constructor(pool: Id<'storage_pool'>, settings: CephSettings, options: CephCommandOptions = {}) {
    this.#settings = settings;
    this.#commands = new CephCommands(pool, settings, options);
  }

  #image(volume: Id<'volume'>): string {
    const name = `${prefix}${volume}`;
    if (!ourImage.test(name)) throw new Error(`not the id of a volume: ${JSON.stringify(volume)}`);
    return name;
  }

  #rbd(...args: readonly string[]): Promise<CephOutcome> {
    return this.#run('rbd', [...args, '--pool', this.#settings.rbd_pool]);
  }

  #rados(...args: readonly string[]): Promise<CephOutcome> {
    return this.#run('rados', ['--pool', this.#settings.rbd_pool, ...args]);
  }

  async #run(program: CephProgram, args: readonly string[], timeoutMs?: number): Promise<CephOutcome> {
    const outcome = await this.#commands.run(program, args, timeoutMs);
    // A missing pool has the error number of a missing image.
    if (!outcome.ok && /opening pool/.test(outcome.message)) throw this.#failure('work', program, outcome);
    return outcome;
  }

  #failure(action: string, program: CephProgram, { errno, message }: CephOutcome): PoolFault {
    const cause = message || `${program} ended with error ${errno}`;
    return new PoolFault(`cannot ${action} in the pool ${this.#settings.rbd_pool} of Ceph: ${cause}`);
  }

  async usage(): Promise<PoolUsage | undefined> {
    const missing = this.#isComplete ? [] : await checkCeph();
    if (missing.length > 0) throw new PoolFault(missing.join('; '));
    this.#isComplete = true;
    // The monitors answer without the pool. An object of the pool shows whether the pool itself answers.
    const probe = await this.#rados('stat', 'rbd_directory');
    if (!probe.ok && probe.errno !== notFound) throw this.#failure('look', 'rados', probe);
    const outcome = await this.#run('ceph', ['df', '--format', 'json']);
    if (!outcome.ok) throw this.#failure('look', 'ceph', outcome);
    const answer = parse(outcome.stdout);
    const pools = objects(isObject(answer) ? answer.pools : undefined);
    const stats = pools.find(({ name }) => name === this.#settings.rbd_pool)?.stats;
    if (!isObject(stats) || !isSize(stats.stored) || !isSize(stats.max_avail)) return undefined;
    return { size: stats.stored + stats.max_avail, free: stats.max_avail };
  }

  async sizeOf(volume: Id<'volume'>): Promise<number | undefined> {
    const outcome = await this.#rbd('info', '--format', 'json', this.#image(volume));
    if (outcome.errno === notFound) return undefined;
    if (!outcome.ok) throw this.#failure(`look at ${volume}`, 'rbd', outcome);
    const info = parse(outcome.stdout);
    if (!isObject(info) || !isSize(info.size)) throw new Error(`the image of ${volume} has no size`);
    return info.size;
  }

  async ensure(volume: Id<'volume'>, size: number): Promise<void> {
    const image = this.#image(volume);
    if (!isSize(size) || size === 0) throw new Error(`not the size of a volume: ${size}`);
    const mutex = this.#creations.get(volume) ?? new Mutex();
    this.#creations.set(volume, mutex);
    try {
      await mutex.run(() => this.#ensure(volume, image, size));
    } finally {
      if (this.#creations.get(volume) === mutex) this.#creations.delete(volume);
    }
  }

  async #ensure(volume: Id<'volume'>, image: string, size: number): Promise<void> {
    const present = await this.sizeOf(volume);
    if (present !== undefined && present >= size) return;
    if (present !== undefined) {
      // `rbd` refuses to shrink without another option.
      const outcome = await this.#rbd('resize', '--no-progress', '--size', `${size}B`, image);
      if (!outcome.ok) throw this.#failure(`grow ${volume}`, 'rbd', outcome);
      return;
    }
    const create = () => this.#rbd('create', '--size', `${size}B`, image);
    let outcome = await create();
    if (outcome.errno === exists && (await this.sizeOf(volume)) === undefined) {
      // The name exists without an image, because a creation was interrupted.
      await this.#moveToTrash(volume);
      outcome = await create();
    }
    if (!outcome.ok) throw this.#failure(`create ${volume}`, 'rbd', outcome);
  }

  async remove(volume: Id<'volume'>): Promise<void> {
    try {
      await this.#moveToTrash(volume);
    } catch (error) {
      if (!(error instanceof PoolHangs)) throw error;
      await this.#removeNow(volume);
    }
    // Without the option, a full pool would keep the object.
    const outcome = await this.#rados('rm', this.#ownerObject(volume), '--force-full');
    if (!outcome.ok && outcome.errno !== notFound) throw this.#failure(`release ${volume}`, 'rados', outcome);
  }

  /** Removes the image without the trash, because a full pool has no space for the note in the trash. */
  async #removeNow(volume: Id<'volume'>): Promise<void> {
    const args = ['rm', '--no-progress', '--pool', this.#settings.rbd_pool, this.#image(volume)];
    const outcome = await this.#run('rbd', args, fullRemovalMs);
    if (!outcome.ok && outcome.errno !== notFound) throw this.#failure(`remove ${volume}`, 'rbd', outcome);
  }

  async #moveToTrash(volume: Id<'volume'>): Promise<void> {
    const outcome = await this.#rbd('trash', 'mv', this.#image(volume));
    if (!outcome.ok && outcome.errno !== notFound) throw this.#failure(`remove ${volume}`, 'rbd', outcome);
  }

  async list(): Promise<Id<'volume'>[]> {
    const outcome = await this.#rbd('ls', '--format', 'json');
    if (!outcome.ok) throw this.#failure('list the volumes', 'rbd', outcome);
    const names = parse(outcome.stdout);
    if (!Array.isArray(names)) throw new Error('the pool gave an answer that is no list');
    return names.flatMap((name: unknown) => {
      const id = typeof name === 'string' ? ourImage.exec(name)?.[1] : undefined;
      return id === undefined ? [] : [id as Id<'volume'>];
    });
  }

  async source(volume: Id<'volume'>): Promise<VolumeSource> {
    const { rbd_pool, user, key_file, monitors } = this.#settings;
    const server = monitors.map((monitor) => {
      const [, host = '', port = ''] = /^\[?([^\]]*)\]?:(\d+)$/.exec(monitor) ?? [];
      if (host === '' || port === '') throw new Error(`monitors: ${JSON.stringify(monitor)} is no address with a port`);
      return { host, port };
    });
    return { kind: 'rbd', pool: rbd_pool, image: this.#image(volume), user, key: await readKey(key_file), server };
  }

  async claim(volume: Id<'volume'>, owner: string): Promise<void> {
    if (!/^[0-9A-Za-z][\w.-]{0,99}$/.test(owner)) throw new Error(`not the name of an owner: ${JSON.stringify(owner)}`);
    const object = this.#ownerObject(volume);
    const take = () => this.#rados('lock', 'get', object, lockName, '--lock-cookie', owner, '--lock-type', 'exclusive');
    let outcome = await take();
    if (outcome.errno === busy) {
      // The lock belongs to a process that has ended. Its cookie tells the owner.
      const lockers = await this.#lockers(volume);
      if (lockers.some(({ cookie }) => cookie === owner)) return;
      await this.#checkClosed(volume);
      for (const { cookie, name } of lockers) {
        const broken = await this.#rados('lock', 'break', object, lockName, name, '--lock-cookie', cookie);
        if (!broken.ok && broken.errno !== notFound) throw this.#failure(`take over ${volume}`, 'rados', broken);
      }
      outcome = await take();
    }
    if (!outcome.ok) throw this.#failure(`claim ${volume}`, 'rados', outcome);
  }

  /** Checks that no client has the volume open. @throws PoolFault */
  async #checkClosed(volume: Id<'volume'>): Promise<void> {
    const outcome = await this.#rbd('status', '--format', 'json', this.#image(volume));
    if (outcome.errno === notFound) return;
    if (!outcome.ok) throw this.#failure(`look at the clients of ${volume}`, 'rbd', outcome);
    const status = parse(outcome.stdout);
    const watchers = isObject(status) ? status.watchers : undefined;
    const addresses = (
      Array.isArray(watchers) ? objects(watchers) : isObject(watchers) ? objects(Object.values(watchers)) : []
    ).map(({ address }) =>
      typeof address === 'string' && /^[0-9a-fA-F.:[\]/]{1,80}$/.test(address) ? address : 'unknown',
    );
    if (addresses.length === 0) return;
    throw new PoolFault(`${volume} is still open at ${addresses.join(', ')}, and belongs to another host`);
  }

  #ownerObject = (volume: Id<'volume'>): string => {
    this.#image(volume);
    return `${prefix}owner.${volume}`;
  };

  async #lockers(volume: Id<'volume'>): Promise<{ readonly name: string; readonly cookie: string }[]> {
    const outcome = await this.#rados('lock', 'info', this.#ownerObject(volume), lockName, '--format', 'json');
    if (outcome.errno === notFound) return [];
    if (!outcome.ok) throw this.#failure(`look at the owner of ${volume}`, 'rados', outcome);
    const info = parse(outcome.stdout);
    return objects(isObject(info) ? info.lockers : undefined).flatMap(({ name, cookie }) =>
      typeof name === 'string' && typeof cookie === 'string' && /^client\.\d+$/.test(name) ? [{ name, cookie }] : [],
    );
  }

  async sweep(): Promise<void> {
    this.#sweep ??= this.#emptyTrash().finally(() => {
      this.#sweep = undefined;
    });
    await this.#sweep;
  }

  async #emptyTrash(): Promise<void> {
    const outcome = await this.#rbd('trash', 'ls', '--format', 'json');
    if (!outcome.ok) throw this.#failure('look at the trash', 'rbd', outcome);
    for (const { id, name } of objects(parse(outcome.stdout))) {
      // The pool may contain images of others.
      if (typeof name !== 'string' || !ourImage.test(name)) continue;
      if (typeof id !== 'string' || !/^[0-9a-f]{1,64}$/.test(id)) continue;
      // Fails while a clone or a client uses the image. The next sweep tries again.
      const options = ['--no-progress', '--pool', this.#settings.rbd_pool, '--image-id', id];
      await this.#run('rbd', ['trash', 'rm', ...options], removalMs);
    }
  }
}
