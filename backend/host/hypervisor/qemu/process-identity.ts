/**
 * Determines the VM of a process. A process that its guest has taken over can write anything into its command line. It
 * can neither change its user nor leave its groups. The command line therefore counts only if user and groups do not
 * determine the VM.
 */
import type { Id } from '../../../contract/fields.ts';
import { idInAlias, processGroupId } from '../../system/instance.ts';
import type { FoundProcess } from '../../system/processes.ts';

/**
 * Tells whether the text is the id of a VM. Ids become parts of paths and command lines, so the driver checks them
 * again.
 */
export const isVmId = (vm: string | undefined): vm is Id<'vm'> => vm !== undefined && /^vm-[0-9a-z]{16}$/.test(vm);

function firstFound<T>(args: readonly string[], find: (arg: string) => T | undefined): T | undefined {
  for (const arg of args) {
    const found = find(arg);
    if (found !== undefined) return found;
  }
  return undefined;
}

function namedVm(instance: string, args: readonly string[]): Id<'vm'> | undefined {
  return firstFound(args, (arg) => {
    const id = arg.startsWith('guest=') ? idInAlias(instance, arg.slice('guest='.length).split(',')[0]) : undefined;
    return isVmId(id) ? id : undefined;
  });
}

/**
 * Returns the VM of the process; undefined if it belongs to no VM of this instance.
 * @param process a process of root, or of a user id of the instance
 * @param owner the VM on this host that has the user id of the process
 */
export function vmOfProcess(
  { uid, groups, args }: Pick<FoundProcess, 'uid' | 'groups' | 'args'>,
  owner: Id<'vm'> | undefined,
  instance: string,
): Id<'vm'> | undefined {
  const named = namedVm(instance, args);
  // The process of root has not yet changed its user and becomes QEMU next.
  if (uid === 0) return named;
  return groups.includes(processGroupId(instance)) ? (owner ?? named) : undefined;
}
