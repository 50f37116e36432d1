/**
 * Pauses a guest for the instant of copies that QEMU does not make itself. QEMU ends all requests of the guest and writes its
 * caches before the copies begin.
 *
 * A guest must not stay paused. It goes on after the time limit in any case. An agent that ends meanwhile leaves a paused
 * guest, which the next agent resumes, because nothing else pauses guests in this way.
 */

import { SnapshotError } from '../hypervisor.ts';
import type { Qmp } from './qmp.ts';

/** The maximum time of a pause, in milliseconds. */
const pausedMs = 10_000;

/** The pauses of one guest. */
export class Pause {
  readonly #limitMs: number;
  #current: Promise<unknown> | undefined;

  constructor(limitMs = pausedMs) {
    this.#limitMs = limitMs;
  }

  /** True while this process keeps the guest paused. */
  get active(): boolean {
    return this.#current !== undefined;
  }

  /**
   * Runs the work while the guest is paused.
   * @throws SnapshotError `too_slow` after the time limit; QmpError if QEMU does not answer
   */
  async during<T>(qmp: Qmp, work: () => Promise<T>): Promise<T> {
    while (this.#current !== undefined) await this.#current.catch(() => undefined);
    const current = this.#run(qmp, work);
    this.#current = current;
    try {
      return await current;
    } finally {
      this.#current = undefined;
    }
  }

  async #run<T>(qmp: Qmp, work: () => Promise<T>): Promise<T> {
    const status = await qmp.status();
    const late = Promise.withResolvers<never>();
    late.promise.catch(() => undefined);
    const timer = setTimeout(() => {
      const message = 'The storage pools did not make their snapshots while the guest was paused.';
      late.reject(new SnapshotError('too_slow', message, { retry: true }));
    }, this.#limitMs);
    try {
      await qmp.execute('stop', {}, this.#limitMs);
      return await Promise.race([work(), late.promise]);
    } finally {
      clearTimeout(timer);
      // A guest that has paused because of an error of its disk goes on when the agent repairs it.
      if (status === 'running') await qmp.execute('cont');
    }
  }
}
