/**
 * The files of each VM on the host, in `vms/<id>/`:
 *
 *   state.json    the user id of the VM and its desired hardware (`boot`); written before the driver acts on it
 *   image         the id of the image that the disk uses; written before the disk
 *   disk.qcow2    the VM's disk
 *   seed.img      the documents of cloud-init; written at each start
 *   uefi-variables.fd  the variables of UEFI, if the image needs it
 *   console.log   the output of the guest's serial port; the older output is in console.log.1
 *   qemu.log      the messages of the VM's last QEMU process
 *
 * A VM without `boot` is stopped: it has no process, tap or filter. A VM with `boot` should run with the hardware in
 * `boot`, and its process has that hardware. `started_at` is written after the guest has begun to execute.
 */
import { chmod, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Id } from '../../../contract/fields.ts';
import { isIdOf } from '../../../model/ids.ts';
import { isMissing, readIfThere, writeAtomically } from '../../system/files.ts';
import { runDirectory } from '../../system/instance.ts';
import { Mutex } from '../../system/mutex.ts';
import type { InterfaceSpec } from '../specs.ts';
import { isVmId } from './process-identity.ts';

/** The state with which a VM was started. */
export interface Boot {
  readonly fence: number;
  readonly generation: number;
  readonly interfaces: readonly InterfaceSpec[];
  /** The volumes at the start. Boots of earlier versions lack them. */
  readonly volumes?: readonly Id<'volume'>[];
  /** The time at which the guest began to execute (RFC 3339, UTC). */
  readonly started_at?: string;
}

/** The content of state.json. */
export interface VmState {
  /** The user id of the VM's process. No other VM of the instance has it. */
  readonly uid: number;
  readonly boot?: Boot;
}

/** The paths of one VM. */
export interface VmPaths {
  readonly directory: string;
  readonly disk: string;
  readonly seed: string;
  readonly variables: string;
  readonly console: string;
  readonly log: string;
  /** The directory of the sockets. The agent creates them, and the VM's user has no access. */
  readonly run: string;
  readonly qmp: string;
  /** The monitor that takes the files of volumes. */
  readonly files: string;
  readonly serial: string;
  /** The socket of the guest agent. VMs that an earlier version started lack it. */
  readonly agent: string;
  /** Exists while the agent may have left the file systems of the guest frozen. */
  readonly frozen: string;
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

/** The directories of all VMs of one instance. */
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

  /**
   * Returns the paths of the VM.
   * @throws Error if the text is no id of a VM
   */
  paths(vm: Id<'vm'>): VmPaths {
    assertId(vm);
    const directory = join(this.#root, vm);
    const run = join(this.#run, vm);
    return {
      directory,
      disk: join(directory, 'disk.qcow2'),
      seed: join(directory, 'seed.img'),
      variables: join(directory, 'uefi-variables.fd'),
      console: join(directory, 'console.log'),
      log: join(directory, 'qemu.log'),
      run,
      qmp: join(run, 'qmp'),
      files: join(run, 'files'),
      serial: join(run, 'serial'),
      agent: join(run, 'agent'),
      frozen: join(run, 'frozen'),
    };
  }

  /** Tells whether the user id is one of the instance's 65536 ids for VMs. */
  isVmUser(uid: number): boolean {
    return uid >= this.#uidBase && uid < this.#uidBase + 65536;
  }

  /** Returns all VMs with a directory for files or for sockets. */
  async list(): Promise<Id<'vm'>[]> {
    const found = new Set<Id<'vm'>>();
    // Other instances use this directory too.
    await mkdir(dirname(this.#run), { recursive: true, mode: 0o755 });
    for (const root of [this.#root, this.#run]) {
      await mkdir(root, { recursive: true, mode: 0o700 });
      await chmod(root, 0o700);
      for (const name of await readdir(root)) if (isVmId(name)) found.add(name);
    }
    return [...found];
  }

  /** Returns the VMs by the user id of their processes. */
  async owners(): Promise<Map<number, Id<'vm'>>> {
    const owners = new Map<number, Id<'vm'>>();
    for (const vm of await this.list()) {
      const uid = (await this.load(vm))?.uid;
      if (uid !== undefined) owners.set(uid, vm);
    }
    return owners;
  }

  /** Reads the state of the VM; undefined if there is none. */
  async load(vm: Id<'vm'>): Promise<VmState | undefined> {
    const text = await readIfThere(join(this.paths(vm).directory, 'state.json'));
    return text === undefined ? undefined : (JSON.parse(text) as VmState);
  }

  /** Replaces the state of the VM atomically. */
  save(vm: Id<'vm'>, state: VmState): Promise<void> {
    return writeAtomically(join(this.paths(vm).directory, 'state.json'), JSON.stringify(state));
  }

  /** Records the image that the disk of the VM uses. */
  async saveImage(vm: Id<'vm'>, image: Id<'image'>): Promise<void> {
    const path = join(this.paths(vm).directory, 'image');
    if ((await readIfThere(path)) !== image) await writeAtomically(path, image);
  }

  /** Returns the images that disks use. VMs of earlier versions have no record, but their images are no copies. */
  async images(): Promise<Set<Id<'image'>>> {
    const vms = await this.list();
    const found = await Promise.all(vms.map((vm) => readIfThere(join(this.paths(vm).directory, 'image'))));
    return new Set(found.flatMap((image) => (image !== undefined && isIdOf('image', image) ? [image] : [])));
  }

  /** Returns the state of the VM. A new VM gets a directory and a free user id. */
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

  /** Creates an empty directory for the sockets. No process of the VM may run meanwhile. */
  async makeRunDirectory(vm: Id<'vm'>): Promise<void> {
    const { run } = this.paths(vm);
    await rm(run, { recursive: true, force: true });
    await mkdir(run, { recursive: true, mode: 0o700 });
  }

  /** Removes the directory of the sockets. */
  async removeRunDirectory(vm: Id<'vm'>): Promise<void> {
    await rm(this.paths(vm).run, { recursive: true, force: true });
  }

  /** Removes all files of the VM. */
  async remove(vm: Id<'vm'>): Promise<void> {
    const { directory } = this.paths(vm);
    await this.removeRunDirectory(vm);
    // The state goes last. It reserves the user id while other files of the VM exist.
    const state = join(directory, 'state.json');
    for (const name of await namesIn(directory)) {
      if (name !== 'state.json') await rm(join(directory, name), { recursive: true, force: true });
    }
    await rm(state, { force: true });
    await rm(directory, { recursive: true, force: true });
  }
}
