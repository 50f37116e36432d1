/** Finds the link of this host to the others. */

import { formatIpv6, parseIpv6 } from '../../model/network/addresses.ts';
import { minUnderlayMtu } from '../../model/network/fabric.ts';
import type { Run } from '../system/command.ts';

interface IpAddress {
  readonly ifname: string;
  readonly mtu: number;
  readonly link_type: string;
  readonly addr_info: readonly { readonly local: string; readonly scope: string }[];
}
interface IpRoute {
  readonly dev?: string;
  readonly nexthops?: readonly { readonly dev: string }[];
}

/**
 * Returns the canonical underlay address and the MTU of its link. The address may be on the loopback interface, as it is
 * with several uplinks. The links of the default route then count, and the smallest MTU of them.
 * @throws Error that names the rule
 */
export async function findUnderlay(run: Run, text: string): Promise<{ address: string; mtu: number }> {
  const parsed = parseIpv6(text);
  const rule = `--underlay-address: ${JSON.stringify(text.slice(0, 80))}`;
  if (parsed === undefined) throw new Error(`${rule} is not an IPv6 address`);
  if (parsed >> 118n === 0x3fan || parsed >> 120n === 0xffn || parsed <= 1n) {
    throw new Error(`${rule} must be an address that other hosts can reach, such as a unique local address`);
  }
  const address = formatIpv6(parsed);
  const links = JSON.parse(await run('ip', ['-j', '-6', 'addr', 'show'])) as IpAddress[];
  const own = links.find(({ addr_info: addresses = [] }) =>
    addresses.some(({ local }) => local !== undefined && parseIpv6(local) === parsed),
  );
  if (own === undefined) throw new Error(`${rule} is on no interface of this host`);
  const names = own.link_type === 'loopback' ? await defaultLinks(run) : [own.ifname];
  const mtus = links.filter(({ ifname }) => names.includes(ifname)).map(({ mtu }) => mtu);
  if (mtus.length === 0) throw new Error(`${rule} is on ${own.ifname}, and this host has no default route over IPv6`);
  const mtu = Math.min(...mtus);
  if (mtu < minUnderlayMtu) {
    throw new Error(
      `${rule}: the MTU of ${names.join(', ')} is ${mtu}; tunnels between hosts need at least ${minUnderlayMtu}`,
    );
  }
  return { address, mtu };
}

async function defaultLinks(run: Run): Promise<string[]> {
  const routes = JSON.parse(await run('ip', ['-j', '-6', 'route', 'show', 'default'])) as IpRoute[];
  return routes.flatMap(({ dev, nexthops = [] }) => [
    ...(dev === undefined ? [] : [dev]),
    ...nexthops.map((hop) => hop.dev),
  ]);
}
