/**
 * The radvd process of this instance, which serves all its networks. The process outlives the agent. The next agent
 * finds it by the path of its configuration file on its command line. `converge` brings file and process to the desired
 * state, and may run again at any time.
 *
 * radvd writes no log, because guests could fill the disk by causing messages. A new configuration is checked before it
 * replaces the last one.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { environment, type Run } from '../system/command.ts';
import { readIfThere, writeAtomically } from '../system/files.ts';
import { findProcesses, type Process, signal, terminate } from '../system/processes.ts';

/** Controls the radvd process of one instance. */
export class Radvd {
  readonly #config: string;
  readonly #run: Run;
  readonly #pidFile: string;
  /** True if the running process has certainly read the current file. */
  #loaded = false;

  constructor(directory: string, runDirectory: string, run: Run) {
    this.#config = join(directory, 'radvd.conf');
    this.#run = run;
    this.#pidFile = join(runDirectory, 'radvd.pid');
  }

  /** Returns the running process, if there is one. Its helper process, which ends with it, is not included. */
  async find(): Promise<Process[]> {
    // Only processes of root count, because any user may run a program with this argument.
    const processes = await findProcesses(({ uid }) => uid === 0);
    return processes.filter(({ leader, args }) => leader && args.includes(this.#config));
  }

  /**
   * Writes the configuration and starts or reloads radvd. An empty configuration ends the process.
   * @param text the result of `radvdConfig`
   * @throws CommandError if radvd refuses the configuration; Error if the process ends at once
   */
  async converge(text: string): Promise<void> {
    const [running, ...surplus] = await this.find();
    for (const process of surplus) await terminate(process, 5_000);
    if (text === '') {
      // After SIGTERM, radvd sends an advertisement with lifetime 0, so guests drop the router.
      if (running) await terminate(running, 5_000);
      for (const path of this.files) await rm(path, { force: true });
      return;
    }
    if ((await readIfThere(this.#config)) !== text) {
      this.#loaded = false;
      await writeAtomically(`${this.#config}.candidate`, text);
      await this.#run('radvd', ['-c', '-C', `${this.#config}.candidate`]);
      await rename(`${this.#config}.candidate`, this.#config);
    }
    if (!running) await this.#start();
    else if (!this.#loaded) await signal(running, 'SIGHUP');
    this.#loaded = true;
  }

  /** The paths of all files that this class may create. */
  get files(): readonly string[] {
    return [this.#config, `${this.#config}.candidate`, `${this.#config}.candidate.new`, this.#pidFile];
  }

  async #start(): Promise<void> {
    await rm(this.#pidFile, { force: true });
    const child = spawn('radvd', ['-n', '-C', this.#config, '-p', this.#pidFile, '-m', 'none'], {
      detached: true,
      cwd: '/',
      env: environment,
      stdio: 'ignore',
    });
    await once(child, 'spawn');
    child.unref();
    // radvd gives no sign that it serves. An end within 100 ms is a fault of the machine; `converge` notices a later
    // end.
    const ended = await Promise.race([
      once(child, 'exit').then(([code, name]) => `exit code ${code ?? name}`),
      new Promise<undefined>((resolve) => setTimeout(resolve, 100, undefined)),
    ]);
    if (ended)
      throw new Error(
        `radvd ended at once with ${ended}: run \`radvd -n -d 5 -m stderr -C ${this.#config}\` to see why`,
      );
  }
}
