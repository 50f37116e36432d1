/**
 * Keeps the output of a guest's serial port in two files of at most 1 MiB. The older file is `<path>.1`.
 *
 * QEMU could write the file itself, but without a limit, so a hostile guest could fill the host's disk. The agent
 * therefore reads the socket of the serial port. It reads at most 64 KiB a second beyond the first megabyte, which only
 * slows the port of this guest. QEMU drops the output while no agent runs.
 */
import { appendFile, rename, stat } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { isMissing } from '../../system/files.ts';
import { Mutex } from '../../system/mutex.ts';

/** The maximum size of each of the two files, in bytes. */
export const maxConsoleBytes = 1024 ** 2;
const maxBytesPerSecond = 64 * 1024;

/** Writes the console log of one guest. */
export class ConsoleLog {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #mutex = new Mutex();
  /** The number of bytes that the agent may read at once. It grows with time, up to the limit. */
  #allowanceBytes = maxConsoleBytes;
  #refilledAtMs = performance.now();

  /** @param fault called once, with the error after which the log is no longer written */
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

  /** True if the log is no longer written. */
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
    if (size + chunk.length > maxConsoleBytes) await rename(this.#path, `${this.#path}.1`);
    await appendFile(this.#path, chunk, { mode: 0o600 });
  }

  /** Counts the bytes, and returns the delay until the next read in milliseconds. */
  #charge(bytes: number): number {
    const now = performance.now();
    const refill = ((now - this.#refilledAtMs) / 1000) * maxBytesPerSecond;
    this.#refilledAtMs = now;
    this.#allowanceBytes = Math.min(maxConsoleBytes, this.#allowanceBytes + refill) - bytes;
    return this.#allowanceBytes >= 0 ? 0 : (-this.#allowanceBytes / maxBytesPerSecond) * 1000;
  }

  #resumeAfter(delayMs: number): void {
    if (delayMs === 0) this.#socket.resume();
    else setTimeout(() => this.#socket.resume(), delayMs).unref();
  }

  /** Writes the rest of the output of a process that has ended. Resolves after its end, or after this time in milliseconds. */
  async finish(timeoutMs: number): Promise<void> {
    if (this.#socket.destroyed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#socket.once('close', resolve);
    const timer = setTimeout(resolve, timeoutMs);
    await promise;
    clearTimeout(timer);
    await this.close();
  }

  /** Ends the log. Resolves after everything that was read is written. */
  async close(): Promise<void> {
    this.#socket.destroy();
    await this.#mutex.run(async () => undefined);
  }
}
