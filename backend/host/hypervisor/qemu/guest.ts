/**
 * A QEMU process that the agent watches and controls. The agent has just started the process, or has found it again.
 *
 * Only the process itself determines whether the VM runs; its connections may fail. The agent notices the end of the
 * process by the end of QMP, or by a check of /proc once a second.
 */
import { stat, truncate } from 'node:fs/promises';
import type { Id } from '../../../contract/fields.ts';
import type { VolumeOutcome, VolumeSpec } from '../../../model/vm/volumes.ts';
import { isMissing } from '../../system/files.ts';
import { Mutex } from '../../system/mutex.ts';
import { isAlive, type Process, signal, waitForExit } from '../../system/processes.ts';
import type { ExitCause } from '../hypervisor.ts';
import { agentChardev } from './command-line.ts';
import { ConsoleLog } from './console-log.ts';
import { addFile, type CopyOptions, copyDisks, endCopies } from './disk-copy.ts';
import { FileSystems } from './freeze.ts';
import { GuestAgentError, tellsUseOfDisks, volumeUses } from './guest-agent.ts';
import { lookAtDevices, type ProcessInterface, setInterfaces } from './guest-interfaces.ts';
import { prepareVolume, type VolumeHost, volumeSource } from './guest-volumes.ts';
import { passDescriptor, passTap } from './pass-descriptor.ts';
import { Pause } from './pause.ts';
import { Qmp, QmpError, type QmpEvent } from './qmp.ts';
import { isObject, readable, virtualSizeOf } from './qmp-messages.ts';
import type { VmPaths } from './vm-directory.ts';
import { descriptorSet, setVolumes, type VolumeSizes, type VolumeSupply } from './volumes.ts';

/** The maximum size of the log with QEMU's messages, in bytes. Guests can cause some of the messages. */
const maxLogBytes = 1024 ** 2;
/** The maximum time in milliseconds that one step of the agent waits for an answer of QEMU. */
const answerTimeoutMs = 2_000;
/** The interval in milliseconds between two signs of life of the guest agent that the host asks for. */
const agentCheckMs = 30_000;
/** The time in milliseconds after the last answer of the guest agent during which it counts as present. */
const agentPresentMs = 60_000;
const diskFault = 'the disk has an error and the VM is paused';
/** The message of a fault of the console log. */
const consoleFault = 'the agent cannot write the console log';
/** The maximum time in milliseconds for the rest of the console of an ended process, which a guest may have filled. */
const consoleEndMs = 1_000;

async function truncateLog(path: string): Promise<void> {
  try {
    const { size } = await stat(path);
    if (size > maxLogBytes) await truncate(path, 0);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** The process of one VM, with its connections. */
export class Guest {
  readonly process: Process;
  readonly #paths: VmPaths;
  readonly #fault: (error: unknown, message: string) => void;
  /** Resolves with the cause after the process has ended. */
  readonly ended: Promise<ExitCause>;
  #resolveEnded: (cause: ExitCause) => void = () => undefined;
  #qmp: Qmp | undefined;
  #connecting: Promise<Qmp> | undefined;
  #console: ConsoleLog | undefined;
  readonly #volumeSizes: VolumeSizes = new Map();
  #exitCause: ExitCause = 'crash';
  #stopping = false;
  #released = false;
  readonly #agentCalls = new Mutex();
  readonly #pause = new Pause();
  readonly #fileSystems: FileSystems;
  #agentAnsweredMs = Number.NEGATIVE_INFINITY;
  /** The faults that are logged already. A hostile process could otherwise fill the log by repeating a fault. */
  readonly #loggedFaults = new Set<string>();
  readonly #timer: NodeJS.Timeout;

  constructor(process: Process, paths: VmPaths, fault: (error: unknown, message: string) => void) {
    this.process = process;
    this.#paths = paths;
    this.#fault = (error, message) => {
      if (this.#loggedFaults.has(message)) return;
      this.#loggedFaults.add(message);
      fault(error, message);
    };
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#fileSystems = new FileSystems({
      agent: paths.agent,
      mark: paths.frozen,
      calls: this.#agentCalls,
      listens: () => this.#agentListens(),
      fault: (error, message) => this.#fault(error, message),
    });
    this.#timer = setInterval(() => this.#checkProcess(), 1_000);
    this.#timer.unref();
  }

  #checkProcess(): void {
    isAlive(this.process).then(
      async (alive) => {
        if (alive) return;
        // The last lines of the console tell why the guest has ended.
        await this.#console?.finish(consoleEndMs).catch((error: unknown) => this.#fault(error, consoleFault));
        this.release();
        this.#resolveEnded(this.#exitCause);
      },
      (error: unknown) => this.#fault(error, 'cannot look at the process'),
    );
  }

  /**
   * Returns the connection to QEMU, and opens it if there is none.
   * @throws QmpError if QEMU does not answer in time
   */
  async connect(timeoutMs: number): Promise<Qmp> {
    if (this.#qmp && !this.#qmp.closed) return this.#qmp;
    // QEMU serves one client. A second connection during the first would wait forever.
    this.#connecting ??= this.#open(timeoutMs).finally(() => {
      this.#connecting = undefined;
    });
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new QmpError('QEMU does not answer')), timeoutMs);
    try {
      return await Promise.race([this.#connecting, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #open(timeoutMs: number): Promise<Qmp> {
    const qmp = await Qmp.connect(this.#paths.qmp, timeoutMs);
    if (this.#released) {
      qmp.close();
      throw new QmpError('the agent no longer watches the VM');
    }
    qmp.on('event', (event) => this.#onEvent(event));
    qmp.on('close', () => {
      // The socket closes shortly before the process ends.
      waitForExit(this.process, answerTimeoutMs).then(
        () => this.#checkProcess(),
        (error: unknown) => this.#fault(error, 'cannot look at the process'),
      );
    });
    this.#qmp = qmp;
    if (!this.#console || this.#console.closed) {
      this.#console = new ConsoleLog(this.#paths.serial, this.#paths.console, (error) =>
        this.#fault(error, consoleFault),
      );
    }
    return qmp;
  }

  #onEvent({ event, data }: QmpEvent): void {
    if (event === 'SHUTDOWN') {
      this.#exitCause = data.reason === 'guest-shutdown' ? 'guest_shutdown' : 'crash';
    }
    // A quitting process closes the disk while the guest still reads, which is no fault of the disk.
    if (event === 'BLOCK_IO_ERROR' && !this.#stopping) {
      this.#fault(new Error(`${readable(data.operation)} failed: ${readable(data.reason)}`), diskFault);
    }
  }

  /**
   * Gives the guest these volumes and takes all others away.
   * @throws QmpError if QEMU does not answer in time
   */
  async setVolumes(volumes: readonly VolumeSpec[], host: VolumeHost, timeoutMs: number): Promise<VolumeOutcome> {
    const qmp = await this.#afterAttempt(timeoutMs);
    const { files: monitor } = this.#paths;
    const supply: VolumeSupply = {
      prepare: (volume) => prepareVolume(host, volume, { pid: this.process.pid, monitor }),
      source: (volume) => volumeSource(host, volume),
      pass: ({ id }, path) => passDescriptor(monitor, path, id),
    };
    return setVolumes(qmp, volumes, supply, this.#volumeSizes);
  }

  /** Returns the names of the devices of the process. @throws QmpError if QEMU does not answer in time */
  async devices(): Promise<ReadonlySet<string>> {
    return lookAtDevices(await this.#afterAttempt(answerTimeoutMs));
  }

  /**
   * Gives the guest the interfaces of the plan, and asks it to release those that are to go.
   * @throws QmpError if QEMU does not answer in time
   */
  async setInterfaces(plan: readonly ProcessInterface[], faulty: ReadonlySet<string>) {
    const qmp = await this.#afterAttempt(answerTimeoutMs);
    return setInterfaces(qmp, plan, faulty, (tap, netdev) => passTap(this.#paths.files, tap, netdev));
  }

  /**
   * Ends the copies that an earlier agent has begun, and resumes a guest that it has left paused.
   * @throws QmpError if QEMU does not end them in time
   */
  async endCopies(): Promise<void> {
    const qmp = await this.connect(answerTimeoutMs);
    if ((await qmp.status(answerTimeoutMs)) === 'paused') await qmp.execute('cont', {}, answerTimeoutMs);
    await endCopies(qmp);
  }

  /** Thaws the guest in the background, if an earlier agent has left it frozen. */
  continueThaw(): Promise<void> {
    return this.#fileSystems.continueThaw();
  }

  /** Runs the work while the file systems of the guest are frozen. @throws SnapshotError if the guest does not freeze */
  whileFrozen<T>(work: () => Promise<T>): Promise<T> {
    return this.#fileSystems.during(work);
  }

  /** Thaws the file systems of the guest if they may be frozen, because the agent ends. */
  thaw(): Promise<void> {
    return this.#fileSystems.close();
  }

  /**
   * Copies block nodes of the guest as they are at one instant, to existing files of the same sizes.
   * @param instant `freeze`: freeze the file systems of the guest at the instant. `take`: copies of the same instant that
   * QEMU does not make; the guest is paused meanwhile
   * @throws QmpError if QEMU does not have a node, or if the copy fails; SnapshotError if the guest does not freeze
   */
  async copyDisks(
    disks: readonly { readonly node: string; readonly target: string }[],
    { freeze, take }: { readonly freeze: boolean; readonly take?: (() => Promise<void>) | undefined },
    options: Omit<CopyOptions, 'atInstant'>,
  ): Promise<Date> {
    const qmp = await this.connect(answerTimeoutMs);
    const { files: monitor } = this.#paths;
    const copies = disks.map(({ node, target }) => ({
      node,
      open: async (mark: string) => {
        await passDescriptor(monitor, target, mark);
        const set = descriptorSet(await qmp.execute('query-fdsets'), mark);
        if (set === undefined) throw new QmpError('QEMU has not kept a descriptor');
        await addFile(qmp, mark, `/dev/fdset/${set}`);
      },
    }));
    const atInstant = (begin: () => Promise<Date>) => {
      const run = take === undefined ? begin : () => this.#pause.during(qmp, () => take().then(begin));
      return freeze ? this.whileFrozen(run) : run();
    };
    return copyDisks(qmp, copies, { ...options, atInstant });
  }

  /**
   * Grows the disk of a guest that does not execute yet, to at least `size` bytes. Returns true if it executes already.
   * @throws QmpError if QEMU does not answer in time
   */
  async growDisk(size: number, timeoutMs: number): Promise<boolean> {
    if (await this.executes(timeoutMs)) return true;
    const qmp = await this.connect(timeoutMs);
    const present = virtualSizeOf(await qmp.execute('query-named-block-nodes', { flat: true }), 'disk');
    if (present !== undefined && present < size) await qmp.execute('block_resize', { 'node-name': 'disk', size });
    return false;
  }

  /** Tells whether the guest executes. @throws QmpError if QEMU does not answer in time */
  async executes(timeoutMs: number): Promise<boolean> {
    return (await (await this.#afterAttempt(timeoutMs)).status()) === 'running';
  }

  /**
   * Resets the machine of a guest that has never executed. A guest that is paused loses nothing. The firmware then sees devices that have come since the start
   * of the process, and their boot index.
   * @throws QmpError if QEMU does not answer in time
   */
  async resetIfNew(timeoutMs: number): Promise<void> {
    const qmp = await this.connect(timeoutMs);
    if ((await qmp.status()) === 'prelaunch') await qmp.execute('system_reset', {}, timeoutMs);
  }

  /**
   * Lets the guest execute.
   * @throws QmpError if QEMU does not answer in time, or if the guest does not execute
   */
  async resume(timeoutMs: number): Promise<void> {
    const qmp = await this.#afterAttempt(timeoutMs);
    await qmp.execute('cont');
    let status: string;
    try {
      status = await qmp.status();
    } catch (error) {
      // A guest that shuts down at once has executed. QEMU then ends before it answers.
      if (this.#exitCause === 'guest_shutdown') return;
      throw error;
    }
    if (status !== 'running') throw new QmpError(`the guest does not execute: ${status}`);
  }

  /** Returns the connection to QEMU. A current attempt may have a shorter timeout, so it ends first. */
  async #afterAttempt(timeoutMs: number): Promise<Qmp> {
    await this.#connecting?.catch(() => undefined);
    return this.connect(timeoutMs);
  }

  /**
   * Repairs the connections, limits the log, and resumes a guest that a full disk or an earlier agent has paused. The driver
   * calls it every ten seconds.
   * @throws QmpError if QEMU does not answer
   */
  async maintain(): Promise<void> {
    await truncateLog(this.#paths.log);
    const qmp = await this.connect(answerTimeoutMs);
    const status = await qmp.status(answerTimeoutMs);
    const isLeftPaused = status === 'paused' && !this.#pause.active;
    if (status === 'io-error' ? !this.#pause.active : isLeftPaused) await qmp.execute('cont', {}, answerTimeoutMs);
    if (status !== 'io-error') this.#loggedFaults.delete(diskFault);
    if (status === 'running') await this.#checkAgent(qmp);
  }

  /** Tells whether a program in the guest has opened the port of the guest agent. The guest is not asked. */
  async #agentIsOpen(qmp: Qmp): Promise<boolean> {
    const ports = await qmp.execute('query-chardev', {}, answerTimeoutMs);
    if (!Array.isArray(ports)) throw new QmpError('the answer of QEMU is no list of ports');
    return ports.some(
      (port: unknown) => isObject(port) && port.label === agentChardev && port['frontend-open'] === true,
    );
  }

  /** Tells whether the guest executes and a program in it has opened the port of the guest agent. */
  async #agentListens(): Promise<boolean> {
    const qmp = await this.connect(answerTimeoutMs);
    return (await qmp.status(answerTimeoutMs)) === 'running' && (await this.#agentIsOpen(qmp));
  }

  /** Asks the guest agent for a sign of life, if the last one is old. */
  async #checkAgent(qmp: Qmp): Promise<void> {
    if (this.#fileSystems.thawPending || performance.now() - this.#agentAnsweredMs < agentCheckMs) return;
    if (!(await this.#agentIsOpen(qmp))) return;
    try {
      const tells = await this.#agentCalls.run(() => tellsUseOfDisks(this.#paths.agent, answerTimeoutMs));
      if (tells) this.#agentAnsweredMs = performance.now();
    } catch (error) {
      if (!(error instanceof GuestAgentError)) throw error;
    }
  }

  /** True if the guest agent has answered lately. */
  get hasAgent(): boolean {
    return performance.now() - this.#agentAnsweredMs < agentPresentMs;
  }

  /**
   * Asks the guest which of the volumes it uses. Returns a sentence for each volume that it uses, or may use; undefined if
   * no guest agent listens.
   */
  async volumeUses(volumes: readonly Id<'volume'>[]): Promise<Map<Id<'volume'>, string | undefined> | undefined> {
    if (!(await this.#agentListens())) return undefined;
    return this.#agentCalls.run(async () => {
      if (!this.#fileSystems.thawPending) return volumeUses(this.#paths.agent, volumes);
      const unclear = 'The guest may use it, because its file systems may be frozen.';
      return new Map(volumes.map((id) => [id, unclear]));
    });
  }

  /** Asks the guest to shut down. Repeats the request every few seconds, because a booting guest ignores it. */
  async #powerDown(graceSeconds: number): Promise<boolean> {
    const deadline = performance.now() + graceSeconds * 1_000;
    while (performance.now() < deadline) {
      try {
        await (await this.connect(1_000)).execute('system_powerdown', {}, 1_000);
      } catch (error) {
        if (!(error instanceof QmpError)) throw error;
        // The process has just ended, or it does not answer. The wait below shows which.
      }
      if (await waitForExit(this.process, Math.min(5_000, Math.max(0, deadline - performance.now())))) return true;
    }
    return false;
  }

  /**
   * Ends the process, after the guest had `graceSeconds` for its shutdown. Returns after the end of the process.
   * Without grace, that takes about two seconds even if QEMU hangs.
   * @throws Error if the process still runs 10 s after SIGKILL
   */
  async stop(graceSeconds: number): Promise<void> {
    if (graceSeconds > 0 && (await this.#powerDown(graceSeconds))) return;
    this.#stopping = true;
    try {
      // The guest gets no shutdown, but QEMU closes the disk file in order.
      await (await this.connect(500)).execute('quit', {}, 500);
    } catch (error) {
      // After a QmpError, QEMU hangs or its socket is gone. SIGKILL below works in both cases.
      if (!(error instanceof QmpError)) this.#fault(error, 'the agent cannot send `quit` to QEMU');
    }
    if (await waitForExit(this.process, 1_000)) return;
    await signal(this.process, 'SIGKILL');
    if (!(await waitForExit(this.process, 10_000))) {
      throw new Error(`QEMU (process ${this.process.pid}) does not end after SIGKILL`);
    }
  }

  /** Closes the connections and stops watching. The process goes on. */
  release(): void {
    this.#released = true;
    this.#fileSystems.release();
    clearInterval(this.#timer);
    this.#qmp?.close();
    this.#console?.close().catch((error: unknown) => this.#fault(error, consoleFault));
  }
}
