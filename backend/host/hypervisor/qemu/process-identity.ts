/**
 * Which VM a process belongs to. A process that its guest has taken over can write anything into its command line, but
 * it has no way to change its user or leave its groups. So a command line is believed only where these do not tell.
 */
import type { Id } from '../../../contract/fields.ts';
import { idInAlias, processGroupId, runDirectory } from '../../system/instance.ts';
import type { FoundProcess } from '../../system/processes.ts';

/** Ids become parts of paths and command lines. They come checked, and are checked here again. */
export const isVmId = (vm: string | undefined): vm is Id<'vm'> => vm !== undefined && /^vm-[0-9a-z]{16}$/.test(vm);

function first<T>(args: readonly string[], find: (arg: string) => T | undefined): T | undefined {
  for (const arg of args) {
    const found = find(arg);
    if (found !== undefined) return found;
  }
  return undefined;
}

function namedVm(instance: string, args: readonly string[]): Id<'vm'> | undefined {
  return first(args, (arg) => {
    const id = arg.startsWith('guest=') ? idInAlias(instance, arg.slice('guest='.length).split(',')[0]) : undefined;
    return isVmId(id) ? id : undefined;
  });
}

/** As version 0.1 started its processes: without the group, with sockets of their own. */
function namedVmOfOldProcess(instance: string, args: readonly string[]): Id<'vm'> | undefined {
  const start = `socket,id=qmp,path=${runDirectory(instance)}/`;
  return first(args, (arg) => {
    const id = arg.startsWith(start) ? arg.slice(start.length).split('/')[0] : undefined;
    return isVmId(id) ? id : undefined;
  });
}

/**
 * @param process of root or of a user that VMs may have
 * @param owner the VM here that has the process's user
 */
export function vmOfProcess(
  { uid, groups, args }: Pick<FoundProcess, 'uid' | 'groups' | 'args'>,
  owner: Id<'vm'> | undefined,
  instance: string,
): Id<'vm'> | undefined {
  const named = namedVm(instance, args) ?? namedVmOfOldProcess(instance, args);
  // About to become QEMU: it has not yet changed its user.
  if (uid === 0) return named;
  if (groups.includes(processGroupId(instance))) return owner ?? named;
  const old = namedVmOfOldProcess(instance, args);
  return owner === undefined || owner === old ? old : undefined;
}
