/** A VM with its network, prefix, SSH keys and image. */
import { Construct } from 'constructs';
import type { SshKey } from './bindings/ssh-key/index.ts';
import { Vm, type VmConfig } from './bindings/vm/index.ts';
import { fail, validateName } from './checks.ts';
import {
  concatIds,
  createOtherDependencies,
  createVmDependencies,
  type VmDependenciesConfig,
} from './construct-support.ts';
import type { Network } from './network.ts';
import { idOf, type Reference } from './reference.ts';
import { type DataDisk, Volume } from './volume.ts';

/**
 * All arguments of a `ucloud_vm`, with a single network. `dependsOn`, `lifecycle`, `connection` and `provisioners`
 * apply to the VM; `provider` and `project` apply to all created resources.
 */
export interface VirtualMachineConfig
  extends Omit<
      VmConfig,
      keyof VmDependenciesConfig | 'name' | 'interfaces' | 'volumes' | 'rootVolume' | 'count' | 'forEach'
    >,
    Omit<VmDependenciesConfig, 'image'> {
  /** The image, as for a group of VMs. Exactly one of `image` and `rootVolume` must be set. */
  readonly image?: VmDependenciesConfig['image'];
  /** The volume that the VM boots from, which outlives the VM. It has an image: `new Volume(…, { image: … })`. */
  readonly rootVolume?: Reference;
  /**
   * The name of the VM and of the created resources, and the host name of the guest: an RFC 1123 label.
   * @default the id of the construct
   */
  readonly name?: string;
  /**
   * The MAC address.
   * @default derived from project and name, so that a replaced VM keeps its address
   */
  readonly mac?: string;
  /**
   * Security groups of the interface, beside those whose `vmSelector` selects the VM.
   * @default those of the network
   */
  readonly securityGroups?: readonly Reference[];
  /** Existing volumes of the VM. */
  readonly volumes?: readonly Reference[];
  /**
   * Volumes that are created for the VM, by name. They stay when the VM is replaced. The name of a volume is
   * `<name of the VM>-<name of the disk>`.
   * @default none
   */
  readonly dataDisks?: Readonly<Record<string, DataDisk>>;
}

/**
 * A virtual machine with its network and its SSH keys.
 *
 * ```ts
 * const web = new VirtualMachine(this, 'web', { image: 'demo', publicKeys: ['ssh-ed25519 AAAA… alice'] });
 * const db = new VirtualMachine(this, 'db', { image: 'demo', network: web.network, memory: '2GiB' });
 * new TerraformOutput(this, 'address', { value: web.address });
 * ```
 *
 * The resources inside have the other methods: `web.vm.addOverride(…)`, `web.vm.importFrom('vm-…')`,
 * `web.vm.moveTo('…')`.
 */
export class VirtualMachine extends Construct {
  /** The VM resource. */
  readonly vm: Vm;
  /** The name of the VM. */
  readonly name: string;
  /** The network of the VM, as it was given. */
  readonly network: Reference;
  /** The created network; undefined if a network was given. */
  readonly ownNetwork: Network | undefined;
  /** The SSH keys that were created from `publicKeys`. */
  readonly ownKeys: readonly SshKey[];
  /** The volumes that were created from `dataDisks`, by the name of the disk. */
  readonly dataDisks: Readonly<Record<string, Volume>>;

  /** @throws Error that names the construct and the invalid option */
  constructor(scope: Construct, id: string, config: VirtualMachineConfig) {
    super(scope, id);
    const {
      image,
      rootVolume,
      network: _network,
      publicKeys: _publicKeys,
      sshKeys: _sshKeys,
      mac,
      securityGroups,
      volumes = [],
      dataDisks = {},
      ...rest
    } = config;
    this.name = validateName(this, config.name ?? id);
    if (image !== undefined && rootVolume !== undefined) {
      fail(this, 'image and rootVolume exclude each other: a root volume has an image of its own');
    }
    const origin =
      rootVolume === undefined
        ? { ...createVmDependencies(this, this.name, { ...config, image: image ?? '' }), rootVolume: undefined }
        : { ...createOtherDependencies(this, this.name, config), image: undefined, rootVolume: idOf(rootVolume) };
    const { network, ownNetwork, ownKeys, sshKeys } = origin;
    this.network = network;
    this.ownNetwork = ownNetwork;
    this.ownKeys = ownKeys;
    const { project, provider } = config;
    const owned = { ...(provider && { provider }), ...(project !== undefined && { project }) };
    this.dataDisks = Object.fromEntries(
      Object.entries(dataDisks).map(([disk, given]) => {
        const volume = { ...given, ...owned, name: `${this.name}-${disk}` };
        return [disk, new Volume(this, `disk-${disk}`, volume)];
      }),
    );
    const allVolumes = concatIds(Object.values(this.dataDisks), volumes);
    this.vm = new Vm(this, 'Default', {
      ...rest,
      name: this.name,
      ...(origin.image ? { image: origin.image.id } : { rootVolume: origin.rootVolume }),
      interfaces: [
        {
          network: idOf(network),
          ...(mac !== undefined && { mac }),
          ...(securityGroups && { securityGroups: securityGroups.map(idOf) }),
        },
      ],
      sshKeys,
      ...((volumes.length > 0 || Object.keys(dataDisks).length > 0) && { volumes: allVolumes }),
    });
  }

  /** The id of the VM. */
  get id(): string {
    return this.vm.id;
  }

  /** The IPv6 address of the VM. */
  get address(): string {
    return this.vm.address;
  }

  /** The id of the VM's host. */
  get host(): string {
    return this.vm.status.host;
  }

  /** The cost of the VM in a month, before VAT, in `vm.price.currency`. Null in Terraform if there are no prices. */
  get monthlyCost(): string {
    return this.vm.price.monthly;
  }

  /** The address of the VM in Terraform, so that `dependsOn` accepts the construct. */
  get fqn(): string {
    return this.vm.fqn;
  }
}
