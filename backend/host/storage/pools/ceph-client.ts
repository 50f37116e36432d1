/** The calls of one pool of Ceph, with errors that name the pool. */
import type { Readable } from 'node:stream';
import type { Id } from '../../../contract/fields.ts';
import {
  type CephCommandOptions,
  CephCommands,
  type CephOutcome,
  type CephProgram,
  type CephSettings,
} from './ceph-commands.ts';
import { PoolFault } from './pool-driver.ts';

/** Error numbers of Linux (errno(3)). */
export const notFound = 2;
export const busy = 16;
export const exists = 17;

/** Tells whether the value is an object and no list. */
export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Parses the output of a program. A QEMU with the key of the pool may have chosen a part of it. */
export function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('the pool gave an answer that is no JSON');
  }
}

/** Returns the objects of a list. */
export const objects = (value: unknown): Readonly<Record<string, unknown>>[] =>
  Array.isArray(value) ? value.filter(isObject) : [];

/** Tells whether the value is a number of bytes. */
export const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Runs the programs of Ceph for one pool. */
export class CephClient {
  /** The RBD pool. */
  readonly pool: string;
  readonly #commands: CephCommands;

  constructor(pool: Id<'storage_pool'>, settings: CephSettings, options: CephCommandOptions = {}) {
    this.pool = settings.rbd_pool;
    this.#commands = new CephCommands(pool, settings, options);
  }

  /** Runs `rbd` for the pool. */
  rbd(...args: readonly string[]): Promise<CephOutcome> {
    return this.run('rbd', [...args, '--pool', this.pool]);
  }

  /** Runs `rados` for the pool. */
  rados(...args: readonly string[]): Promise<CephOutcome> {
    return this.run('rados', ['--pool', this.pool, ...args]);
  }

  /** Runs a program, which gets no pool. @throws PoolHangs; PoolFault if the pool does not exist */
  async run(program: CephProgram, args: readonly string[], timeoutMs?: number): Promise<CephOutcome> {
    const outcome = await this.#commands.run(program, args, timeoutMs);
    // A missing pool has the error number of a missing image.
    if (!outcome.ok && /opening pool/.test(outcome.message)) throw this.failure('work', program, outcome);
    return outcome;
  }

  /** Returns the content of an image or of its snapshot. The stream fails if the pool does not answer any more. */
  contentOf(image: string): Promise<Readable> {
    return this.#commands.output('rbd', ['export', '--no-progress', '--pool', this.pool, image, '-']);
  }

  /** Returns the error of a program. */
  failure(action: string, program: CephProgram, { errno, message }: CephOutcome): PoolFault {
    const cause = message || `${program} ended with error ${errno}`;
    return new PoolFault(`cannot ${action} in the pool ${this.pool} of Ceph: ${cause}`);
  }

  /** Returns the names of all images. */
  async names(): Promise<string[]> {
    const outcome = await this.rbd('ls', '--format', 'json');
    if (!outcome.ok) throw this.failure('list the images', 'rbd', outcome);
    const names = parse(outcome.stdout);
    if (!Array.isArray(names)) throw new Error('the pool gave an answer that is no list');
    return names.filter((name: unknown) => typeof name === 'string');
  }

  /** Returns the id and the size in bytes of the image that opens by this name; undefined if there is none. */
  async find(name: string): Promise<{ readonly id: string; readonly size: number } | undefined> {
    const outcome = await this.rbd('info', '--format', 'json', name);
    if (outcome.errno === notFound) return undefined;
    if (!outcome.ok) throw this.failure(`look at ${name}`, 'rbd', outcome);
    const info = parse(outcome.stdout);
    if (!isObject(info) || !isSize(info.size)) throw new Error(`the image ${name} has no size`);
    if (typeof info.id !== 'string') throw new Error(`the image ${name} has no id`);
    return { id: info.id, size: info.size };
  }

  /** Returns the size of an image in bytes; undefined if there is none. */
  async sizeOf(name: string): Promise<number | undefined> {
    return (await this.find(name))?.size;
  }

  /** Creates an empty image of this size in bytes. Returns false if the name exists. */
  async create(name: string, size: number): Promise<boolean> {
    const outcome = await this.rbd('create', '--size', `${size}B`, name);
    if (!outcome.ok && outcome.errno !== exists) throw this.failure(`create ${name}`, 'rbd', outcome);
    return outcome.ok;
  }

  /** Grows an image. */
  async grow(name: string, size: number): Promise<void> {
    // `rbd` refuses to shrink without another option.
    const outcome = await this.rbd('resize', '--no-progress', '--size', `${size}B`, name);
    if (!outcome.ok) throw this.failure(`grow ${name}`, 'rbd', outcome);
  }

  /** Moves an image to the trash. Does nothing if there is none. */
  async trash(name: string): Promise<void> {
    const outcome = await this.rbd('trash', 'mv', name);
    if (!outcome.ok && outcome.errno !== notFound) throw this.failure(`remove ${name}`, 'rbd', outcome);
  }

  /** Returns the addresses of the clients that have the image open; none without an image. */
  async clientsOf(name: string): Promise<string[]> {
    const outcome = await this.rbd('status', '--format', 'json', name);
    if (outcome.errno === notFound) return [];
    if (!outcome.ok) throw this.failure(`look at the clients of ${name}`, 'rbd', outcome);
    const status = parse(outcome.stdout);
    const watchers = isObject(status) ? status.watchers : undefined;
    return (
      Array.isArray(watchers) ? objects(watchers) : isObject(watchers) ? objects(Object.values(watchers)) : []
    ).map(({ address }) =>
      typeof address === 'string' && /^[0-9a-fA-F.:[\]/]{1,80}$/.test(address) ? address : 'unknown',
    );
  }
}
