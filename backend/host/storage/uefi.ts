/**
 * The files of UEFI firmware: the code, which all VMs share, and the variables of each VM. The variables contain the boot
 * order that the guest has chosen, so they belong to the VM as its disk does.
 *
 * The files are those of the Debian package ovmf, without secure boot.
 */
import { copyFile, rename } from 'node:fs/promises';
import { UcloudError } from '../../contract/errors.ts';
import { exists } from './disks.ts';

/** The path of the firmware's code. */
export const uefiCode = '/usr/share/OVMF/OVMF_CODE_4M.fd';
const initialVariables = '/usr/share/OVMF/OVMF_VARS_4M.fd';

/**
 * Creates the variables of a VM, unless they exist.
 * @throws UcloudError `invalid_state` if the host has no UEFI firmware
 */
export async function prepareVariables(path: string): Promise<void> {
  if (await exists(path)) return;
  if (!(await exists(uefiCode))) {
    throw new UcloudError('invalid_state', 'the image needs UEFI, and this host has none: install the package ovmf');
  }
  await copyFile(initialVariables, `${path}.new`);
  await rename(`${path}.new`, path);
}
