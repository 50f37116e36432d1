/** `ucloud host clean`: removes everything that the host agent created on this machine. */
import type { Command } from 'commander';
import { defaultDataDirectory } from './layout.ts';
import { createLogger } from './log.ts';
import { say } from './standard-output.ts';

/** Adds the command to `ucloud host`, beside the commands of the API. */
export function addHostClean(program: Command): void {
  const host = program.commands.find((command) => command.name() === 'host') ?? program.command('host');
  host
    .command('clean')
    .description('remove everything that ucloud has created on this machine: VMs with their disks, networks, filters')
    .option('--data <directory>', 'data directory of the host agent', defaultDataDirectory())
    .option('--yes', 'confirm the removal; without this, the command only counts VMs and removes nothing')
    .action(async ({ data, yes }: { data: string; yes?: boolean }) => {
      const { openHypervisor } = await import('./daemons.ts');
      const { hypervisor } = await openHypervisor('auto', data, createLogger({ level: 'warn' }));
      try {
        const vms = await hypervisor.list();
        if (!yes) {
          say(
            `${vms.length} VMs are on this machine, ${vms.filter(({ running }) => running).length} running. Use --yes to remove them and all networks.`,
          );
          return;
        }
        const removed = await hypervisor.clean();
        for (const line of removed) say(`removed ${line}`);
        say(removed.length === 0 ? 'nothing was there' : `${removed.length} things removed`);
      } finally {
        await hypervisor.close();
      }
    });
}
