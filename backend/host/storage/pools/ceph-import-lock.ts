/**
 * The lock of a host that imports an image into a pool of Ceph: a lock on the object `<image>.import`, which ends by itself.
 *
 * Each program of Ceph is another client, so no program can renew an exclusive lock. The lock is therefore a shared one with
 * a random tag. Only programs with this tag share it, and each renewal adds a holder with a later end.
 */
import { randomBytes } from 'node:crypto';
import { busy, type CephClient, notFound } from './ceph-client.ts';

const lockName = 'import';

/** The lock of one import. */
export class CephImportLock {
  readonly #client: CephClient;
  readonly #object: string;
  readonly #seconds: number;
  readonly #tag = randomBytes(8).toString('hex');

  /** @param seconds the time after which the lock ends without renewal */
  constructor(client: CephClient, image: string, seconds: number) {
    this.#client = client;
    this.#object = `${image}.import`;
    this.#seconds = seconds;
  }

  /** Takes the lock, or renews it. Returns false if another import has it. */
  async take(): Promise<boolean> {
    const tag = ['--lock-cookie', 'import', '--lock-type', 'shared', '--lock-tag', this.#tag];
    const options = [...tag, '--lock-duration', `${this.#seconds}`];
    const outcome = await this.#client.rados('lock', 'get', this.#object, lockName, ...options);
    if (!outcome.ok && outcome.errno !== busy) throw this.#client.failure(`lock ${this.#object}`, 'rados', outcome);
    return outcome.ok;
  }

  /** Removes the object of an import that a crash has ended. Returns false if an import has the lock. */
  async clear(): Promise<boolean> {
    if (!(await this.take())) return false;
    const outcome = await this.#client.rados('rm', this.#object);
    if (!outcome.ok && outcome.errno !== notFound)
      throw this.#client.failure(`remove ${this.#object}`, 'rados', outcome);
    return true;
  }

  /** Renews the lock during the work, and frees it afterwards. */
  async hold(work: () => Promise<void>): Promise<void> {
    // A renewal that fails is no fault: if two hosts import the image, the second import is discarded.
    let renewal = Promise.resolve(true);
    const renew = () => {
      renewal = renewal.then(() => this.take()).catch(() => false);
      return renewal;
    };
    const timer = setInterval(() => void renew(), (this.#seconds * 1_000) / 3);
    try {
      await work();
    } finally {
      clearInterval(timer);
      // The object may have the lock of another host by now. After a renewal it has not, for a time.
      if (await renew()) await this.#client.rados('rm', this.#object).catch(() => undefined);
    }
  }
}
