/**
 * What the host keeps of each VM, in `vms/<id>/`:
 *
 *   state.json    what was meant to run (`boot`), and its user id; written before anything is done about it
 *   disk.qcow2    the VM's disk
 *   console.log   what the guest wrote to its serial port, and console.log.1, what it wrote before
 *   qemu.log      what QEMU complained about since it was started last
 *
 * A VM without `boot` is stopped: it has a disk and nothing else. A VM with `boot` is to run: its taps and filters
 * belong there, and its process, if it has one, was started so. `started_at` says that the guest executes.
 */
import { chmod, lchown, lstat, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Id } from '../../../contract/fields.ts';
import { earlierTapName } from '../../../model/network/interface-names.ts';
import { isMissing, readIfThere, writeAtomically } from '../../system/files.ts';
import { runDirectory } from '../../system/instance.ts';
import { Mutex } from '../../system/mutex.ts';
import type { InterfaceSpec } from '../specs.ts';
import { isVmId } from './process-identity.ts';

export interface Boot {
  readonly fence: number;
  readonly generation: number;
  readonly interfaces: readonly InterfaceSpec[];
  /** RFC 3339 UTC. */
  readonly started_at?: string;
}

export interface VmState {
  /** Of its process, and of no other VM's. */
  readonly uid: number;
  readonly boot?: Boot;
}

/** Earlier versions did not write down the names of taps, and made them otherwise. */
function withTaps(state: VmState): VmState {
  const { boot } = state;
  if (!boot) return state;
  const interfaces = boot.interfaces.map((each) => ({ tap: earlierTapName(each.mac), ...each }));
  return { ...state, boot: { ...boot, interfaces } };
}

export interface VmPaths {
  readonly directory: string;
  readonly disk: string;
  readonly console: string;
  readonly log: string;
  /** For its sockets, which the agent makes. The VM's user has no access. */
  readonly run: string;
  readonly qmp: string;
  readonly serial: string;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function assertId(vm: string): void {
  if (!isVmId(vm)) throw new Error(`not the id of a VM: ${JSON.stringify(vm)}`);
}

export class VmDirectories {
  readonly #root: string;
  readonly #run: string;
  readonly #uidBase: number;
  readonly #mutex = new Mutex();

  constructor(root: string, instance: string, uidBase: number) {
    this.#root = root;
    this.#run = runDirectory(instance);
    this.#uidBase = uidBase;
  }

  paths(vm: Id<'vm'>): VmPaths {
    assertId(vm);
    const directory = join(this.#root, vm);
    const run = join(this.#run, vm);
    return {
      directory,
      disk: join(directory, 'disk.qcow2'),
      console: join(directory, 'console.log'),
      log: join(directory, 'qemu.log'),
      run,
      qmp: join(run, 'qmp'),
      serial: join(run, 'serial'),
    };
  }

  /** Whether the user is one of those that VMs here may have. */
  isVmUser(uid: number): boolean {
    return uid >= this.#uidBase && uid < this.#uidBase + 65536;
  }

  /** Everything that has a directory, here or for its sockets. */
  async list(): Promise<Id<'vm'>[]> {
    const found = new Set<Id<'vm'>>();
    // Shared with other instances.
    await mkdir(dirname(this.#run), { recursive: true, mode: 0o755 });
    for (const root of [this.#root, this.#run]) {
      await mkdir(root, { recursive: true, mode: 0o700 });
      await chmod(root, 0o700);
      for (const name of await readdir(root)) if (isVmId(name)) found.add(name);
    }
    return [...found];
  }

  /** VMs by the user id of their processes. */
  async owners(): Promise<Map<number, Id<'vm'>>> {
    const owners = new Map<number, Id<'vm'>>();
    for (const vm of await this.list()) {
      const uid = (await this.load(vm))?.uid;
      if (uid !== undefined) owners.set(uid, vm);
    }
    return owners;
  }

  async load(vm: Id<'vm'>): Promise<VmState | undefined> {
    const text = await readIfThere(join(this.paths(vm).directory, 'state.json'));
    return text === undefined ? undefined : withTaps(JSON.parse(text) as VmState);
  }

  save(vm: Id<'vm'>, state: VmState): Promise<void> {
    return writeAtomically(join(this.paths(vm).directory, 'state.json'), JSON.stringify(state));
  }

  /** The VM's state, made with a free user id if there is none. */
  create(vm: Id<'vm'>): Promise<VmState> {
    return this.#mutex.run(async () => {
      const present = await this.load(vm);
      if (present) return present;
      const taken = await this.owners();
      let uid = this.#uidBase;
      while (taken.has(uid)) uid++;
      const state = { uid };
      await mkdir(this.paths(vm).directory, { recursive: true, mode: 0o700 });
      await this.save(vm, state);
      return state;
    });
  }

  /** An empty directory for its sockets. To be called while no process of the VM runs. */
  async makeRunDirectory(vm: Id<'vm'>): Promise<void> {
    const { run } = this.paths(vm);
    await rm(run, { recursive: true, force: true });
    await mkdir(run, { recursive: true, mode: 0o700 });
  }

  /**
   * Takes the directory from a VM that version 0.1 has started, whose user owned it and may have put anything there.
   * The user can change nothing in it from then on. Only sockets that the user has made are left; where one is missing,
   * the VM is one that does not answer.
   */
  async takeRunDirectory(vm: Id<'vm'>, uid: number): Promise<void> {
    const { run, qmp, serial } = this.paths(vm);
    try {
      await lchown(run, 0, 0);
      await chmod(run, 0o700);
      for (const path of [qmp, serial]) {
        const found = await lstat(path).catch(() => undefined);
        if (found && !(found.isSocket() && found.uid === uid)) await rename(path, `${path}.refused`);
      }
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }

  async removeRunDirectory(vm: Id<'vm'>): Promise<void> {
    await rm(this.paths(vm).run, { recursive: true, force: true });
  }

  async remove(vm: Id<'vm'>): Promise<void> {
    const { directory } = this.paths(vm);
    await this.removeRunDirectory(vm);
    // The state last: it keeps the user id from being given away while anything of the VM is left.
    const state = join(directory, 'state.json');
    for (const name of await namesIn(directory)) {
      if (name !== 'state.json') await rm(join(directory, name), { recursive: true, force: true });
    }
    await rm(state, { force: true });
    await rm(directory, { recursive: true, force: true });
  }
}
