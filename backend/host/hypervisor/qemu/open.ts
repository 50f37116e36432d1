/** Opens the driver for QEMU on this machine: it locks the data directory, chooses KVM or emulation, and adopts running VMs. */
import { join } from 'node:path';
import type { Logger } from '../../../model/component.ts';
import type { ImageFiles } from '../../images/image-files.ts';
import { HostNetwork } from '../../network/host-network.ts';
import { type Run, run as runCommand } from '../../system/command.ts';
import { defaultUidBase, instanceOf, lockInstance } from '../../system/instance.ts';
import type { Accelerator } from './command-line.ts';
import { QemuDriver, type QemuHypervisor } from './driver.ts';
import { probeKvm } from './kvm-probe.ts';
import { VmDirectories } from './vm-directory.ts';

export { checkQemu } from './check.ts';
export type { QemuHypervisor } from './driver.ts';

/** Options of `createQemuHypervisor`. */
export interface QemuOptions {
  /** An existing directory. The driver owns `vms/`, `volumes/`, `network/` and kvm-probe.* in it. */
  readonly dataDir: string;
  /** The files of images. An image never changes. */
  readonly images: ImageFiles;
  readonly logger: Logger;
  /**
   * The value `auto` selects KVM if a guest runs under KVM on this machine, and emulation otherwise. Default: `auto`.
   */
  readonly accelerator?: 'auto' | Accelerator;
  /** The first of 65536 user ids for the processes of VMs. Default: derived from the path of the data directory. */
  readonly uidBase?: number;
  /** The limit of a copy for a snapshot, in bytes per second and disk. Default: none. */
  readonly copySpeed?: number;
  /** Runs programs. Tests interrupt the driver between two programs. Default: `run` of system/command.ts. */
  readonly run?: Run;
}

async function chooseAccelerator(options: QemuOptions, uid: number): Promise<Accelerator> {
  const wanted = options.accelerator ?? 'auto';
  if (wanted === 'tcg') return 'tcg';
  const { works, reason } = await probeKvm(options.dataDir, uid);
  if (works) return 'kvm';
  if (wanted === 'kvm') throw new Error(`guests do not run under KVM on this machine: ${reason}`);
  options.logger.warn({ reason }, 'guests do not run under KVM on this machine, so QEMU emulates them, which is slow');
  return 'tcg';
}

/**
 * Creates the driver and adopts the running VMs.
 * @throws Error if another process uses the data directory, or if the requested accelerator does not work
 */
export async function createQemuHypervisor(options: QemuOptions): Promise<QemuHypervisor> {
  const { dataDir } = options;
  const instance = instanceOf(dataDir);
  const unlock = await lockInstance(instance);
  try {
    const uidBase = options.uidBase ?? defaultUidBase(instance);
    const accelerator = await chooseAccelerator(options, uidBase + 65535);
    const run = options.run ?? runCommand;
    const network = await HostNetwork.open({ directory: join(dataDir, 'network'), instance, run });
    const directories = new VmDirectories(join(dataDir, 'vms'), instance, uidBase);
    const driver = new QemuDriver({
      ...options,
      copyUid: uidBase + 65534,
      run,
      instance,
      accelerator,
      network,
      directories,
      unlock,
    });
    await driver.adopt();
    return driver;
  } catch (error) {
    await unlock();
    throw error;
  }
}
