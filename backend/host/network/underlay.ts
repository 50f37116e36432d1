/** Finds the link of this host to the others. */
import { formatIpv6, parseIpv6 } from '../../model/network/addresses.ts';
import { minUnderlayMtu, transitName } from '../../model/network/fabric.ts';
import { isBridgeName } from '../../model/network/interface-names.ts';
import type { Run } from '../system/command.ts';

interface IpAddress {
  readonly ifname: string;
  readonly mtu: number;
  readonly link_type: string;
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number }[];
}
interface IpRoute {
  readonly dev?: string;
  readonly gateway?: string;
  readonly nexthops?: readonly { readonly dev: string }[];
}

/**
 * Returns the canonical underlay address and the MTU of its link. An address of length 128, on `lo` or another interface
 * without a network, is reached over the links of routes to gateways. The smallest MTU of them then counts.
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
  const links = JSON.parse(await run('ip', ['-j', '-6', 'addr', 'show'])) as Partial<IpAddress>[];
  const found = links.flatMap(({ ifname = '', link_type: type, addr_info: addresses = [] }) =>
    addresses
      .filter(({ local }) => local !== undefined && parseIpv6(local) === parsed)
      .map(({ prefixlen }) => ({ ifname, isAlone: type === 'loopback' || prefixlen === 128 })),
  );
  const [own] = found;
  if (own === undefined) throw new Error(`${rule} is on no interface of this host`);
  const names = own.isAlone ? await uplinks(run) : [own.ifname];
  const mtus = links.flatMap(({ ifname = '', mtu = 0 }) => (names.includes(ifname) ? [mtu] : []));
  if (mtus.length === 0)
    throw new Error(`${rule} is on ${own.ifname}, and this host has no route over IPv6 to a gateway`);
  const mtu = Math.min(...mtus);
  if (mtu < minUnderlayMtu) {
    throw new Error(
      `${rule}: the MTU of ${names.join(', ')} is ${mtu}; tunnels between hosts need at least ${minUnderlayMtu}`,
    );
  }
  return { address, mtu };
}

/** Returns the links of all routes to gateways, without those of ucloud's own tunnels. */
async function uplinks(run: Run): Promise<string[]> {
  const routes = JSON.parse(await run('ip', ['-j', '-6', 'route', 'show'])) as IpRoute[];
  const names = routes.flatMap(({ dev, gateway, nexthops = [] }) => [
    ...(dev === undefined || gateway === undefined ? [] : [dev]),
    ...nexthops.map((hop) => hop.dev),
  ]);
  return [...new Set(names)].filter((name) => !isBridgeName(name) && name !== transitName);
}
