/** Checks whether this machine can run VMs with QEMU. */
import { checkQemu } from '../../backend/host/hypervisor/qemu/open.ts';

/** Returns why this machine cannot run VMs, or false: for the `skip` option of a test. */
export async function noQemu(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces and taps';
  const missing = await checkQemu();
  return missing.length > 0 ? missing.join('; ') : false;
}
