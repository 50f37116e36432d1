/**
 * Freezes the file systems of a guest for the instant of a copy, over its guest agent.
 *
 * A guest must not stay frozen. The mark, a file that ends with the guest's process, is there from before the freeze until
 * the guest has confirmed the thaw. So the next agent thaws a guest that this one has left frozen. A guest agent that hung
 * carries out a freeze when it wakes up, long after its time limit. Therefore nothing but thaws is sent after a freeze until
 * the guest says that its file systems are thawed. A thaw of thawed file systems does nothing.
 */
import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type Backoff, backoffMs } from '../../../store/backoff.ts';
import { readIfThere, writeAtomically } from '../../system/files.ts';
import type { Mutex } from '../../system/mutex.ts';
import { SnapshotError } from '../hypervisor.ts';
import { GuestAgentError, GuestAgentRefusal, withGuestAgent } from './guest-agent.ts';

/** The limits of a freeze, in milliseconds. */
export interface FreezeLimits {
  /** The time in which the guest must have frozen its file systems. */
  readonly freezeMs: number;
  /** The time from the request to freeze until the request to thaw. */
  readonly frozenMs: number;
  /** The time of one attempt to thaw. */
  readonly thawMs: number;
  /** The delays between the attempts to thaw. */
  readonly retry: Backoff;
}

const defaultLimits: FreezeLimits = {
  freezeMs: 6_000,
  frozenMs: 10_000,
  thawMs: 5_000,
  retry: { firstMs: 500, maxMs: 30_000 },
};

/** A guest whose file systems can be frozen. */
export interface FreezableGuest {
  /** The path of the guest agent's socket. */
  readonly agent: string;
  /** The path of the mark, in a directory that is removed before the next process of the VM. */
  readonly mark: string;
  /** Serializes the sessions with the guest agent. */
  readonly calls: Mutex;
  /** Tells whether the guest executes and a program in it has opened the port of the guest agent. */
  listens(): Promise<boolean>;
  /** Records a fault for the operator. */
  fault(error: unknown, message: string): void;
}

const failure = (message: string, cause?: unknown): SnapshotError =>
  new SnapshotError('freeze_failed', message, { retry: true, ...(cause === undefined ? {} : { cause }) });

/** The file systems of one guest. */
export class FileSystems {
  readonly #guest: FreezableGuest;
  readonly #limits: FreezeLimits;
  readonly #released = new AbortController();
  #thawing: Promise<void> | undefined;
  /** A freeze was requested, and the guest has not confirmed the thaw. */
  #asked = false;

  constructor(guest: FreezableGuest, limits: FreezeLimits = defaultLimits) {
    this.#guest = guest;
    this.#limits = limits;
  }

  /** True while the guest may be frozen and nothing waits for that. Nothing else may then be sent to the guest agent. */
  get thawPending(): boolean {
    return this.#thawing !== undefined;
  }

  /**
   * Runs `begin` while the file systems are frozen. They are thawed after the time limit in any case, and then the call
   * fails.
   * @throws SnapshotError `no_guest_agent` or `freeze_failed`, if the file systems were not frozen during all of `begin`
   */
  during<T>(begin: () => Promise<T>): Promise<T> {
    return this.#guest.calls.run(async () => {
      if (this.#released.signal.aborted) throw failure('The agent ends.');
      if (this.thawPending) throw failure('The guest has not confirmed yet that its file systems are thawed.');
      if (!(await this.#guest.listens())) {
        throw new SnapshotError('no_guest_agent', 'No guest agent runs in the VM.', { retry: true });
      }
      try {
        return await this.#freeze(begin);
      } catch (error) {
        if (!(error instanceof GuestAgentError)) throw error;
        throw failure(`The guest did not freeze its file systems: ${error.message}.`, error);
      } finally {
        if (this.#asked && !(await this.#tryThaw())) this.#startThawing();
      }
    });
  }

  async #freeze<T>(begin: () => Promise<T>): Promise<T> {
    const { agent, mark } = this.#guest;
    const { freezeMs, frozenMs } = this.#limits;
    const late = Promise.withResolvers<never>();
    late.promise.catch(() => undefined);
    const { signal } = this.#released;
    const ends = () => late.reject(failure('The agent ends.'));
    signal.addEventListener('abort', ends);
    let timer: NodeJS.Timeout | undefined;
    let beganMs = 0;
    try {
      const count = await withGuestAgent(agent, freezeMs, async (session) => {
        const status = await session.call('guest-fsfreeze-status');
        if (status !== 'thawed') throw new GuestAgentError('its file systems are frozen already');
        await writeAtomically(mark, '');
        const tooLate = () => late.reject(failure('The copy did not begin before the file systems were thawed again.'));
        timer = setTimeout(tooLate, frozenMs);
        beganMs = performance.now();
        this.#asked = true;
        return session.call('guest-fsfreeze-freeze');
      });
      if (!Number.isSafeInteger(count) || Number(count) <= 0) throw new GuestAgentError('it froze no file system');
      const result = await Promise.race([begin(), late.promise]);
      // Windows and scripts in the guest may thaw by themselves. The port is free for the thaw after the time limit.
      const leftMs = Math.max(1, beganMs + frozenMs - performance.now());
      const status = await withGuestAgent(agent, leftMs, (session) => session.call('guest-fsfreeze-status'));
      if (status !== 'frozen') throw new GuestAgentError('its file systems did not stay frozen');
      return result;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', ends);
    }
  }

  /** Asks the guest once to thaw. Returns true if it has confirmed that its file systems are thawed. */
  async #tryThaw(): Promise<boolean> {
    const { agent, mark, listens, fault } = this.#guest;
    try {
      if (!(await listens.call(this.#guest))) return false;
      const thawed = await withGuestAgent(agent, this.#limits.thawMs, async (session) => {
        await session.call('guest-fsfreeze-thaw').catch(ignoreRefusal);
        try {
          return (await session.call('guest-fsfreeze-status')) === 'thawed';
        } catch (error) {
          // An agent that cannot freeze cannot tell either, for example after a boot of another system in the VM.
          if (error instanceof GuestAgentRefusal) return true;
          throw error;
        }
      });
      if (!thawed) return false;
      await rm(mark, { force: true });
      this.#asked = false;
      return true;
    } catch (error) {
      if (!(error instanceof GuestAgentError)) fault.call(this.#guest, error, 'the agent cannot reach the guest agent');
      return false;
    }
  }

  /** Goes on with the thaw that an earlier agent has not completed. */
  async continueThaw(): Promise<void> {
    if ((await readIfThere(this.#guest.mark)) !== undefined) this.#startThawing(0);
  }

  #startThawing(failures = 1): void {
    if (this.#thawing || this.#released.signal.aborted) return;
    this.#guest.fault(
      new Error('no confirmation'),
      'the file systems of the guest may be frozen; the agent thaws them',
    );
    this.#thawing = this.#thaw(failures).finally(() => {
      this.#thawing = undefined;
    });
  }

  async #thaw(failures: number): Promise<void> {
    const { signal } = this.#released;
    for (let failed = failures; !signal.aborted; failed++) {
      if (failed > 0) {
        const delayMs = backoffMs(failed, this.#limits.retry);
        await delay(delayMs, undefined, { signal, ref: false }).catch(() => undefined);
      }
      if (signal.aborted || (await this.#guest.calls.run(() => this.#tryThaw()))) return;
    }
  }

  /**
   * Ends a freeze early, thaws the guest, and stops. If the guest does not confirm the thaw, the next agent goes on with it:
   * nobody knows when that agent starts, so this one tries once more.
   */
  async close(): Promise<void> {
    this.#released.abort();
    await this.#guest.calls.run(async () => {
      if (this.#asked) await this.#tryThaw();
    });
  }

  /** Stops the attempts to thaw a guest that ends. */
  release(): void {
    this.#released.abort();
  }
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof GuestAgentRefusal)) throw error;
}
