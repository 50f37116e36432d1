/** Checks that a machine has the programs for pools of Ceph. Machines without such a pool do not need them. */
import { CommandError, run } from '../../system/command.ts';

const advice = (thing: string, debian: string) => `${thing} is not installed: apt-get install ${debian}`;

async function fails(program: string, ...args: readonly string[]): Promise<string | undefined> {
  try {
    await run(program, args);
    return undefined;
  } catch (error) {
    if (error instanceof CommandError) return error.message;
    throw error;
  }
}

/** Returns one line for each missing thing, with the command that adds it. */
export async function checkCeph(): Promise<string[]> {
  const missing: string[] = [];
  for (const program of ['rbd', 'rados', 'ceph']) {
    if ((await fails(program, '--version')) !== undefined) missing.push(advice(program, 'ceph-common'));
  }
  // QEMU loads its driver for RBD as a module. With the module, it refuses only the missing parts of this description.
  const refusal = await fails('qemu-img', 'info', 'json:{"driver":"rbd"}');
  if (/Unknown driver|module/.test(refusal ?? '')) missing.push(advice("QEMU's driver for RBD", 'qemu-block-extra'));
  return missing;
}
