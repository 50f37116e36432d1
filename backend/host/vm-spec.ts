/** What a VM needs of this host before it can start, from the records. */
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Resources } from '../model/placement.ts';
import { imageReports, networks, reports, type VmRecord, vms } from '../model/records.ts';
import type { Hypervisor, NetworkSpec, VmSpec } from './hypervisor/hypervisor.ts';
import type { Said } from './reports.ts';
import type { HostView } from './view.ts';

/** What to report while the VM cannot start because of its image. */
export async function imageNotThere(
  { view, hypervisor }: { readonly view: HostView; readonly hypervisor: Hypervisor },
  vm: VmRecord,
): Promise<(Said & { readonly message: string }) | undefined> {
  const image = view.mirror.get(imageReports, vm.image)?.value;
  const reason = 'image_not_available';
  if (image?.phase === 'error') {
    return { phase: 'error', reason, message: `The image cannot be used. ${image.message ?? 'Its import failed.'}` };
  }
  if (image?.phase !== 'available') {
    return { phase: 'preparing', reason, message: 'Waits until the image is imported.' };
  }
  if (await hypervisor.hasImage(vm.image)) return undefined;
  return { phase: 'preparing', reason, message: 'Waits until the image is in the image store of this host.' };
}

function networkSpec(view: HostView, id: Id<'network'>): NetworkSpec | undefined {
  const network = view.mirror.get(networks, id)?.value;
  if (network === undefined) return undefined;
  const { vni, cidr, mtu, dns_servers } = network;
  return { id, vni, cidr, mtu, dns_servers };
}

/** Throws UcloudError('invalid_reference') if a network is not there. */
export function specOf(view: HostView, vm: VmRecord, fence: number, { cpus, memory, disk }: Resources): VmSpec {
  const { id, name, generation, image } = vm;
  const interfaces = vm.interfaces.map(({ network, mac, address }) => {
    const spec = networkSpec(view, network);
    if (spec === undefined) throw new UcloudError('invalid_reference', `network ${network} does not exist`);
    return { network: spec, mac, address };
  });
  return { id, name, fence, generation, cpus, memory, disk_size: disk, image, interfaces };
}

/** Networks of all VMs placed on the host that are not torn down yet. */
export function wantedNetworks(view: HostView, host: Id<'host'>): NetworkSpec[] {
  const wanted = new Map<string, NetworkSpec>();
  for (const id of view.placedOn(host)) {
    const report = view.mirror.get(reports, id)?.value;
    if (report?.host === host && report.phase === 'gone') continue;
    for (const { network } of view.mirror.get(vms, id)?.value.interfaces ?? []) {
      const spec = wanted.has(network) ? undefined : networkSpec(view, network);
      if (spec) wanted.set(network, spec);
    }
  }
  return [...wanted.values()];
}
