/** A VM with what it needs around it: network, prefix, keys, image. */
import { Construct } from 'constructs';
import { DataUcloudImage } from './bindings/data-ucloud-image/index.ts';
import { Network } from './bindings/network/index.ts';
import { Prefix } from './bindings/prefix/index.ts';
import { SshKey } from './bindings/ssh-key/index.ts';
import { Vm, type VmConfig } from './bindings/vm/index.ts';

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
   * The network it is plugged into: a construct, or an id.
   * @default a network of its own
   */
  readonly network?: Network | string;
  /**
   * Where a network of its own takes its /64 from: a construct, or an id. Not together with `network`.
   * @default a prefix of its own, a /64
   */
  readonly prefix?: Prefix | string;
  /**
   * Public keys that may log in, each a line in the format of OpenSSH (`ssh-ed25519 AAAA…`). An SSH key is made for each.
   * @default none
   */
  readonly publicKeys?: readonly string[];
  /** SSH keys that exist already: constructs, or ids. @default none */
  readonly sshKeys?: readonly (SshKey | string)[];
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
  /** The network it is in; an id when one was given. */
  readonly network: Network | string;
  /** Made only when neither network nor prefix were given. */
  readonly ownPrefix: Prefix | undefined;
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

    if (network === undefined) {
      this.ownPrefix = prefix === undefined ? new Prefix(this, 'prefix', { name, length: 64, ...project }) : undefined;
      this.network = new Network(this, 'network', { name, prefix: idOf(prefix ?? this.ownPrefix ?? ''), ...project });
    } else {
      this.ownPrefix = undefined;
      this.network = network;
    }

    this.ownKeys = publicKeys.map(
      (publicKey, index) => new SshKey(this, `key-${index}`, { name: `${name}-${index}`, publicKey, ...project }),
    );

    this.vm = new Vm(this, 'vm', {
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

const idOf = (what: string | { readonly id: string }): string => (typeof what === 'string' ? what : what.id);
