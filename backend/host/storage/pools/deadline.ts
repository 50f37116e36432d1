/**
 * Ends calls of a pool that hangs. A process that waits for a file server cannot be killed, so a call may end before its
 * process does. The number of such processes is bounded: while they exist, further calls fail at once.
 */
import { PoolFault } from './pool-driver.ts';

const maxHung = 2;

/** Returns the error of a pool that hangs. */
const noAnswer = () => new PoolFault('The storage pool does not answer.');

/** The calls of one pool. */
export class Deadline {
  readonly #milliseconds: number;
  #hung = 0;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  /**
   * Waits for the call, at most until the deadline.
   * @throws PoolFault if the pool does not answer
   */
  async run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#hung >= maxHung) throw noAnswer();
    const late = Promise.withResolvers<never>();
    const running = call();
    const timer = setTimeout(() => {
      this.#hung++;
      const end = () => {
        this.#hung--;
      };
      running.then(end, end);
      late.reject(noAnswer());
    }, this.#milliseconds);
    try {
      return await Promise.race([running, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }
}
