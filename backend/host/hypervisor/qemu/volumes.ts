/**
 * The volumes of a running QEMU. Each volume has a slot (a PCI Express root port), so it can come and go at any time.
 *
 * A volume consists of a descriptor set or a key, a throttle group, two block nodes and a device. Each step looks what
 * QEMU has and adds or removes what is missing or left over. So a call may be repeated after a crash at any point.
 *
 * The guest releases a device some time after the request, or never: a guest in its firmware loses the request, and a
 * paused guest answers after it continues. The caller therefore repeats the call until the volume is gone.
 */
import type { Id } from '../../../contract/fields.ts';
import { maxVolumes } from '../../../contract/resources/volume-attachments.ts';
import { isIdOf } from '../../../model/ids.ts';
import type { VolumeOutcome, VolumeSpec } from '../../../model/vm/volumes.ts';
import type { VolumeSource } from '../../storage/pools/pool-driver.ts';
import { devicesOf, Monitor, namesIn, release } from './devices.ts';
import type { Qmp } from './qmp.ts';
import { objectsOf, QmpError, virtualSizeOf } from './qmp-messages.ts';
import { keyOf, openRbd } from './rbd-nodes.ts';

/** The time in milliseconds for all commands of one call. A hostile QEMU could otherwise hold up the agent at each one. */
const callTimeoutMs = 20_000;

const deviceOf = (volume: string) => `device-${volume}`;
const fileOf = (volume: string) => `file-${volume}`;
const limitOf = (volume: string) => `limit-${volume}`;

/** Returns the name of the root port of a slot. */
export const portOf = (slot: number): string => `slot${slot}`;

/** The parts of volumes that a QEMU has. */
interface Parts {
  readonly devices: ReadonlySet<string>;
  /** The throttle groups, and the keys that a crash has left. */
  readonly objects: ReadonlySet<string>;
  readonly nodeNames: ReadonlySet<string>;
  /** The descriptor sets by their mark, the id of the volume. */
  readonly sets: ReadonlyMap<string, number>;
}

function setsIn(answer: unknown): Map<string, number> {
  const sets = new Map<string, number>();
  for (const { 'fdset-id': set, fds } of objectsOf(answer)) {
    const mark = objectsOf(fds)[0]?.opaque;
    if (typeof mark === 'string' && Number.isSafeInteger(set)) sets.set(mark, set as number);
  }
  return sets;
}

/** Returns the number of the descriptor set with this mark. */
export const descriptorSet = (answer: unknown, mark: string): number | undefined => setsIn(answer).get(mark);

/**
 * Looks what QEMU has. None of these commands asks the pool of a volume: while a pool hangs, query-block and
 * query-named-block-nodes would stop the monitor and the guest.
 */
async function look(qmp: Monitor): Promise<Parts> {
  return {
    devices: await devicesOf(qmp),
    objects: namesIn(await qmp.execute('qom-list', { path: '/objects' }), 'name'),
    nodeNames: namesIn(await qmp.execute('query-blockstats', { 'query-nodes': true }), 'node-name'),
    sets: setsIn(await qmp.execute('query-fdsets')),
  };
}

/** The sizes in bytes of the volumes of one QEMU, as far as they are known. */
export type VolumeSizes = Map<string, number>;

/** Tells the guest the size of its volume. The data has this size already, so the pool has just answered. */
async function grow(qmp: Monitor, { id, size }: VolumeSpec, sizes: VolumeSizes): Promise<void> {
  const present = sizes.get(id) ?? virtualSizeOf(await qmp.execute('query-named-block-nodes', { flat: true }), id);
  if (present === undefined) throw new QmpError('QEMU has not kept a volume');
  // Only a change of the topmost node tells the guest.
  if (present < size) await qmp.execute('block_resize', { 'node-name': id, size });
  sizes.set(id, Math.max(present, size));
}

/** A VM has at most 16 volumes and a root volume, and each may still be leaving while another one arrives. */
const maxKnown = 2 * (maxVolumes + 1);

/**
 * Returns the volumes of which QEMU has any part.
 * @throws QmpError if it names more volumes than it can have
 */
function volumesIn({ devices, objects, nodeNames, sets }: Parts): Set<Id<'volume'>> {
  const names = [...devices, ...objects, ...nodeNames].map((name) =>
    name.replace(/^(device-|limit-|(key-)?file-)/, ''),
  );
  const found = new Set([...names, ...sets.keys()].filter((name) => isIdOf('volume', name)));
  if (found.size > maxKnown) throw new QmpError('QEMU names too many volumes');
  return found;
}

const limits = ({ max_iops, max_throughput }: VolumeSpec) => ({ 'iops-total': max_iops, 'bps-total': max_throughput });

/** Opens the data of the volume as a node. */
async function openData(qmp: Monitor, volume: VolumeSpec, parts: Parts, supply: VolumeSupply): Promise<void> {
  const { id } = volume;
  const source = await supply.source(volume);
  if (source.kind === 'rbd') return openRbd(qmp, fileOf(id), source, parts.objects);
  if (!parts.sets.has(id)) await supply.pass(volume, source.path);
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

/** Gives the volume to the guest. */
async function plug(
  qmp: Monitor,
  volume: VolumeSpec,
  parts: Parts,
  supply: VolumeSupply,
  sizes: VolumeSizes,
): Promise<void> {
  const { id, slot, root } = volume;
  if (parts.objects.has(limitOf(id))) {
    const path = `/objects/${limitOf(id)}`;
    await qmp.execute('qom-set', { path, property: 'limits', value: limits(volume) });
  } else {
    await qmp.execute('object-add', { 'qom-type': 'throttle-group', id: limitOf(id), limits: limits(volume) });
  }
  if (!parts.nodeNames.has(fileOf(id))) await openData(qmp, volume, parts, supply);
  if (!parts.nodeNames.has(id)) {
    sizes.delete(id);
    // Without `discard` here too, a trim of the guest would free nothing.
    const node = {
      driver: 'throttle',
      'node-name': id,
      'throttle-group': limitOf(id),
      file: fileOf(id),
      discard: 'unmap',
    };
    await qmp.execute('blockdev-add', { ...node, 'detect-zeroes': 'unmap' });
  }
  await grow(qmp, volume, sizes);
  if (parts.devices.has(deviceOf(id))) return;
  const device = { driver: 'virtio-blk-pci', id: deviceOf(id), bus: portOf(slot), drive: id, serial: id };
  await qmp.execute('device_add', { ...device, ...(root && { bootindex: 0 }), werror: 'stop', rerror: 'stop' });
}

/** Removes the parts of a volume that has no device. */
async function removeParts(qmp: Monitor, volume: string, parts: Parts): Promise<void> {
  for (const node of [volume, fileOf(volume)]) {
    if (parts.nodeNames.has(node)) await qmp.execute('blockdev-del', { 'node-name': node });
  }
  for (const id of [limitOf(volume), keyOf(fileOf(volume))]) {
    if (parts.objects.has(id)) await qmp.execute('object-del', { id });
  }
  const set = parts.sets.get(volume);
  if (set !== undefined) await qmp.execute('remove-fd', { 'fdset-id': set });
}

/** The steps for one volume outside of QEMU. */
export interface VolumeSupply {
  /** Makes the data of the volume ready. */
  prepare(volume: VolumeSpec): Promise<void>;
  /** Returns how QEMU opens the data of the volume. */
  source(volume: VolumeSpec): Promise<VolumeSource>;
  /** Adds the file at this path to a descriptor set, with the id of the volume as its mark. */
  pass(volume: VolumeSpec, path: string): Promise<void>;
}

/**
 * Gives the guest these volumes with these sizes and limits, and takes all others away. A fault of one volume does not
 * affect the others.
 * @param sizes the sizes that earlier calls for this process have found
 * @throws QmpError if QEMU does not answer in time
 */
export async function setVolumes(
  connection: Qmp,
  volumes: readonly VolumeSpec[],
  supply: VolumeSupply,
  sizes: VolumeSizes = new Map(),
  timeoutMs = callTimeoutMs,
): Promise<VolumeOutcome> {
  // A pool that hangs holds up neither the other volumes nor the monitor.
  const prepared = await Promise.allSettled(volumes.map((volume) => supply.prepare(volume)));
  const qmp = new Monitor(connection, timeoutMs);
  const before = await look(qmp);
  const wanted = new Set(volumes.map(({ id }) => id));
  const unwanted = [...volumesIn(before)].filter((id) => !wanted.has(id));
  await Promise.all(unwanted.filter((id) => before.devices.has(deviceOf(id))).map((id) => release(qmp, deviceOf(id))));
  const after = unwanted.length > 0 ? await look(qmp) : before;
  for (const id of unwanted) {
    if (after.devices.has(deviceOf(id))) continue;
    sizes.delete(id);
    await removeParts(qmp, id, after);
  }
  const faults = new Map<Id<'volume'>, unknown>();
  for (const [index, volume] of volumes.entries()) {
    const preparation = prepared[index];
    if (preparation?.status === 'rejected') {
      faults.set(volume.id, preparation.reason);
      continue;
    }
    try {
      await plug(qmp, volume, after, supply, sizes);
    } catch (error) {
      // After the end of the connection, nothing is known of the other volumes.
      if (connection.closed) throw error;
      faults.set(volume.id, error);
    }
  }
  const plugged = volumes.map(({ id }) => id).filter((id) => !faults.has(id) || after.devices.has(deviceOf(id)));
  return { present: [...plugged, ...unwanted.filter((id) => after.devices.has(deviceOf(id)))], faults };
}
