/** The desired state of VMs and networks, as the agent gives it to a driver and to the host's network. */
import type { Id } from '../../contract/fields.ts';
import type { Firmware } from '../../contract/resources/images.ts';
import type { NetworkKind } from '../../contract/resources/networks.ts';
import type { NoCloudDocuments } from '../../model/guest/no-cloud.ts';
import type { SecurityRuleRecord } from '../../model/records/index.ts';
import type { VolumeSpec } from '../../model/vm/volumes.ts';

/** A network on the host. */
export interface NetworkSpec {
  readonly id: Id<'network'>;
  /** Default: `bridged`. */
  readonly kind?: NetworkKind;
  readonly vni: number;
  /** The /64 in CIDR notation (RFC 5952). */
  readonly cidr: string;
  /** The MTU that the guests learn. */
  readonly mtu: number;
  /**
   * The MTU of the interfaces on the host. It is larger if the tunnels between hosts have less room: a guest that ignores
   * the MTU then gets Packet Too Big, instead of silence. Default: `mtu`.
   */
  readonly link_mtu?: number;
  readonly dns_servers: readonly string[];
}

/** An interface of a VM on another host. */
export interface RemoteInterface {
  /** The VNI of its network, if the network is on this host too. */
  readonly vni?: number;
  readonly mac: string;
  /** The address in the network's prefix (RFC 5952). */
  readonly address: string;
  /** The further addresses in the prefix. Default: none. */
  readonly more_addresses?: readonly string[];
  /** The underlay address of its host. */
  readonly via: string;
}

/** The link of a host to the others. */
export interface Underlay {
  /** The address of the host in the underlay (RFC 5952). Its tunnels end here. */
  readonly address: string;
  readonly mtu: number;
}

/** The other hosts, and the paths to their VMs. */
export interface FabricSpec extends Underlay {
  /** The underlay addresses of the other hosts. */
  readonly peers: readonly string[];
  readonly interfaces: readonly RemoteInterface[];
  /** Prefixes whose packets go to another host. */
  readonly routes: readonly { readonly prefix: string; readonly via: string }[];
  /** The prefixes of the cloud. Their addresses without a route are unreachable, so no packet circles. */
  readonly unreachable: readonly string[];
}

/** A prefix that is routed to a VM of this host. */
export interface RoutedPrefix {
  /** In CIDR notation (RFC 5952). */
  readonly prefix: string;
  /** The MAC address of the VM's interface that is the next hop. */
  readonly mac: string;
}

/** A rule of a security group. Without `peers`, its other side are the addresses in `prefixes`. */
export interface SecurityRuleSpec
  extends Pick<SecurityRuleRecord, 'direction' | 'protocol' | 'ports' | 'icmp_types' | 'prefixes'> {
  /** The name of the set of addresses on the other side. */
  readonly peers?: string;
}

/** A security group of an interface on this host. */
export interface SecurityGroupSpec {
  readonly id: Id<'security_group'>;
  readonly default_egress: 'allow' | 'deny';
  readonly rules: readonly SecurityRuleSpec[];
}

/** The filters of the interfaces on this host. */
export interface SecuritySpec {
  readonly groups: readonly SecurityGroupSpec[];
  /** The sets of addresses that rules name: letters, digits and `_`. */
  readonly peers: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  /** The interfaces of this host, also those without groups. All others stay closed: their groups are not known. */
  readonly interfaces: readonly { readonly mac: string; readonly groups: readonly Id<'security_group'>[] }[];
}

/** A network interface of a VM. */
export interface InterfaceSpec {
  readonly network: NetworkSpec;
  readonly mac: string;
  /** The IPv6 address in the network's prefix (RFC 5952). */
  readonly address: string;
  /** The further addresses in the prefix. VMs that an earlier version started have none. */
  readonly more_addresses?: readonly string[];
  /** The name of the tap of a running VM. Default: the name that follows from the MAC address. */
  readonly tap?: string;
  /** The slot of the interface in the process of a running VM. VMs that an earlier version started have none. */
  readonly slot?: number;
  /** The guest is to release the interface, and can use it no more. */
  readonly leaving?: true;
}

/** A VM to prepare or start. */
export interface VmSpec {
  readonly id: Id<'vm'>;
  readonly name: string;
  /** The fencing number of the placement on this host. */
  readonly fence: number;
  readonly generation: number;
  readonly cpus: number;
  /** Bytes. */
  readonly memory: number;
  /** Bytes; 0 without a disk of its own. */
  readonly disk_size: number;
  /** The image of the VM's own disk; undefined if the VM boots from its root volume. */
  readonly image?: Id<'image'>;
  readonly firmware: Firmware;
  readonly interfaces: readonly InterfaceSpec[];
  /** The volumes, with the root volume. */
  readonly volumes: readonly VolumeSpec[];
  /** The contents of the seed disk. */
  readonly seed: NoCloudDocuments;
}
