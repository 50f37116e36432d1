/** `ucloud network routes`: the static routes for a fabric without BGP. */
import type { Command } from 'commander';
import { type RoutingHost, staticRoutes } from '../model/network/static-routes.ts';
import { print } from './output.ts';
import { listUpTo } from './pages.ts';
import { say, tell } from './standard-output.ts';

const listOf = async (path: string): Promise<readonly unknown[]> => (await listUpTo({ method: 'GET', path })).items;

/** Adds the command to `ucloud network`, beside the commands of the API. */
export function addStaticRoutes(program: Command): void {
  const network = program.commands.find((command) => command.name() === 'network') ?? program.command('network');
  network
    .command('routes')
    .description(
      'print the static routes that routers without BGP need: networks and routed prefixes, each through two hosts (for operators)',
    )
    .option('--json', 'print JSON')
    .action(async ({ json }: { json?: boolean }) => {
      // The API has checked the form of these objects.
      const networks = (await listOf('/v1/networks')) as { id: string; cidr: string }[];
      const routed = (await listOf('/v1/prefix-routes')) as typeof networks;
      const hosts = (await listOf('/v1/hosts')) as RoutingHost[];
      const routes = staticRoutes([...networks, ...routed], hosts);
      if (json) return print({ items: routes }, { json });
      for (const { cidr, via } of routes) for (const address of via) say(`${cidr} via ${address}`);
      if (routes.some(({ via }) => via.length === 0)) {
        throw new Error('no host that is alive has an underlay address; start its agent with --underlay-address');
      }
      if (routes.length === 0) tell('(none)');
    });
}
