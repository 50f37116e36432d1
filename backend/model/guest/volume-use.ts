/**
 * Whether a guest uses a volume, by the answers of its guest agent. Pure.
 *
 * The answers are unchecked. Everything unclear counts as use, because a guest that loses a volume in use loses data. The
 * guest agent sees file systems of its own mount namespace, swap, and block devices on top of others (LVM, RAID, dm-crypt).
 * It does not see a program that opens the device itself.
 */

/** The answers of a guest agent. */
export interface GuestDisks {
  /** The result of guest-get-disks. */
  readonly disks: unknown;
  /** The result of guest-get-fsinfo. */
  readonly fileSystems: unknown;
  /** The content of /proc/swaps. */
  readonly swaps: string;
  /** The content of /proc/self/mounts. */
  readonly mounts: string;
  /** Serial numbers by device, such as `/dev/vdb`, for disks whose serial number guest-get-disks does not contain. */
  readonly serials: ReadonlyMap<string, string>;
}

/** The file systems that may have more disks than the guest agent tells. */
const manyDisks = ['btrfs', 'bcachefs', 'zfs'];

/** The maximum number of entries in a list of the agent. */
const maxEntries = 4096;
const maxTextLength = 100;

type Fields = Readonly<Record<string, unknown>>;

interface Disk {
  readonly name: string;
  readonly partition: boolean;
  readonly on: readonly string[];
  readonly serial: string | undefined;
}

class Unclear extends Error {}

function listOf(value: unknown): readonly Fields[] {
  if (!Array.isArray(value) || value.length > maxEntries) throw new Unclear('The guest agent sent no list of devices.');
  return value.map((each: unknown) => {
    if (typeof each !== 'object' || each === null) throw new Unclear('The guest agent sent an unknown form.');
    return each as Fields;
  });
}

const textOf = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' && value.length <= 4096 ? value : undefined;

/** Returns a text of the guest as one short line without control characters. */
const shown = (text: string): string => text.slice(0, maxTextLength).replaceAll(/\p{C}+/gu, ' ');

function disksIn(answer: unknown): Disk[] {
  return listOf(answer).map(({ name, partition, dependencies, address }) => {
    const device = textOf(name);
    if (device === undefined) throw new Unclear('The guest agent named no device.');
    const on = dependencies ?? [];
    if (!Array.isArray(on) || on.length > maxEntries || !on.every((each) => typeof each === 'string')) {
      throw new Unclear('The guest agent sent an unknown form.');
    }
    const serial = typeof address === 'object' && address !== null ? textOf((address as Fields).serial) : undefined;
    return { name: device, partition: partition === true, on: on as string[], serial };
  });
}

/** Tells whether the device is a virtio disk, such as /dev/vda. Volumes are such disks. */
const isVirtioDisk = (name: string): boolean => /^\/dev\/vd[a-z]{1,3}$/.test(name);

/** Returns the devices whose serial numbers the agent does not tell, at most 64. */
export function disksWithoutSerial(answer: unknown): string[] {
  try {
    const unknown = disksIn(answer).filter(({ name, serial }) => serial === undefined && isVirtioDisk(name));
    return unknown.slice(0, 64).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Unclear) return [];
    throw error;
  }
}

/** Returns the use of the volume as a sentence for people; undefined if the guest does not use it. */
export function volumeUse(volume: string, guest: GuestDisks): string | undefined {
  try {
    return useOf(volume, guest);
  } catch (error) {
    if (error instanceof Unclear) return error.message;
    throw error;
  }
}

function useOf(volume: string, { disks: answer, fileSystems, swaps, mounts, serials }: GuestDisks): string | undefined {
  const disks = disksIn(answer);
  const serialOf = ({ name, serial }: Disk) => serial ?? serials.get(name);
  for (const disk of disks) {
    if (isVirtioDisk(disk.name) && serialOf(disk) === undefined) {
      throw new Unclear(`The guest agent does not tell which disk ${shown(disk.name)} is.`);
    }
  }
  const own = new Set(disks.filter((disk) => serialOf(disk) === volume).map(({ name }) => name));
  const partitions = disks.filter(({ partition, on }) => partition && on.some((each) => own.has(each)));
  for (const { name } of partitions) own.add(name);
  const names = new Set([...own].map((name) => name.replace(/^\/dev\//, '')));
  const isOwn = (name: unknown) => typeof name === 'string' && (own.has(name) || names.has(name));
  for (const { mountpoint, name, disk } of listOf(fileSystems)) {
    const under = disk === undefined ? [] : listOf(disk);
    if (!isOwn(name) && !under.some(({ dev, serial }) => isOwn(dev) || serial === volume)) continue;
    const place = textOf(mountpoint);
    return place === undefined ? 'The guest has mounted it.' : `The guest has mounted it at ${shown(place)}.`;
  }
  for (const { name, on } of disks) {
    if (!own.has(name) && on.some((each) => own.has(each))) {
      return `The device ${shown(name)} of the guest is on it.`;
    }
  }
  if (swaps.split('\n').some((line) => isOwn(line.split(/\s/, 1)[0]))) return 'The guest uses it as swap.';
  if (own.size === 0) return undefined;
  const kinds = new Set(mounts.split('\n').map((line) => line.split(' ')[2]));
  const kind = manyDisks.find((each) => kinds.has(each));
  if (kind !== undefined)
    return `The guest may use it in a file system of the kind ${kind}, whose disks its agent does not tell.`;
  return undefined;
}
