/** The network namespaces of a lab and their links. Each step may be repeated after a crash at any point. */
import { execFile } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { environment } from '../host/system/command.ts';
import { runIn } from './commands.ts';
import { controlDevice, type LabPlan, namespaceOf, namespacePrefix, spine } from './plan.ts';
import { killIn } from './processes.ts';
import { peerAddress, sourceRules } from './spine.ts';

const exec = promisify(execFile);

const ip = async (...args: readonly string[]): Promise<string> => (await exec('ip', args, { env: environment })).stdout;

/** Returns the names of all namespaces of the lab. */
export async function namespacesOf(id: string): Promise<string[]> {
  const list = await ip('netns', 'list');
  return list
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((name) => name.startsWith(namespacePrefix(id)));
}

/** The MTU of the links. It leaves room for tunnels, as fabrics of data centres do. */
const linkMtu = '9000';
/** The time in milliseconds in which a device must be gone. */
const removalMs = 20_000;

const sysctls = [
  'net.ipv6.conf.all.forwarding=1',
  'net.ipv6.conf.all.accept_ra=0',
  'net.ipv6.conf.default.accept_ra=0',
];

/** Prepares a namespace, which may be incomplete after a crash. */
async function prepareNamespace(name: string, exists: boolean, isRouter: boolean): Promise<void> {
  if (!exists) await ip('netns', 'add', name);
  await ip('-n', name, 'link', 'set', 'lo', 'up');
  await exec('ip', ['netns', 'exec', name, 'sysctl', '-q', '-w', ...sysctls.slice(isRouter ? 0 : 1)], {
    env: environment,
  });
}

const devices = async (...at: readonly string[]): Promise<Set<string>> => {
  const links = JSON.parse(await ip(...at, '-j', 'link', 'show')) as { readonly ifname: string }[];
  return new Set(links.map(({ ifname }) => ifname));
};

/** Gives a device its address. Nobody else can have it, so the kernel need not look for duplicates. */
async function configure(at: readonly string[], device: string, address: string): Promise<void> {
  await ip(...at, '-6', 'address', 'replace', `${address}/64`, 'dev', device, 'nodad');
  await ip(...at, 'link', 'set', device, 'up');
}

/** Creates the namespaces and links that are missing. */
export async function createNamespaces(plan: LabPlan): Promise<void> {
  const { id, nodes, control, prefix } = plan;
  const present = new Set(await namespacesOf(id));
  const router = namespaceOf(id, spine);
  await prepareNamespace(router, present.has(router), true);
  const links = await devices('-n', router);
  for (const { name, address, gateway, daemons } of nodes) {
    const namespace = namespaceOf(id, name);
    await prepareNamespace(namespace, present.has(namespace), daemons.includes('agent'));
    if (!links.has(name)) {
      await ip(
        '-n',
        router,
        'link',
        'add',
        name,
        'mtu',
        linkMtu,
        'type',
        'veth',
        'peer',
        'name',
        'uplink',
        'mtu',
        linkMtu,
        'netns',
        namespace,
      );
    }
    await configure(['-n', router], name, gateway);
    if (daemons.includes('agent')) await configure(['-n', router], name, peerAddress);
    await configure(['-n', namespace], 'uplink', address);
    await ip('-n', namespace, '-6', 'route', 'replace', 'default', 'via', gateway, 'dev', 'uplink');
  }
  await ip('-n', router, '-6', 'address', 'replace', `${plan.router.address}/128`, 'dev', 'lo');
  await runIn(router, 'nft', ['-f', '-'], sourceRules(plan));
  if (!(await devices()).has(control.device)) {
    await ip('link', 'add', control.device, 'type', 'veth', 'peer', 'name', 'control', 'netns', router);
  }
  await configure(['-n', router], 'control', control.gateway);
  await configure([], control.device, control.address);
  await ip('-6', 'route', 'replace', prefix, 'via', control.gateway, 'dev', control.device);
}

/** Ends all processes of the lab, and removes its namespaces with their links. Returns the number of namespaces. */
export async function removeNamespaces(id: string): Promise<number> {
  const names = await namespacesOf(id);
  // All processes end first, so that no daemon acts on the end of another one.
  for (const name of names) await killIn(name);
  // The kernel removes the links of a deleted namespace later, so the device of this namespace goes first.
  await removeDevice(controlDevice(id));
  for (const name of names) await ip('netns', 'delete', name);
  return names.length;
}

/** Removes a device of the initial namespace, and waits until the kernel lists it no more. @throws Error after 20 s */
async function removeDevice(device: string): Promise<void> {
  const deadline = performance.now() + removalMs;
  while ((await devices()).has(device)) {
    // The kernel may be about to remove the device itself, with a namespace that an earlier call deleted.
    const failed = await ip('link', 'delete', device).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (performance.now() > deadline) throw new Error(`the device ${device} remains`, { cause: failed });
    if (failed !== undefined) await delay(50);
  }
}
