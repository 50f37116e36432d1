/** `ucloud host clean`: removes everything that the host agent created on this machine. */
import type { Command } from 'commander';
import { defaultDataDirectory } from './layout.ts';
import { say } from './standard-output.ts';

/** Adds the command to `ucloud host`, beside the commands of the API. */
export function addHostClean(program: Command): void {
  const host = program.commands.find((command) => command.name() === 'host') ?? program.command('host');
  host
    .command('clean')
    .description(
      'remove everything that ucloud has created on this machine: VMs with their disks, networks, filters, copies of images; volumes stay without --volumes',
    )
    .option('--data <directory>', 'data directory of the host agent', defaultDataDirectory())
    .option('--yes', 'confirm the removal; without this, the command only counts VMs and removes nothing')
    .option('--volumes', 'remove the data of volumes too; nothing can bring it back')
    .action(async ({ data, yes, volumes = false }: { data: string; yes?: boolean; volumes?: boolean }) => {
      const [{ openBird, openHypervisor }, { createLogger }] = await Promise.all([
        import('./daemons.ts'),
        import('./log.ts'),
      ]);
      const { hypervisor, images } = await openHypervisor('auto', data, createLogger({ level: 'warn' }));
      try {
        const vms = await hypervisor.list();
        const { length } = await hypervisor.listVolumes();
        const stay = length === 0 ? '' : ` The data of ${length} volumes stays without --volumes.`;
        if (!yes) {
          say(
            `${vms.length} VMs are on this machine, ${vms.filter(({ running }) => running).length} running. Use --yes to remove them and all networks.${volumes ? ` The data of ${length} volumes goes too.` : stay}`,
          );
          return;
        }
        // Routers of the fabric learn first that the addresses are gone.
        const removed = [...(await openBird(data).stop()), ...(await hypervisor.clean({ volumes }))];
        // Disks use the copies, so the copies go last.
        const copies = (await images?.clean()) ?? 0;
        if (copies > 0) removed.push(`${copies} copies of images`);
        for (const line of removed) say(`removed ${line}`);
        if (!volumes && stay !== '') say(stay.trim());
        say(removed.length === 0 ? 'nothing was there' : `${removed.length} things removed`);
      } finally {
        await hypervisor.close();
      }
    });
}
