/** A VM with what it needs around it: network, prefix, keys, image. */
import { Construct } from 'constructs';
import { DataUcloudImage } from './bindings/data-ucloud-image/index.ts';
import { SshKey } from './bindings/ssh-key/index.ts';
import { Vm, type VmConfig } from './bindings/vm/index.ts';
import { Network } from './network.ts';
import { idOf, type Reference } from './reference.ts';

export interface VirtualMachineConfig
  extends Pick<
    VmConfig,
    | 'cpus'
    | 'memory'
    | 'diskSize'
    | 'userData'
    | 'labels'
    | 'description'
    | 'powerState'
    | 'deleteProtection'
    | 'antiAffinity'
    | 'waitFor'
    | 'timeouts'
    | 'project'
  > {
  /**
   * Name of the VM and of what is made for it, and host name of the guest: an RFC 1123 label.
   * @default the id of the construct
   */
  readonly name?: string;
  /** Name of the image, such as `demo`. Either this or `imageId`. */
  readonly image?: string;
  readonly imageId?: string;
  /**
   * The network it is plugged into: a construct, a data source, or an id.
   * @default a network of its own
   */
  readonly network?: Reference;
  /**
   * Where a network of its own takes its /64 from: a construct, a data source, or an id. Not together with `network`.
   * @default a prefix of its own, a /64
   */
  readonly prefix?: Reference;
  /**
   * Public keys that may log in, each a line in the format of OpenSSH (`ssh-ed25519 AAAA…`). An SSH key is made for each.
   * @default none
   */
  readonly publicKeys?: readonly string[];
  /** SSH keys that exist already: constructs, or ids. @default none */
  readonly sshKeys?: readonly Reference[];
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
 */
export class VirtualMachine extends Construct {
  readonly vm: Vm;
  readonly name: string;
  /** The network it is in, as it was given. */
  readonly network: Reference;
  /** Made only when no network was given. */
  readonly ownNetwork: Network | undefined;
  /** The SSH keys that were made from public keys. */
  readonly ownKeys: readonly SshKey[];

  constructor(scope: Construct, id: string, config: VirtualMachineConfig) {
    super(scope, id);
    const { image, imageId, network, prefix, publicKeys = [], sshKeys = [], mac, name = id, ...rest } = config;
    if (network !== undefined && prefix !== undefined) {
      throw new Error(`${this.node.path}: give a network or a prefix for its own network, not both`);
    }
    if ((image === undefined) === (imageId === undefined)) {
      throw new Error(`${this.node.path}: give either the name of an image or its id`);
    }
    const project = config.project === undefined ? {} : { project: config.project };
    this.name = name;

    this.ownNetwork =
      network === undefined
        ? new Network(this, 'network', { name, ...(prefix !== undefined && { prefix }), ...project })
        : undefined;
    this.network = network ?? this.ownNetwork ?? '';

    this.ownKeys = publicKeys.map(
      (publicKey, index) => new SshKey(this, `key-${index}`, { name: `${name}-${index}`, publicKey, ...project }),
    );

    this.vm = new Vm(this, 'Default', {
      ...rest,
      name,
      image: imageId ?? new DataUcloudImage(this, 'image', { name: String(image) }).id,
      interfaces: [{ network: idOf(this.network), ...(mac !== undefined && { mac }) }],
      sshKeys: [...this.ownKeys, ...sshKeys].map(idOf),
    });
  }

  /** The IPv6 address of the VM. */
  get address(): string {
    return this.vm.address;
  }
}
