/**
 * Kernel settings that networks need. Values of settings that are not an interface's of ours are written down first, so
 * that `clean` can put them back.
 *
 * - Forwarding between interfaces. It makes the kernel ignore router advertisements where `accept_ra` is 1, and a host
 *   that got its own default route by one would lose it: uplinks are set to 2 ("even when forwarding") first.
 * - br_netfilter off: bridged frames are no business of the host's IP filters, and would pass some hooks twice.
 * - Taps have no IPv6 of the host, so the host takes no packet from them, routers' least of all. Bridges are routers, and
 *   take neither advertisements nor redirects. Both is in force before the interface is up, whatever the defaults
 *   of new interfaces are.
 */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing, readIfThere, writeAtomically } from '../system/files.ts';
import { isAnyInstances } from '../system/instance.ts';
import type { DesiredLink, ObservedLink, ObservedLinks } from './links.ts';

const ipv6 = '/proc/sys/net/ipv6/conf';
const bridgeNetfilter = ['bridge-nf-call-arptables', 'bridge-nf-call-ip6tables', 'bridge-nf-call-iptables'].map(
  (name) => `/proc/sys/net/bridge/${name}`,
);

/** In the order in which they are set. */
const ofLink: Record<DesiredLink['kind'], readonly (readonly [name: string, value: string])[]> = {
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
};

interface Saved {
  /** The values are void after a reboot. */
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
 * Whether the host may learn a router by the interface. Never by one of a ucloud host on this machine, by a program's
 * (tap, tun), or by the port of a bridge, whose packets are the bridge's.
 */
export const mayBeUplink = ({ name, alias, kind, port }: ObservedLink): boolean =>
  name !== 'lo' && kind !== 'tun' && port === undefined && !isAnyInstances(alias);

/** In the order in which they must be set. */
async function needed(links: ObservedLinks, ours: ReadonlySet<string>): Promise<[string, string][]> {
  const settings: [string, string][] = [];
  if ((await read(join(ipv6, 'all/forwarding'))) !== '1') {
    for (const name of await readdir(ipv6)) {
      const link = links.get(name);
      if (link === undefined || ours.has(name) || !mayBeUplink(link)) continue;
      const path = join(ipv6, name, 'accept_ra');
      if ((await read(path)) === '1' && (await read(join(ipv6, name, 'forwarding'))) === '0')
        settings.push([path, '2']);
    }
    settings.push([join(ipv6, 'all/forwarding'), '1']);
  }
  for (const path of bridgeNetfilter) if ((await read(path)) === '1') settings.push([path, '0']);
  return settings;
}

/** For the whole machine. `links` is what is there, `ours` the names of what is this instance's. */
export async function applySysctls(file: string, links: ObservedLinks, ours: ReadonlySet<string>): Promise<void> {
  const settings = await needed(links, ours);
  if (settings.length === 0) return;
  const saved = await load(file);
  const values = { ...saved.values };
  for (const [path] of settings) values[path] ??= (await read(path)) ?? '';
  await writeAtomically(file, JSON.stringify({ ...saved, values }));
  for (const [path, value] of settings) await writeFile(path, value);
}

/** For an interface of ours, which vanishes with its settings. Gives what is wrong. */
export async function applyLinkSysctls({ kind, name }: DesiredLink): Promise<string | undefined> {
  try {
    for (const [key, value] of ofLink[kind]) {
      const path = join(ipv6, name, key);
      if ((await read(path)) !== value) await writeFile(path, value);
    }
    return undefined;
  } catch (error) {
    if (isMissing(error)) return `interface ${name} has gone while its settings were made`;
    throw error;
  }
}

/** What `clean` would put back. */
export async function changedSysctls(file: string): Promise<string[]> {
  return Object.keys((await load(file)).values);
}

/** Interfaces that are no uplinks keep what they have: a version before changed taps of other instances. */
export async function restoreSysctls(file: string, links: ObservedLinks): Promise<void> {
  const { values } = await load(file);
  // `all/forwarding` first: while it is 1, an uplink with accept_ra back at 1 would not listen to its router.
  const paths = Object.keys(values).sort((a, b) => Number(b.includes('/all/')) - Number(a.includes('/all/')));
  for (const path of paths) {
    const [, name] = /\/conf\/([^/]+)\/accept_ra$/.exec(path) ?? [];
    const link = name === undefined ? undefined : links.get(name);
    if (link && !mayBeUplink(link)) continue;
    // An interface may be gone.
    if ((await read(path)) !== undefined) await writeFile(path, values[path] ?? '');
  }
  await rm(file, { force: true });
}
