/**
 * The bird process of this instance, which announces the prefixes of the host's VMs. The process outlives the agent. The
 * next agent finds it by the path of its configuration file on its command line. `converge` brings file and process to the
 * desired state, and may run again at any time.
 *
 * A new configuration is checked before it replaces the last one. If the check fails, the last one stays in force with its
 * sessions. bird runs as the user `bird` of its package, and keeps only the capabilities for routes and sockets. Its
 * directory belongs to root, so bird cannot change its configuration.
 */
import { access, chmod, chown, constants, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { environment, type Run } from '../system/command.ts';
import { isMissing, readIfThere, writeAtomically } from '../system/files.ts';
import { findProcesses, isAlive, type Process, terminate } from '../system/processes.ts';
import { defaultRouteMetric, passwordIn } from './bird-config.ts';
import { askBird, BirdSilent } from './bird-control.ts';
import { parseSessions, type Session } from './bird-sessions.ts';

/** Options of `Bird`. */
export interface BirdOptions {
  /** The directory of bird's files (`birdDirectory`). It belongs to this class. */
  readonly directory: string;
  readonly run: Run;
  /** The maximum time for an answer of bird. */
  readonly timeoutMs?: number;
}

interface User {
  readonly uid: number;
  readonly gid: number;
}

interface Route {
  readonly dst: string;
  readonly metric?: number;
  readonly gateway?: string;
  readonly dev?: string;
}

/** The time that bird has for its end. It tells its peers before. */
const graceMs = 5_000;

/** Returns the user of Debian's package; undefined if the machine has none. bird then runs as root. */
export async function birdUser(): Promise<User | undefined> {
  const passwd = (await readIfThere('/etc/passwd')) ?? '';
  const [, uid, gid] = /^bird:[^:]*:(\d+):(\d+):/m.exec(passwd) ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

/** Controls the bird process of one instance. */
export class Bird {
  readonly #directory: string;
  readonly #run: Run;
  readonly #timeoutMs: number;
  /** True if the running process has certainly read the current file. */
  #loaded = false;
  #known: Process | undefined;

  constructor({ directory, run, timeoutMs = 5_000 }: BirdOptions) {
    this.#directory = directory;
    this.#run = run;
    this.#timeoutMs = timeoutMs;
  }

  get #config(): string {
    return join(this.#directory, 'bird.conf');
  }

  get #socket(): string {
    return join(this.#directory, 'bird.ctl');
  }

  /** Tells whether bird is installed. */
  async isInstalled(): Promise<boolean> {
    for (const directory of environment.PATH?.split(':') ?? []) {
      try {
        await access(join(directory, 'bird'), constants.X_OK);
        return true;
      } catch (error) {
        if (!isMissing(error) && !(error instanceof Error && 'code' in error && error.code === 'EACCES')) throw error;
      }
    }
    return false;
  }

  /** Returns the running processes. There is at most one, unless the agent was killed during a start. */
  async find(): Promise<Process[]> {
    // Any other user may run a program with this argument.
    const uids = [0, (await birdUser())?.uid];
    const processes = await findProcesses(({ uid }) => uids.includes(uid));
    return processes.filter(({ leader, args }) => leader && args.includes(this.#config));
  }

  /** Returns the running process. A look at one process is much faster than a look at all. */
  async #running(): Promise<Process | undefined> {
    if (this.#known && (await isAlive(this.#known))) return this.#known;
    const [first, ...surplus] = await this.find();
    for (const process of surplus) await terminate(process, graceMs);
    this.#known = first;
    return first;
  }

  /**
   * Writes the configuration, and starts or reconfigures bird. An empty configuration ends the process.
   * @param text the result of `birdConfig`
   * @throws CommandError or BirdError if bird refuses the configuration. The last one then stays.
   */
  async converge(text: string): Promise<void> {
    if (text === '') {
      await this.stop();
      return;
    }
    const running = await this.#running();
    const isNew = (await readIfThere(this.#config)) !== text;
    if (isNew) this.#loaded = false;
    if (running && this.#loaded) return;
    const wasTaken = running !== undefined && (await this.#reconfigure(running, isNew ? text : undefined));
    if (wasTaken) return;
    if (isNew) {
      const candidate = await this.#writeCandidate(text);
      await this.#orRemove(candidate, () => this.#run('bird', ['-p', '-c', candidate]));
      await rename(candidate, this.#config);
    }
    await this.#start();
    this.#loaded = true;
  }

  /** Gives a running process its configuration. Ends the process if it does not answer, and returns false. */
  async #reconfigure(running: Process, text: string | undefined): Promise<boolean> {
    try {
      if (text !== undefined) {
        const candidate = await this.#writeCandidate(text);
        await this.#orRemove(candidate, () => this.#ask(`configure check "${candidate}"`));
        await rename(candidate, this.#config);
      }
      await this.#ask('configure');
      this.#loaded = true;
      return true;
    } catch (error) {
      if (!(error instanceof BirdSilent)) throw error;
      await terminate(running, graceMs);
      return false;
    }
  }

  async #orRemove(candidate: string, check: () => Promise<unknown>): Promise<void> {
    try {
      await check();
    } catch (error) {
      await rm(candidate, { force: true });
      throw error;
    }
  }

  /** The file contains passwords, so only root and bird may read it. */
  async #writeCandidate(text: string): Promise<string> {
    const candidate = `${this.#config}.candidate`;
    await mkdir(this.#directory, { recursive: true });
    // bird must reach its files, whatever the umask of the agent is.
    await chmod(this.#directory, 0o755);
    await writeAtomically(candidate, text);
    const user = await birdUser();
    if (user) {
      await chown(candidate, 0, user.gid);
      await chmod(candidate, 0o640);
    }
    return candidate;
  }

  async #start(): Promise<void> {
    const user = (await birdUser()) === undefined ? [] : ['-u', 'bird', '-g', 'bird'];
    // This process ends when bird is ready, in the background.
    await this.#run('bird', [...user, '-c', this.#config, '-s', this.#socket]);
  }

  #ask(command: string): Promise<string[]> {
    return askBird(this.#socket, command, { timeoutMs: this.#timeoutMs });
  }

  /**
   * Returns the sessions of the running process.
   * @throws BirdSilent if it does not answer. The next `converge` then ends and replaces it.
   */
  async sessions(): Promise<Session[]> {
    try {
      return parseSessions(await this.#ask('show protocols all'));
    } catch (error) {
      if (error instanceof BirdSilent) this.#loaded = false;
      throw error;
    }
  }

  /** Returns the password of a session in the present configuration. */
  async passwordOf(peer: string): Promise<string | undefined> {
    const config = await readIfThere(this.#config);
    return config === undefined ? undefined : passwordIn(config, peer);
  }

  /** Ends bird, and removes its routes and files. Peers learn it at once. Returns readable names of what was there. */
  async stop(): Promise<string[]> {
    // The file is there before the process, and goes after it.
    if ((await readIfThere(this.#config)) === undefined) {
      await rm(this.#directory, { recursive: true, force: true });
      return [];
    }
    const running = await this.find();
    for (const process of running) await terminate(process, graceMs);
    this.#loaded = false;
    const routes = await this.#removeDefaultRoutes();
    await rm(this.#directory, { recursive: true, force: true });
    return [...running.map(({ pid }) => `process ${pid} (bird)`), ...routes];
  }

  /** Removes the default routes that a bird of ours has left. */
  async #removeDefaultRoutes(): Promise<string[]> {
    const text = await this.#run('ip', ['-j', '-6', 'route', 'show', 'proto', 'bird']);
    const routes = (JSON.parse(text.trim() || '[]') as Route[]).filter(
      ({ dst, metric }) => dst === 'default' && metric === defaultRouteMetric,
    );
    for (const { gateway, dev } of routes) {
      const path = [...(gateway === undefined ? [] : ['via', gateway]), ...(dev === undefined ? [] : ['dev', dev])];
      const metric = ['proto', 'bird', 'metric', String(defaultRouteMetric)];
      await this.#run('ip', ['-6', 'route', 'del', 'default', ...path, ...metric]);
    }
    return routes.map(({ gateway = '' }) => `default route via ${gateway}`);
  }
}
