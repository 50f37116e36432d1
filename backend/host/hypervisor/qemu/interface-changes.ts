/**
 * Connects the interfaces of VMs to their networks, and changes those of running VMs.
 *
 * The state file of a VM lists the interfaces of its process, and those that the process is about to get. A change stores
 * its intention there first, then brings the network of the host to it, and changes the process last. So filters are in force
 * before an interface opens. An interface that is to go is cut off before the guest is asked to release it.
 */
import type { Id } from '../../../contract/fields.ts';
import { vxlanName } from '../../../model/network/fabric.ts';
import { bridgeName, tapOf } from '../../../model/network/interface-names.ts';
import type { HostNetwork } from '../../network/host-network.ts';
import type { InterfaceOutcome } from '../hypervisor.ts';
import type { InterfaceSpec } from '../specs.ts';
import type { Guest } from './guest.ts';
import { isPresent, outcomeOf, planInterfaces, portsIn } from './guest-interfaces.ts';
import type { VmDirectories } from './vm-directory.ts';

/** The parts of a host that interfaces need. */
export interface InterfaceHost {
  readonly network: HostNetwork;
  readonly directories: VmDirectories;
}

/** Creates filters, bridges and taps of a VM. Returns the faults by MAC address. */
export async function connectInterfaces(
  { network }: InterfaceHost,
  vm: Id<'vm'>,
  interfaces: readonly InterfaceSpec[],
): Promise<Map<string, Error>> {
  network.attach(vm, interfaces);
  const declared = interfaces.filter(({ leaving }) => !leaving);
  await network.require(declared.map((each) => each.network));
  const faults = await network.converge();
  return new Map(
    declared.flatMap(({ network: spec, ...each }) => {
      const fault = faults.get(tapOf(each)) ?? faults.get(bridgeName(spec.vni)) ?? faults.get(vxlanName(spec.vni));
      if (fault !== undefined) return [[each.mac, new Error(fault)]];
      if (network.isDeclared(spec)) return [];
      return [[each.mac, new Error(`network ${spec.id} has just been removed from this host`)]];
    }),
  );
}

/**
 * Brings the interfaces of a running guest to these.
 * @throws QmpError if QEMU does not answer in time; Error if the VM does not run
 */
export async function changeInterfaces(
  host: InterfaceHost,
  vm: Id<'vm'>,
  guest: Guest | undefined,
  wanted: readonly InterfaceSpec[],
): Promise<InterfaceOutcome> {
  const { directories } = host;
  const state = await directories.load(vm);
  const boot = state?.boot;
  if (guest === undefined || state === undefined || boot?.started_at === undefined)
    throw new Error(`${vm} does not run`);
  const plan = planInterfaces(boot.interfaces, wanted, portsIn(await guest.devices()));
  const save = (interfaces: readonly InterfaceSpec[]) =>
    directories.save(vm, { ...state, boot: { ...boot, interfaces } });
  if (JSON.stringify(plan) !== JSON.stringify(boot.interfaces)) await save(plan);
  const unconnected = await connectInterfaces(host, vm, plan);
  const { devices, faults } = await guest.setInterfaces(plan, new Set(unconnected.keys()));
  const left = plan.filter((each) => !each.leaving || isPresent(each, devices));
  if (left.length < plan.length) {
    // Only a tap without process is removed. A crash before leaves the tap to the next call.
    await save(left);
    for (const [mac, fault] of await connectInterfaces(host, vm, left)) unconnected.set(mac, fault);
  }
  return outcomeOf(left, wanted, devices, new Map([...unconnected, ...faults]));
}
