/**
 * Keeps what a guest writes to its serial port, in two files of at most 1 MiB: the older part moves to `<path>.1`.
 *
 * QEMU could write the file itself, but without a bound: a hostile guest would fill the host's disk. So the agent
 * reads the serial port's socket. It reads at most 64 KiB a second beyond the first megabyte; the guest's port is
 * slower then, which is its own affair. While no agent runs, QEMU drops the output.
 */
import { appendFile, rename, stat } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { isMissing } from '../../system/files.ts';
import { Mutex } from '../../system/mutex.ts';

export const consoleLimit = 1024 ** 2;
const bytesPerSecond = 64 * 1024;

export class ConsoleLog {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #mutex = new Mutex();
  /** Bytes that may be read at once; fills up with time. */
  #allowance = consoleLimit;
  #filledAt = performance.now();

  /** `fault` is called with what keeps the log from being written, once. */
  constructor(socketPath: string, path: string, fault: (error: unknown) => void) {
    this.#path = path;
    this.#socket = connect(socketPath);
    this.#socket.unref();
    this.#socket.on('error', fault);
    this.#socket.on('data', (chunk) => {
      this.#socket.pause();
      this.#mutex
        .run(() => this.#append(chunk))
        .then(
          () => this.#resumeAfter(this.#charge(chunk.length)),
          (error: unknown) => {
            this.#socket.destroy();
            fault(error);
          },
        );
    });
  }

  get closed(): boolean {
    return this.#socket.destroyed;
  }

  async #append(chunk: Buffer): Promise<void> {
    let size = 0;
    try {
      ({ size } = await stat(this.#path));
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    if (size + chunk.length > consoleLimit) await rename(this.#path, `${this.#path}.1`);
    await appendFile(this.#path, chunk, { mode: 0o600 });
  }

  /** Milliseconds to wait until the next read. */
  #charge(bytes: number): number {
    const now = performance.now();
    const refill = ((now - this.#filledAt) / 1000) * bytesPerSecond;
    this.#filledAt = now;
    this.#allowance = Math.min(consoleLimit, this.#allowance + refill) - bytes;
    return this.#allowance >= 0 ? 0 : (-this.#allowance / bytesPerSecond) * 1000;
  }

  #resumeAfter(milliseconds: number): void {
    if (milliseconds === 0) this.#socket.resume();
    else setTimeout(() => this.#socket.resume(), milliseconds).unref();
  }

  /** When all that was read is written. */
  async close(): Promise<void> {
    this.#socket.destroy();
    await this.#mutex.run(async () => undefined);
  }
}
