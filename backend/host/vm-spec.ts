/** Derives the needs of a VM on this host from its records: its image, its networks and its specification. */
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import { defaultFirmware } from '../contract/resources/images.ts';
import { guestConfigOf, noCloudDocuments } from '../model/guest/no-cloud.ts';
import { innerMtu } from '../model/network/fabric.ts';
import { interfaceAddresses } from '../model/network/interface-addresses.ts';
import type { Resources } from '../model/placement/filters.ts';
import { imageReports, images, networks, reports, sshKeys, type VmRecord, vms } from '../model/records/index.ts';
import type { VolumeSpec } from '../model/vm/volumes.ts';
import type { InterfaceSpec, NetworkSpec, Underlay, VmSpec } from './hypervisor/specs.ts';
import type { HostImages } from './images/host-images.ts';
import type { ReportFields } from './reports.ts';
import type { HostView } from './view.ts';

/**
 * Returns the report of a VM that cannot start because its image is not available; undefined if the image is available.
 */
export async function imageUnavailable(
  { view, images: files }: { readonly view: HostView; readonly images: Pick<HostImages, 'status'> | undefined },
  vm: VmRecord,
): Promise<(ReportFields & { readonly message: string }) | undefined> {
  if (vm.root_volume !== undefined) return undefined;
  const image = view.mirror.get(imageReports, vm.image)?.value;
  const reason = 'image_not_available';
  if (image?.phase === 'error') {
    return { phase: 'error', reason, message: `The image cannot be used. ${image.message ?? 'Its import failed.'}` };
  }
  if (image?.phase !== 'available') {
    return { phase: 'preparing', reason, message: 'The VM waits for the import of its image.' };
  }
  const message = await files?.status(vm.image);
  return message === undefined ? undefined : { phase: 'preparing', reason, message };
}

function networkSpec(view: HostView, id: Id<'network'>, underlay: Underlay | undefined): NetworkSpec | undefined {
  const network = view.mirror.get(networks, id)?.value;
  if (network === undefined) return undefined;
  const { vni, kind, cidr, mtu, dns_servers } = network;
  const links = underlay && { mtu: Math.min(mtu, innerMtu(underlay.mtu)), link_mtu: Math.max(mtu, underlay.mtu) };
  return { id, ...(kind === 'routed' && { kind }), vni, cidr, mtu, dns_servers, ...links };
}

/**
 * Returns the interfaces of a VM for the hypervisor.
 * @throws UcloudError `invalid_reference` if a network does not exist
 */
export const interfaceSpecs = (
  view: HostView,
  vm: Pick<VmRecord, 'interfaces'>,
  underlay: Underlay | undefined,
): InterfaceSpec[] =>
  vm.interfaces.map((each): InterfaceSpec => {
    const { network, mac } = each;
    const spec = networkSpec(view, network, underlay);
    if (spec === undefined) throw new UcloudError('invalid_reference', `network ${network} does not exist`);
    const [address = each.address, ...more_addresses] = interfaceAddresses(each);
    return { network: spec, mac, address, ...(more_addresses.length > 0 && { more_addresses }) };
  });

/**
 * Returns the specification of a VM for the hypervisor.
 * @throws UcloudError `invalid_reference` if a network does not exist
 */
export function vmSpec(
  view: HostView,
  vm: VmRecord,
  fence: number,
  { cpus, memory, disk }: Resources,
  volumes: readonly VolumeSpec[],
  underlay?: Underlay,
): VmSpec {
  const { id, name, generation, image } = vm;
  const interfaces = interfaceSpecs(view, vm, underlay);
  const config = guestConfigOf(vm, {
    sshKey: (key) => view.mirror.get(sshKeys, key)?.value,
    network: (network) => view.mirror.get(networks, network)?.value,
    image: () => view.mirror.get(images, image)?.value,
  });
  const seed = noCloudDocuments(config);
  const firmware = (vm.boot ?? view.mirror.get(images, image)?.value)?.firmware ?? defaultFirmware;
  const own = vm.root_volume === undefined ? { image } : {};
  return { id, name, fence, generation, cpus, memory, disk_size: disk, ...own, firmware, interfaces, volumes, seed };
}

/** Returns the networks of all VMs that are placed on the host and not yet removed from it. */
export function requiredNetworks(view: HostView, host: Id<'host'>, underlay?: Underlay): NetworkSpec[] {
  const wanted = new Map<string, NetworkSpec>();
  for (const id of view.placedOn(host)) {
    const report = view.mirror.get(reports, id)?.value;
    if (report?.host === host && report.phase === 'gone') continue;
    for (const { network } of view.mirror.get(vms, id)?.value.interfaces ?? []) {
      const spec = wanted.has(network) ? undefined : networkSpec(view, network, underlay);
      if (spec) wanted.set(network, spec);
    }
  }
  return [...wanted.values()];
}
