/**
 * One radvd announces all networks of this instance. It runs on when the agent ends: its configuration file is on its
 * command line, and by that it is found again. Reconciled like everything else: `converge` makes file and process what
 * they should be, and is called again and again.
 *
 * It keeps no log: guests can make it complain as often as they like, and would fill the disk. A configuration is
 * checked before it replaces the last one.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { environment, type Run } from '../system/command.ts';
import { readIfThere, writeAtomically } from '../system/files.ts';
import { findProcesses, type Process, signal, terminate } from '../system/processes.ts';

export class Radvd {
  readonly #config: string;
  readonly #run: Run;
  readonly #pidFile: string;
  /** Whether the running process is known to have read the file as it is now. */
  #loaded = false;

  constructor(directory: string, runDirectory: string, run: Run) {
    this.#config = join(directory, 'radvd.conf');
    this.#run = run;
    this.#pidFile = join(runDirectory, 'radvd.pid');
  }

  /** None or one; it has a helper process, which ends with it. */
  async find(): Promise<Process[]> {
    // Only processes of root count, because any user may run a program with this argument.
    const processes = await findProcesses(({ uid }) => uid === 0);
    return processes.filter(({ leader, args }) => leader && args.includes(this.#config));
  }

  /** Text from radvdConfig; empty: nothing to announce. */
  async converge(text: string): Promise<void> {
    const [running, ...surplus] = await this.find();
    for (const process of surplus) await terminate(process, 5_000);
    if (text === '') {
      // Told to end, radvd says good-bye to its guests (a lifetime of 0).
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
    // radvd gives no sign that it serves. An end within 100 ms is a fault of the machine; `converge` notices a later end.
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
