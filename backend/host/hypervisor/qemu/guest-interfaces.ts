/**
 * The interfaces of a running QEMU. Each interface has a slot (a PCI Express root port), so it can come and go at any time. It
 * consists of a backend with an open tap, and a device.
 *
 * Each call looks which devices QEMU has, and adds or removes the missing ones. So it may be repeated after a crash at any
 * point. QEMU does not list backends, so a call removes a backend that a crash may have left.
 */
import { maxInterfaces } from '../../../contract/resources/vm-interfaces.ts';
import { tapOf } from '../../../model/network/interface-names.ts';
import type { HeldInterface } from '../../../model/vm/interfaces.ts';
import type { InterfaceOutcome } from '../hypervisor.ts';
import type { InterfaceSpec } from '../specs.ts';
import { devicesOf, Monitor, release } from './devices.ts';
import { type Qmp, QmpError } from './qmp.ts';

/** The time in milliseconds for all commands of one call. */
const callTimeoutMs = 20_000;

/** Returns the name of the root port of an interface. */
export const nicPortOf = (slot: number): string => `nicport${slot}`;
export const nicOf = (slot: number): string => `nic${slot}`;
export const netdevOf = (slot: number): string => `net${slot}`;

/** An interface of a process: a declared one, or one that is to go. */
export type ProcessInterface = InterfaceSpec;

const isSame = (a: InterfaceSpec, b: InterfaceSpec): boolean => a.mac === b.mac && a.network.vni === b.network.vni;

/**
 * Returns the interfaces that a process should have, in their slots: the wanted ones, and those that are to go. A new
 * interface whose MAC address or slot is not free yet is missing.
 * @param ports the slots whose root ports the process has
 */
export function planInterfaces(
  present: readonly ProcessInterface[],
  wanted: readonly InterfaceSpec[],
  ports: ReadonlySet<number>,
): ProcessInterface[] {
  const used = new Set(present.map(({ slot }) => slot));
  const free = [...ports].filter((slot) => !used.has(slot)).sort((a, b) => a - b);
  const stays = new Set<ProcessInterface>();
  const planned = wanted.flatMap((each): ProcessInterface[] => {
    const known = present.find(({ mac }) => mac === each.mac);
    if (known === undefined) {
      const slot = free.shift();
      return slot === undefined ? [] : [{ ...each, tap: tapOf(each), slot }];
    }
    // The guest has been asked to release it, and may do so at any time.
    if (known.leaving || !isSame(known, each)) return [];
    stays.add(known);
    const { tap = tapOf(known), slot } = known;
    return [{ ...each, tap, ...(slot !== undefined && { slot }) }];
  });
  const leaving = present.flatMap((each) => (stays.has(each) ? [] : [{ ...each, leaving: true as const }]));
  return [...planned, ...leaving];
}

/** Returns the slots whose root ports are among the devices. */
export const portsIn = (devices: ReadonlySet<string>): Set<number> =>
  new Set(Array.from({ length: maxInterfaces }, (_, slot) => slot).filter((slot) => devices.has(nicPortOf(slot))));

/** Tells whether the process has the interface. One without a slot was there at the start, and stays until the end. */
export const isPresent = ({ slot }: ProcessInterface, devices: ReadonlySet<string>): boolean =>
  slot === undefined || devices.has(nicOf(slot));

/** Returns the names of the devices of a QEMU. */
export const lookAtDevices = (qmp: Qmp): Promise<Set<string>> => devicesOf(new Monitor(qmp, callTimeoutMs));

async function plug(qmp: Monitor, each: InterfaceSpec, slot: number, pass: PassTap): Promise<void> {
  await removeBackend(qmp, slot);
  await pass(tapOf(each), netdevOf(slot));
  await qmp.execute('device_add', {
    driver: 'virtio-net-pci',
    id: nicOf(slot),
    bus: nicPortOf(slot),
    netdev: netdevOf(slot),
    mac: each.mac,
    host_mtu: each.network.mtu,
    romfile: '',
  });
}

/** Removes the backend, if there is one. The command fails without one. */
async function removeBackend(qmp: Monitor, slot: number): Promise<void> {
  try {
    await qmp.execute('netdev_del', { id: netdevOf(slot) });
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
  }
}

/** Opens the tap and makes it a backend of the process. */
type PassTap = (tap: string, netdev: string) => Promise<void>;

/**
 * Gives the guest the interfaces of the plan, and asks it to release those that are to go.
 * @param faulty the MAC addresses of interfaces that the host cannot connect
 * @throws QmpError if QEMU does not answer in time
 */
export async function setInterfaces(
  connection: Qmp,
  plan: readonly ProcessInterface[],
  faulty: ReadonlySet<string>,
  pass: PassTap,
): Promise<{ readonly devices: ReadonlySet<string>; readonly faults: Map<string, unknown> }> {
  const qmp = new Monitor(connection, callTimeoutMs);
  const before = await devicesOf(qmp);
  const faults = new Map<string, unknown>();
  const attempt = async (mac: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      // After the end of the connection, nothing is known of the other interfaces.
      if (connection.closed) throw error;
      faults.set(mac, error);
    }
  };
  const leaving = plan.flatMap(({ slot, leaving, mac }) => (leaving && slot !== undefined ? [{ slot, mac }] : []));
  await Promise.all(
    leaving
      .filter(({ slot }) => before.has(nicOf(slot)))
      .map(({ slot, mac }) => attempt(mac, () => release(qmp, nicOf(slot)))),
  );
  // A guest that is about to release a device refuses the next request. That is no fault.
  for (const { mac } of leaving) faults.delete(mac);
  const after = leaving.length > 0 ? await devicesOf(qmp) : before;
  for (const { slot } of leaving) if (!after.has(nicOf(slot))) await removeBackend(qmp, slot);
  const missing = plan.filter((each) => !each.leaving && !faulty.has(each.mac) && !isPresent(each, after));
  for (const each of missing) {
    const { slot } = each;
    if (slot !== undefined) await attempt(each.mac, () => plug(qmp, each, slot, pass));
  }
  return { devices: missing.length > 0 ? await devicesOf(qmp) : after, faults };
}

/** Returns the outcome of a change. */
export function outcomeOf(
  plan: readonly ProcessInterface[],
  wanted: readonly InterfaceSpec[],
  devices: ReadonlySet<string>,
  faults: ReadonlyMap<string, unknown>,
): InterfaceOutcome {
  const held = plan.filter((each) => isPresent(each, devices));
  const interfaces = held.map(
    ({ mac, address, more_addresses = [], leaving }): HeldInterface => ({
      mac,
      addresses: leaving ? [] : [address, ...more_addresses],
    }),
  );
  const ports = portsIn(devices);
  const planned = new Set(plan.map(({ mac }) => mac));
  const needsRestart =
    held.some(({ slot, leaving }) => leaving === true && slot === undefined) ||
    (ports.size === 0 && wanted.some(({ mac }) => !planned.has(mac)));
  return { interfaces, needsRestart, faults };
}
