/**
 * The kernel settings that networks need. The host stores the old values of machine-wide settings before a change, so
 * `clean` can restore them.
 *
 * - Forwarding between interfaces is on. The kernel then ignores router advertisements where `accept_ra` is 1. The host
 *   would lose a default route from such an advertisement, so uplinks first get the value 2 ("even when forwarding").
 * - The tables of neighbours and connections, which the whole machine shares, have room for a thousand guests. Each guest
 *   may cause a few new neighbours a second (host-filter.ts), which the kernel keeps for about a minute. The entries of
 *   guests themselves are permanent, and do not count. A larger value of the operator stays.
 * - br_netfilter is off for the machine. The host's IP filters must not see bridged frames. Bridges whose guests have security
 *   groups turn it on for themselves (links.ts).
 * - Taps and VXLAN devices have no IPv6, so the host accepts no packet from them, such as a router advertisement. Bridges
 *   and the transit are routers, and accept neither advertisements nor redirects. These settings are in force before the interface is up.
 */
import { constants } from 'node:fs';
import { access, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Run } from '../system/command.ts';
import { isMissing, readIfThere, writeAtomically } from '../system/files.ts';
import { isUcloudAlias } from '../system/instance.ts';
import type { DesiredLink, ObservedLink, ObservedLinks } from './links.ts';

const ipv6 = '/proc/sys/net/ipv6/conf';
const bridgeNetfilter = ['bridge-nf-call-arptables', 'bridge-nf-call-ip6tables', 'bridge-nf-call-iptables'].map(
  (name) => `/proc/sys/net/bridge/${name}`,
);

/** The minimum values of machine-wide limits. A network namespace does not show them, or does not let them be changed. */
const limits: readonly (readonly [path: string, least: number])[] = [
  ['/proc/sys/net/ipv6/neigh/default/gc_thresh3', 16_384],
  ['/proc/sys/net/ipv6/neigh/default/gc_thresh2', 8_192],
  ['/proc/sys/net/ipv6/neigh/default/gc_thresh1', 4_096],
  ['/proc/sys/net/netfilter/nf_conntrack_max', 1_048_576],
  // The reassembly of fragments of tracked connections. One machine-wide attack must not fill it.
  ['/proc/sys/net/netfilter/nf_conntrack_frag6_high_thresh', 64 * 1024 ** 2],
];

/** The settings of each kind of interface, in the order in which they are written. */
const linkSettings: Record<DesiredLink['kind'], readonly (readonly [name: string, value: string])[]> = {
  bridge: [
    ['accept_ra', '0'],
    ['accept_redirects', '0'],
    ['forwarding', '1'],
    ['disable_ipv6', '0'],
  ],
  tap: [
    ['accept_ra', '0'],
    ['disable_ipv6', '1'],
  ],
  vxlan: [
    ['accept_ra', '0'],
    ['disable_ipv6', '1'],
  ],
  transit: [
    ['accept_ra', '0'],
    ['accept_redirects', '0'],
    ['forwarding', '1'],
    ['disable_ipv6', '0'],
  ],
};

/**
 * Tells whether a bridge can show its frames to the IP filters of the host. Loads the module of the kernel if it is missing:
 * a bridge accepts the setting without the module, and then ignores it.
 */
export async function hasBridgeFilter(run: Run): Promise<boolean> {
  const isThere = () => readIfThere(bridgeNetfilter[1] ?? '').then((text) => text !== undefined);
  if (await isThere()) return true;
  // The program is missing where the kernel has no modules.
  await run('modprobe', ['--quiet', 'br_netfilter']).catch(() => undefined);
  return isThere();
}

interface Saved {
  /** The boot id of the machine. The values are void after a reboot. */
  readonly boot: string;
  readonly values: Record<string, string>;
}

const read = async (path: string): Promise<string | undefined> => (await readIfThere(path))?.trim();
const bootId = async (): Promise<string> => (await read('/proc/sys/kernel/random/boot_id')) ?? '';

async function load(file: string): Promise<Saved> {
  const text = await readIfThere(file);
  const boot = await bootId();
  const saved = text === undefined ? undefined : (JSON.parse(text) as Saved);
  return saved?.boot === boot ? saved : { boot, values: {} };
}

/**
 * Tells whether the host may learn a router on the interface. It may not on an interface of a ucloud host, on a tap or
 * tun, or on a port of a bridge. Packets on such a port belong to the bridge.
 */
export const mayBeUplink = ({ name, alias, kind, port }: ObservedLink): boolean =>
  name !== 'lo' && kind !== 'tun' && port === undefined && !isUcloudAlias(alias);

const isWritable = (path: string): Promise<boolean> =>
  access(path, constants.W_OK).then(
    () => true,
    () => false,
  );

/** Returns the settings to change, in the order in which they must be written. */
async function neededSettings(links: ObservedLinks, ownLinks: ReadonlySet<string>): Promise<[string, string][]> {
  const settings: [string, string][] = [];
  if ((await read(join(ipv6, 'all/forwarding'))) !== '1') {
    for (const name of await readdir(ipv6)) {
      const link = links.get(name);
      if (link === undefined || ownLinks.has(name) || !mayBeUplink(link)) continue;
      const path = join(ipv6, name, 'accept_ra');
      if ((await read(path)) === '1' && (await read(join(ipv6, name, 'forwarding'))) === '0')
        settings.push([path, '2']);
    }
    settings.push([join(ipv6, 'all/forwarding'), '1']);
  }
  for (const path of bridgeNetfilter) if ((await read(path)) === '1') settings.push([path, '0']);
  for (const [path, least] of limits) {
    const value = await read(path);
    if (value !== undefined && Number(value) < least && (await isWritable(path))) settings.push([path, `${least}`]);
  }
  return settings;
}

/**
 * Changes the settings of the whole machine, and stores the old values in `file` first.
 * @param links all interfaces of the machine
 * @param ownLinks the names of this instance's interfaces
 */
export async function applySysctls(file: string, links: ObservedLinks, ownLinks: ReadonlySet<string>): Promise<void> {
  const settings = await neededSettings(links, ownLinks);
  if (settings.length === 0) return;
  const saved = await load(file);
  const values = { ...saved.values };
  for (const [path] of settings) values[path] ??= (await read(path)) ?? '';
  await writeAtomically(file, JSON.stringify({ ...saved, values }));
  for (const [path, value] of settings) await writeFile(path, value);
}

/** Changes the settings of this instance's interface. Returns the fault, if there is one. */
export async function applyLinkSysctls({ kind, name }: DesiredLink): Promise<string | undefined> {
  try {
    for (const [key, value] of linkSettings[kind]) {
      const path = join(ipv6, name, key);
      if ((await read(path)) !== value) await writeFile(path, value);
    }
    return undefined;
  } catch (error) {
    if (isMissing(error)) return `interface ${name} was removed during the change of its settings`;
    throw error;
  }
}

/** Returns the paths of the settings that `clean` would restore. */
export async function changedSysctls(file: string): Promise<string[]> {
  return Object.keys((await load(file)).values);
}

/**
 * Restores the stored values. Interfaces that are no uplinks keep their values, because an earlier version stored
 * values of other instances' taps.
 */
export async function restoreSysctls(file: string, links: ObservedLinks): Promise<void> {
  const { values } = await load(file);
  // `all/forwarding` comes first. While it is 1, an uplink with accept_ra 1 ignores its router.
  const paths = Object.keys(values).sort((a, b) => Number(b.includes('/all/')) - Number(a.includes('/all/')));
  for (const path of paths) {
    const [, name] = /\/conf\/([^/]+)\/accept_ra$/.exec(path) ?? [];
    const link = name === undefined ? undefined : links.get(name);
    if (link && !mayBeUplink(link)) continue;
    // The interface may be gone.
    if ((await read(path)) !== undefined) await writeFile(path, values[path] ?? '');
  }
  await rm(file, { force: true });
}
