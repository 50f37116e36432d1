/** A VM with what it needs around it: network, prefix, keys, image. */
import { Construct } from 'constructs';
import type { SshKey } from './bindings/ssh-key/index.ts';
import { Vm, type VmConfig } from './bindings/vm/index.ts';
import { checkedName } from './checks.ts';
import { type GroundConfig, ground } from './ground.ts';
import type { Network } from './network.ts';
import { idOf, type Reference } from './reference.ts';

/**
 * Everything that a `ucloud_vm` takes, except that it has one network. `dependsOn`, `lifecycle`, `connection` and
 * `provisioners` are those of the VM; `provider` and `project` hold for what is made for it, too.
 */
export interface VirtualMachineConfig
  extends Omit<VmConfig, keyof GroundConfig | 'name' | 'interfaces' | 'count' | 'forEach'>,
    GroundConfig {
  /**
   * Name of the VM and of what is made for it, and host name of the guest: an RFC 1123 label.
   * @default the id of the construct
   */
  readonly name?: string;
  /** MAC address. @default one that follows from project and name, so that a VM made anew keeps its address */
  readonly mac?: string;
}

/**
 * A virtual machine with its network and its keys.
 *
 * ```ts
 * const web = new VirtualMachine(this, 'web', { image: 'demo', publicKeys: ['ssh-ed25519 AAAA… alice'] });
 * const db = new VirtualMachine(this, 'db', { image: 'demo', network: web.network, memory: '2GiB' });
 * new TerraformOutput(this, 'address', { value: web.address });
 * ```
 *
 * What it does not have, its parts do: `web.vm.addOverride(…)`, `web.vm.importFrom('vm-…')`, `web.vm.moveTo('…')`.
 */
export class VirtualMachine extends Construct {
  /** The resource itself. */
  readonly vm: Vm;
  /** Name of the VM. */
  readonly name: string;
  /** The network it is in, as it was given. */
  readonly network: Reference;
  /** Made only when no network was given. */
  readonly ownNetwork: Network | undefined;
  /** The SSH keys that were made from public keys. */
  readonly ownKeys: readonly SshKey[];

  /** @throws Error that names the construct and what is wrong: its name, its image, its keys */
  constructor(scope: Construct, id: string, config: VirtualMachineConfig) {
    super(scope, id);
    const { image: _image, network: _network, publicKeys: _publicKeys, sshKeys: _sshKeys, mac, ...rest } = config;
    this.name = checkedName(this, config.name ?? id);
    const { image, network, ownNetwork, ownKeys, sshKeys } = ground(this, this.name, config);
    this.network = network;
    this.ownNetwork = ownNetwork;
    this.ownKeys = ownKeys;
    this.vm = new Vm(this, 'Default', {
      ...rest,
      name: this.name,
      image: image.id,
      interfaces: [{ network: idOf(network), ...(mac !== undefined && { mac }) }],
      sshKeys,
    });
  }

  /** Id of the VM. */
  get id(): string {
    return this.vm.id;
  }

  /** The IPv6 address of the VM. */
  get address(): string {
    return this.vm.address;
  }

  /** Id of the host that it has been placed on. */
  get host(): string {
    return this.vm.status.host;
  }

  /** Makes it something that `dependsOn` takes: waits for the VM. */
  get fqn(): string {
    return this.vm.fqn;
  }
}
