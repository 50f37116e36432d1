/**
 * Kernel settings that networks need. What was there before is written down first, so that `clean` can put it back.
 *
 * - Forwarding between interfaces. It makes the kernel ignore router advertisements where `accept_ra` is 1, and a host
 *   that got its own default route by one would lose it: such interfaces are set to 2 ("even when forwarding") first.
 * - br_netfilter off: bridged frames are no business of the host's IP filters, and would pass some hooks twice.
 */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere, writeAtomically } from '../system/files.ts';

const ipv6 = '/proc/sys/net/ipv6/conf';
const bridgeNetfilter = ['bridge-nf-call-arptables', 'bridge-nf-call-ip6tables', 'bridge-nf-call-iptables'].map(
  (name) => `/proc/sys/net/bridge/${name}`,
);

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

/** In the order in which they must be set. `ours` are interfaces of this instance. */
async function needed(ours: ReadonlySet<string>): Promise<[string, string][]> {
  const settings: [string, string][] = [];
  if ((await read(join(ipv6, 'all/forwarding'))) !== '1') {
    for (const name of await readdir(ipv6)) {
      if (name === 'all' || name === 'default' || name === 'lo' || ours.has(name)) continue;
      const path = join(ipv6, name, 'accept_ra');
      if ((await read(path)) === '1' && (await read(join(ipv6, name, 'forwarding'))) === '0')
        settings.push([path, '2']);
    }
    settings.push([join(ipv6, 'all/forwarding'), '1']);
  }
  for (const path of bridgeNetfilter) if ((await read(path)) === '1') settings.push([path, '0']);
  return settings;
}

export async function applySysctls(file: string, ours: ReadonlySet<string>): Promise<void> {
  const settings = await needed(ours);
  if (settings.length > 0) {
    const saved = await load(file);
    const values = { ...saved.values };
    for (const [path] of settings) values[path] ??= (await read(path)) ?? '';
    await writeAtomically(file, JSON.stringify({ ...saved, values }));
    for (const [path, value] of settings) await writeFile(path, value);
  }
  // Interfaces of ours are routers and take no advertisements. They vanish with their settings.
  for (const name of ours) {
    for (const [key, value] of [
      ['disable_ipv6', '0'],
      ['accept_ra', '0'],
    ] as const) {
      const path = join(ipv6, name, key);
      const present = await read(path);
      if (present !== undefined && present !== value) await writeFile(path, value);
    }
  }
}

/** What `clean` would put back. */
export async function changedSysctls(file: string): Promise<string[]> {
  return Object.keys((await load(file)).values);
}

export async function restoreSysctls(file: string): Promise<string[]> {
  const { values } = await load(file);
  // `all/forwarding` first: while it is 1, an uplink with accept_ra back at 1 would not listen to its router.
  const paths = Object.keys(values).sort((a, b) => Number(b.includes('/all/')) - Number(a.includes('/all/')));
  for (const path of paths) {
    // An interface may be gone.
    if ((await read(path)) !== undefined) await writeFile(path, values[path] ?? '');
  }
  await rm(file, { force: true });
  return paths;
}
