/**
 * The interfaces of a running guest: added, addressed, removed, also while the cloud is killed. Runs as a program, inside a
 * network namespace of its own, and prints what it saw as JSON.
 *
 *     node test/support/interface-story.ts <data directory> <image>
 */
import { eventually, exec } from '../../scripts/demo/steps.ts';
import { GuestCloud, type Item } from './guest-cloud.ts';

/** The observations of the story. */
export interface InterfaceStory {
  readonly added: readonly string[];
  /** The interfaces of the guest, after one was added and after it was removed. */
  readonly links: readonly string[];
  readonly linksAfterRemoval: readonly string[];
  readonly answersAfterRemoval: boolean;
  readonly neighboursAfterRemoval: string;
  readonly answersAfterCrash: boolean;
  readonly answersAfterSecondCrash: boolean;
  readonly sameBoot: boolean;
  readonly tapsAtTheEnd: number;
  readonly millisecondsUntilAnswer: number;
}

interface Vm extends Item {
  readonly interfaces: readonly { readonly network: string; readonly mac: string; readonly address: string }[];
  readonly status: Item['status'] & {
    readonly changing_interfaces: readonly string[];
    readonly pending_changes: readonly string[];
  };
}

const [data = '', image = ''] = process.argv.slice(2);

async function answers(address: string): Promise<boolean> {
  try {
    await exec('ping', ['-6', '-c', '1', '-W', '2', address]);
    return true;
  } catch {
    return false;
  }
}

const answering = (address: string) =>
  eventually(`${address} answers`, 60_000, async () => {
    if (!(await answers(address))) throw new Error('no answer');
  });

async function story(cloud: GuestCloud): Promise<InterfaceStory> {
  const prefix = await cloud.run('prefix', 'get', 'site');
  const second = await cloud.run('network', 'create', '--name', 'db', '--prefix', prefix.id);
  const cidr = (second as unknown as { cidr: string }).cidr;
  const chosen = cidr.replace('::/64', '::80');
  const vm = (await cloud.createVm('web')) as Vm;
  await cloud.ready(vm);
  const boot = await cloud.inGuest(vm, 'cat /proc/sys/kernel/random/boot_id');
  const [first] = vm.interfaces;
  const set = async (...interfaces: object[]) =>
    (await cloud.run('vm', 'update', vm.id, '--interfaces', JSON.stringify(interfaces))) as Vm;
  const settled = (macs: readonly string[]) =>
    cloud.reach('vm', vm.id, (item) => {
      const { interfaces, status } = item as Vm;
      return status.changing_interfaces.length === 0 && interfaces.length === macs.length;
    });
  const own = { network: first?.network };
  const other = { network: second.id, secondary_addresses: [chosen] };

  const before = performance.now();
  const changed = await set(own, other);
  const [, added] = changed.interfaces;
  await answering(added?.address ?? '');
  const millisecondsUntilAnswer = Math.round(performance.now() - before);
  await answering(chosen);
  await settled(changed.interfaces.map(({ mac }) => mac));
  const links = (await cloud.inGuest(vm, 'cat /sys/class/net/*/address')).split('\n');

  await set(own);
  await settled([first?.mac ?? '']);
  const answersAfterRemoval = (await answers(added?.address ?? '')) || (await answers(chosen));
  const linksAfterRemoval = (await cloud.inGuest(vm, 'cat /sys/class/net/*/address')).split('\n');
  const neighboursAfterRemoval = (await exec('ip', ['-6', 'neigh', 'show', 'nud', 'permanent'])).stdout;

  // The change is in the database, and the cloud is killed while it follows.
  await set(own, other);
  await cloud.kill();
  await cloud.start();
  await answering(chosen);
  const answersAfterCrash = await answers(added?.address ?? '');
  await set(own);
  await cloud.kill();
  await cloud.start();
  await settled([first?.mac ?? '']);
  const answersAfterSecondCrash = await answers(chosen);
  await cloud.run('network', 'delete', second.id);
  const taps = (await exec('ip', ['-br', 'link', 'show', 'type', 'tun'])).stdout.trim().split('\n');
  const sameBoot = boot === (await cloud.inGuest(vm, 'cat /proc/sys/kernel/random/boot_id'));
  return {
    added: [added?.mac ?? '', added?.address ?? '', chosen],
    links,
    linksAfterRemoval,
    answersAfterRemoval,
    neighboursAfterRemoval,
    answersAfterCrash,
    answersAfterSecondCrash,
    sameBoot,
    tapsAtTheEnd: taps.length,
    millisecondsUntilAnswer,
  };
}

await GuestCloud.tell(data, image, story);
