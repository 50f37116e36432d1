/** Checks that a machine has everything that VMs with QEMU need. */
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { CommandError, environment, run } from '../../system/command.ts';
import { isMissing, readIfThere } from '../../system/files.ts';

/** Each program with the Debian package that contains it. */
const programs = [
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['qemu-img', 'qemu-utils'],
  ['mkfs.vfat', 'dosfstools'],
  ['mcopy', 'mtools'],
  ['ip', 'iproute2'],
  ['nft', 'nftables'],
  ['radvd', 'radvd'],
  ['setpriv', 'util-linux'],
  ['unshare', 'util-linux'],
  ['mount', 'mount'],
  ['perl', 'perl-base'],
] as const;

async function isInstalled(program: string): Promise<boolean> {
  for (const directory of environment.PATH?.split(':') ?? []) {
    try {
      await access(join(directory, program), constants.X_OK);
      return true;
    } catch (error) {
      if (!isMissing(error) && !(error instanceof Error && 'code' in error && error.code === 'EACCES')) throw error;
    }
  }
  return false;
}

async function filterFault(): Promise<string | undefined> {
  const table = 'ucloud_check';
  const rules = ['netdev', 'inet']
    .map((family) => `add table ${family} ${table}\nadd chain ${family} ${table} c\n`)
    .join('');
  try {
    await run('nft', ['--check', '-f', '-'], `${rules}add rule inet ${table} c ct state established accept\n`);
    return undefined;
  } catch (error) {
    if (error instanceof CommandError)
      return `nftables does not work here (kernel too old or modules missing): ${error.stderr.trim()}`;
    throw error;
  }
}

async function namespaceFault(): Promise<string | undefined> {
  try {
    await run('unshare', ['--mount', 'true']);
    return undefined;
  } catch (error) {
    if (error instanceof CommandError)
      return `mount namespaces cannot be made here (in a container, it lacks CAP_SYS_ADMIN): ${error.stderr.trim()}`;
    throw error;
  }
}

/**
 * Returns one line for each missing thing, with the command or the action that adds it. The list is empty if VMs can
 * run. The check changes nothing on the machine.
 */
export async function checkQemu(): Promise<string[]> {
  const missing: string[] = [];
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return [`VMs run on Linux on x86_64 only, this is ${process.platform} on ${process.arch}`];
  }
  const absent: string[] = [];
  for (const [program, debian] of programs) {
    if (await isInstalled(program)) continue;
    absent.push(program);
    missing.push(`${program} is not installed: apt-get install ${debian}`);
  }
  if (process.getuid?.() !== 0) {
    missing.push('networks and taps need root: run as root');
    return missing;
  }
  try {
    await access('/dev/net/tun');
  } catch (error) {
    if (!isMissing(error)) throw error;
    missing.push('/dev/net/tun does not exist: modprobe tun');
  }
  if ((await readIfThere('/proc/net/if_inet6')) === undefined)
    missing.push('the kernel has no IPv6: boot without ipv6.disable=1');
  if (!absent.includes('nft')) {
    const fault = await filterFault();
    if (fault) missing.push(fault);
  }
  if (!absent.includes('unshare')) {
    const fault = await namespaceFault();
    if (fault) missing.push(fault);
  }
  return missing;
}
