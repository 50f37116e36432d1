/**
 * The volumes of a running QEMU. Each volume has a slot (a PCI Express root port), so it can come and go at any time.
 *
 * A volume consists of a descriptor set, a throttle group, two block nodes and a device. Each step looks what QEMU has
 * and adds or removes what is missing or left over. So a call may be repeated after a crash at any point.
 *
 * The guest releases a device some time after the request, or never: a guest in its firmware loses the request, and a
 * paused guest answers after it continues. The caller therefore repeats the call until the volume is gone.
 */
import type { Id } from '../../../contract/fields.ts';
import { maxVolumes } from '../../../contract/resources/volume-attachments.ts';
import { isIdOf } from '../../../model/ids.ts';
import type { VolumeSpec } from '../../../model/vm/volumes.ts';
import type { Qmp, QmpEvent } from './qmp.ts';
import { isObject, QmpError, virtualSizeOf } from './qmp-messages.ts';

/** The time in milliseconds that a call waits for the guest to release a device. Linux needs about 100 ms. */
const releaseMs = 2_000;

const deviceOf = (volume: string) => `device-${volume}`;
const fileOf = (volume: string) => `file-${volume}`;
const limitOf = (volume: string) => `limit-${volume}`;

/** Returns the name of the root port of a slot. */
export const portOf = (slot: number): string => `slot${slot}`;

/** The parts of volumes that a QEMU has. */
interface Parts {
  readonly devices: ReadonlySet<string>;
  readonly limits: ReadonlySet<string>;
  /** The answer to query-named-block-nodes. */
  readonly nodes: unknown;
  readonly nodeNames: ReadonlySet<string>;
  /** The descriptor sets by their mark, the id of the volume. */
  readonly sets: ReadonlyMap<string, number>;
}

function listOf(answer: unknown): readonly Readonly<Record<string, unknown>>[] {
  if (!Array.isArray(answer)) throw new QmpError('the answer of QEMU is no list');
  return answer.filter(isObject);
}

const namesIn = (answer: unknown, field: string): Set<string> =>
  new Set(listOf(answer).flatMap((each) => (typeof each[field] === 'string' ? [each[field]] : [])));

function setsIn(answer: unknown): Map<string, number> {
  const sets = new Map<string, number>();
  for (const { 'fdset-id': set, fds } of listOf(answer)) {
    const mark = listOf(fds)[0]?.opaque;
    if (typeof mark === 'string' && Number.isSafeInteger(set)) sets.set(mark, set as number);
  }
  return sets;
}

async function look(qmp: Qmp): Promise<Parts> {
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true });
  return {
    devices: namesIn(await qmp.execute('qom-list', { path: '/machine/peripheral' }), 'name'),
    limits: namesIn(await qmp.execute('qom-list', { path: '/objects' }), 'name'),
    nodes,
    nodeNames: namesIn(nodes, 'node-name'),
    sets: setsIn(await qmp.execute('query-fdsets')),
  };
}

/** A VM has at most 16 volumes, and each may still be leaving while another one arrives. */
const maxKnown = 2 * maxVolumes;

/**
 * Returns the volumes of which QEMU has any part.
 * @throws QmpError if it names more volumes than it can have
 */
function volumesIn({ devices, limits, nodeNames, sets }: Parts): Set<Id<'volume'>> {
  const names = [...devices, ...limits, ...nodeNames].map((name) => name.replace(/^(device|file|limit)-/, ''));
  const found = new Set([...names, ...sets.keys()].filter((name) => isIdOf('volume', name)));
  if (found.size > maxKnown) throw new QmpError('QEMU names too many volumes');
  return found;
}

const limits = ({ max_iops, max_throughput }: VolumeSpec) => ({ 'iops-total': max_iops, 'bps-total': max_throughput });

/** Gives the volume to the guest. `pass` adds the volume's file to a descriptor set with the volume's mark. */
async function plug(qmp: Qmp, volume: VolumeSpec, parts: Parts, pass: () => Promise<void>): Promise<void> {
  const { id, slot, size } = volume;
  if (parts.limits.has(limitOf(id))) {
    const path = `/objects/${limitOf(id)}`;
    await qmp.execute('qom-set', { path, property: 'limits', value: limits(volume) });
  } else {
    await qmp.execute('object-add', { 'qom-type': 'throttle-group', id: limitOf(id), limits: limits(volume) });
  }
  if (!parts.nodeNames.has(fileOf(id))) {
    if (!parts.sets.has(id)) await pass();
    const set = setsIn(await qmp.execute('query-fdsets')).get(id);
    if (set === undefined) throw new QmpError('QEMU has not kept a descriptor');
    await qmp.execute('blockdev-add', {
      driver: 'file',
      'node-name': fileOf(id),
      filename: `/dev/fdset/${set}`,
      // Two processes must never write one volume. The second process does not get the lock.
      locking: 'on',
      discard: 'unmap',
    });
  }
  if (!parts.nodeNames.has(id)) {
    // Without `discard` here too, a trim of the guest would free nothing.
    const node = {
      driver: 'throttle',
      'node-name': id,
      'throttle-group': limitOf(id),
      file: fileOf(id),
      discard: 'unmap',
    };
    await qmp.execute('blockdev-add', { ...node, 'detect-zeroes': 'unmap' });
  } else {
    const present = virtualSizeOf(parts.nodes, id);
    // Only a change of the topmost node tells the guest.
    if (present !== undefined && present < size) await qmp.execute('block_resize', { 'node-name': id, size });
  }
  if (parts.devices.has(deviceOf(id))) return;
  const device = { driver: 'virtio-blk-pci', id: deviceOf(id), bus: portOf(slot), drive: id, serial: id };
  await qmp.execute('device_add', { ...device, werror: 'stop', rerror: 'stop' });
}

/** Asks the guest to release the device. Returns after the release, or after `releaseMs`. */
async function release(qmp: Qmp, device: string): Promise<void> {
  const released = Promise.withResolvers<void>();
  const listen = ({ event, data }: QmpEvent) => {
    if (event === 'DEVICE_DELETED' && data.device === device) released.resolve();
  };
  qmp.on('event', listen);
  const timer = setTimeout(released.resolve, releaseMs);
  try {
    await qmp.execute('device_del', { id: device });
    await released.promise;
  } finally {
    clearTimeout(timer);
    qmp.off('event', listen);
  }
}

/** Removes the parts of a volume that has no device. */
async function removeParts(qmp: Qmp, volume: string, parts: Parts): Promise<void> {
  for (const node of [volume, fileOf(volume)]) {
    if (parts.nodeNames.has(node)) await qmp.execute('blockdev-del', { 'node-name': node });
  }
  if (parts.limits.has(limitOf(volume))) await qmp.execute('object-del', { id: limitOf(volume) });
  const set = parts.sets.get(volume);
  if (set !== undefined) await qmp.execute('remove-fd', { 'fdset-id': set });
}

/**
 * Gives the guest these volumes with these sizes and limits, and takes all others away. Returns the volumes that the
 * guest has afterwards, including those that it has not released yet.
 * @param pass adds the file of a volume to a descriptor set
 * @throws QmpError if QEMU refuses a step or does not answer
 */
export async function setVolumes(
  qmp: Qmp,
  volumes: readonly VolumeSpec[],
  pass: (volume: Id<'volume'>) => Promise<void>,
): Promise<Id<'volume'>[]> {
  const before = await look(qmp);
  const wanted = new Set(volumes.map(({ id }) => id));
  const unwanted = [...volumesIn(before)].filter((id) => !wanted.has(id));
  await Promise.all(unwanted.filter((id) => before.devices.has(deviceOf(id))).map((id) => release(qmp, deviceOf(id))));
  const after = unwanted.length > 0 ? await look(qmp) : before;
  for (const id of unwanted) if (!after.devices.has(deviceOf(id))) await removeParts(qmp, id, after);
  for (const volume of volumes) await plug(qmp, volume, after, () => pass(volume.id));
  return [...wanted, ...unwanted.filter((id) => after.devices.has(deviceOf(id)))];
}
