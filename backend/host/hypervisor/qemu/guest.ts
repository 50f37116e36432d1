/**
 * A QEMU process that the agent watches and controls: started just now, or found again.
 *
 * The process is the truth, the connections are conveniences: its end is noticed when QMP closes, and by looking at
 * /proc once a second where QMP cannot be had.
 */
import { stat, truncate } from 'node:fs/promises';
import { isMissing } from '../../system/files.ts';
import { isAlive, type Process, signal, waitForExit } from '../../system/processes.ts';
import type { ExitCause } from '../hypervisor.ts';
import { ConsoleLog } from './console-log.ts';
import { Qmp, QmpError, type QmpEvent } from './qmp.ts';
import { readable, virtualSizeOf } from './qmp-messages.ts';
import type { VmPaths } from './vm-directory.ts';

/** QEMU's own messages; guests can provoke some. */
const logLimit = 1024 ** 2;
/** Milliseconds that a VM which does not answer may take of the agent's time, for each of its steps. */
const patience = 2_000;
const diskFault = 'the disk has an error and the VM is paused';

async function truncateLog(path: string): Promise<void> {
  try {
    const { size } = await stat(path);
    if (size > logLimit) await truncate(path, 0);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

export class Guest {
  readonly process: Process;
  readonly #paths: VmPaths;
  readonly #fault: (error: unknown, message: string) => void;
  /** When the process has ended. */
  readonly ended: Promise<ExitCause>;
  #settle: (cause: ExitCause) => void = () => undefined;
  #qmp: Qmp | undefined;
  #connecting: Promise<Qmp> | undefined;
  #console: ConsoleLog | undefined;
  #cause: ExitCause = 'crash';
  #stopping = false;
  #released = false;
  /** Faults that were told. A hostile process can repeat them as often as it likes. */
  readonly #told = new Set<string>();
  readonly #timer: NodeJS.Timeout;

  constructor(process: Process, paths: VmPaths, fault: (error: unknown, message: string) => void) {
    this.process = process;
    this.#paths = paths;
    this.#fault = (error, message) => {
      if (this.#told.has(message)) return;
      this.#told.add(message);
      fault(error, message);
    };
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#timer = setInterval(() => this.#look(), 1_000);
    this.#timer.unref();
  }

  #look(): void {
    isAlive(this.process).then(
      (alive) => {
        if (alive) return;
        this.release();
        this.#settle(this.#cause);
      },
      (error: unknown) => this.#fault(error, 'cannot look at the process'),
    );
  }

  /** Connects to it unless connected. Rejects with QmpError when QEMU does not answer. */
  async connect(milliseconds: number): Promise<Qmp> {
    if (this.#qmp && !this.#qmp.closed) return this.#qmp;
    // QEMU serves one client, so a second connection beside one that is being made would wait for ever.
    this.#connecting ??= this.#open(milliseconds).finally(() => {
      this.#connecting = undefined;
    });
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new QmpError('QEMU does not answer')), milliseconds);
    try {
      return await Promise.race([this.#connecting, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #open(milliseconds: number): Promise<Qmp> {
    const qmp = await Qmp.connect(this.#paths.qmp, milliseconds);
    if (this.#released) {
      qmp.close();
      throw new QmpError('the VM is no longer watched');
    }
    qmp.on('event', (event) => this.#note(event));
    qmp.on('close', () => {
      // The socket closes a moment before the process is gone.
      waitForExit(this.process, patience).then(
        () => this.#look(),
        (error: unknown) => this.#fault(error, 'cannot look at the process'),
      );
    });
    this.#qmp = qmp;
    if (!this.#console || this.#console.closed) {
      this.#console = new ConsoleLog(this.#paths.serial, this.#paths.console, (error) =>
        this.#fault(error, 'the console is not logged'),
      );
    }
    return qmp;
  }

  #note({ event, data }: QmpEvent): void {
    if (event === 'SHUTDOWN') {
      this.#cause = data.reason === 'guest-shutdown' ? 'guest_shutdown' : 'crash';
    }
    // A process that is told to quit takes the disk away from a guest that still reads.
    if (event === 'BLOCK_IO_ERROR' && !this.#stopping) {
      this.#fault(new Error(`${readable(data.operation)} failed: ${readable(data.reason)}`), diskFault);
    }
  }

  /** Lets the guest execute, with a disk of at least `size` bytes. */
  async resume(size: number, milliseconds: number): Promise<void> {
    // An attempt that is under way may have less time.
    await this.#connecting?.catch(() => undefined);
    const qmp = await this.connect(milliseconds);
    if ((await qmp.status()) === 'running') return;
    const present = virtualSizeOf(await qmp.execute('query-named-block-nodes', { flat: true }), 'disk');
    if (present !== undefined && present < size) await qmp.execute('block_resize', { 'node-name': 'disk', size });
    await qmp.execute('cont');
    const status = await qmp.status();
    if (status !== 'running') throw new QmpError(`the guest does not execute: ${status}`);
  }

  /** To be called now and then: repairs connections, bounds the log, lets a guest go on that a full disk had stopped. */
  async maintain(): Promise<void> {
    await truncateLog(this.#paths.log);
    const qmp = await this.connect(patience);
    if ((await qmp.status(patience)) === 'io-error') await qmp.execute('cont', {}, patience);
    else this.#told.delete(diskFault);
  }

  /** Asks the guest to shut down, again every few seconds: one that is still booting does not hear it. */
  async #powerDown(graceSeconds: number): Promise<boolean> {
    const deadline = performance.now() + graceSeconds * 1_000;
    while (performance.now() < deadline) {
      try {
        await (await this.connect(1_000)).execute('system_powerdown', {}, 1_000);
      } catch (error) {
        if (!(error instanceof QmpError)) throw error;
        // It has just ended, or does not answer: time will tell which.
      }
      if (await waitForExit(this.process, Math.min(5_000, Math.max(0, deadline - performance.now())))) return true;
    }
    return false;
  }

  /** Returns when the process has ended: without grace within some two seconds, even if QEMU hangs. */
  async stop(graceSeconds: number): Promise<void> {
    if (graceSeconds > 0 && (await this.#powerDown(graceSeconds))) return;
    this.#stopping = true;
    try {
      // Not from the guest's view, but for the host's files an orderly end.
      await (await this.connect(500)).execute('quit', {}, 500);
    } catch (error) {
      // It hangs, or its socket is gone: SIGKILL needs no consent.
      if (!(error instanceof QmpError)) this.#fault(error, 'QEMU cannot be told to quit');
    }
    if (await waitForExit(this.process, 1_000)) return;
    await signal(this.process, 'SIGKILL');
    if (!(await waitForExit(this.process, 10_000))) {
      throw new Error(`QEMU (process ${this.process.pid}) does not end after SIGKILL`);
    }
  }

  /** Stops watching. The process goes on. */
  release(): void {
    this.#released = true;
    clearInterval(this.#timer);
    this.#qmp?.close();
    this.#console?.close().catch((error: unknown) => this.#fault(error, 'the console is not logged'));
  }
}
