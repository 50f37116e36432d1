/** A number of VMs that are alike. */
import { Construct } from 'constructs';
import { DataUcloudImage } from './bindings/data-ucloud-image/index.ts';
import { SshKey } from './bindings/ssh-key/index.ts';
import { Network } from './network.ts';
import { idOf, type Reference } from './reference.ts';
import { VirtualMachine, type VirtualMachineConfig } from './virtual-machine.ts';

/** What a member may have otherwise than its group. */
export type VmGroupMember = Omit<
  VirtualMachineConfig,
  'name' | 'image' | 'imageId' | 'network' | 'prefix' | 'publicKeys' | 'project' | 'antiAffinity'
> & {
  /** Keys that it lets in beyond those of the group. */
  readonly sshKeys?: readonly Reference[];
};

export interface VmGroupConfig extends Omit<VirtualMachineConfig, 'mac'> {
  /**
   * Name of the group, an RFC 1123 label: begins the names of its VMs, and is their label `group`.
   * @default the id of the construct
   */
  readonly name?: string;
  /**
   * How many: they are called `<name>-1`, `<name>-2`, …. A change adds or removes the last ones and touches no other.
   * Either this or `members`.
   */
  readonly count?: number;
  /**
   * Which: they are called `<name>-<member>`. Any of them can be removed without touching the others. Either this or
   * `count`.
   */
  readonly members?: readonly string[];
  /**
   * How the VMs are kept on different hosts. `required`: no two of them ever share a host, and one for which there is no
   * host of its own waits. `preferred`: they share a host where there is no other. `none`: they are placed as if they
   * had nothing to do with each other. A VM keeps its host, so a change makes the VMs anew.
   *
   * They are then an anti-affinity group with the name of this one; for a group of another name, which other VMs may
   * belong to, give `antiAffinity` instead.
   * @default preferred
   */
  readonly spread?: 'required' | 'preferred' | 'none';
  /** What a member has otherwise, by what follows the name of the group (`1`, or one of `members`). @default nothing */
  readonly each?: (member: string) => VmGroupMember;
}

/**
 * VMs that are alike, on one network, spread over hosts: strictly with `spread: 'required'`, otherwise as far as there
 * are hosts.
 *
 * Each is a resource of its own, named after itself: growing or shrinking the group never touches those that stay.
 *
 * ```ts
 * const web = new VmGroup(this, 'web', { image: 'demo', count: 3, spread: 'required', network: lan });
 * new TerraformOutput(this, 'web', { value: web.addresses });
 * ```
 */
export class VmGroup extends Construct {
  readonly vms: readonly VirtualMachine[];
  /** The network they are on, as it was given. */
  readonly network: Reference;
  /** Made only when no network was given. */
  readonly ownNetwork: Network | undefined;
  /** The SSH keys that were made from public keys. */
  readonly ownKeys: readonly SshKey[];
  readonly #members: ReadonlyMap<string, VirtualMachine>;

  constructor(scope: Construct, id: string, config: VmGroupConfig) {
    super(scope, id);
    const { path } = this.node;
    const { name = id, count, members, each, image, imageId, network, prefix, publicKeys = [], ...common } = config;
    const { sshKeys = [], labels = {}, spread, antiAffinity, ...rest } = common;
    if ((image === undefined) === (imageId === undefined)) {
      throw new Error(`${path}: give either the name of an image or its id`);
    }
    if (network !== undefined && prefix !== undefined) {
      throw new Error(`${path}: give a network or a prefix for its own network, not both`);
    }
    if (spread !== undefined && antiAffinity !== undefined) {
      throw new Error(`${path}: give spread or antiAffinity, not both`);
    }
    const mode = spread ?? 'preferred';
    const apart = antiAffinity ?? (mode === 'none' ? undefined : { group: name, mode });
    const names = memberNames(path, count, members);
    const project = config.project === undefined ? {} : { project: config.project };

    this.ownNetwork =
      network === undefined
        ? new Network(this, 'network', { name, ...(prefix !== undefined && { prefix }), ...project })
        : undefined;
    this.network = network ?? this.ownNetwork ?? '';
    this.ownKeys = publicKeys.map(
      (publicKey, index) => new SshKey(this, `key-${index}`, { name: `${name}-${index}`, publicKey, ...project }),
    );
    // Looked up once, and given as an id.
    const ofImage = imageId ?? new DataUcloudImage(this, 'image', { name: String(image) }).id;

    const group = new Construct(this, 'vm');
    this.#members = new Map(
      names.map((member) => {
        const own = each?.(member) ?? {};
        const vm = new VirtualMachine(group, member, {
          ...rest,
          ...own,
          name: `${name}-${member}`,
          imageId: ofImage,
          network: idOf(this.network),
          labels: { group: name, ...labels, ...own.labels },
          sshKeys: [...this.ownKeys, ...sshKeys, ...(own.sshKeys ?? [])],
          ...(apart && { antiAffinity: apart }),
        });
        return [member, vm];
      }),
    );
    this.vms = [...this.#members.values()];
  }

  /** The VM of a member, by what follows the name of the group. @throws Error that names those which there are */
  member(member: string): VirtualMachine {
    const found = this.#members.get(member);
    if (found) return found;
    const names = [...this.#members.keys()].map((each) => `"${each}"`).join(', ');
    throw new Error(`${this.node.path}: there is no member "${member}", only ${names}`);
  }

  /** The IPv6 address of each VM by its name. */
  get addresses(): Record<string, string> {
    return this.#collect((vm) => vm.address);
  }

  /** The id of the host that each VM has been placed on, by its name. */
  get hosts(): Record<string, string> {
    return this.#collect((vm) => vm.vm.status.host);
  }

  #collect(of: (vm: VirtualMachine) => string): Record<string, string> {
    return Object.fromEntries(this.vms.map((vm) => [vm.name, of(vm)]));
  }
}

function memberNames(path: string, count: number | undefined, members: readonly string[] | undefined): string[] {
  if ((count === undefined) === (members === undefined)) throw new Error(`${path}: give either count or members`);
  if (members) {
    const twice = members.find((member, index) => members.indexOf(member) !== index);
    if (twice !== undefined) throw new Error(`${path}: the member "${twice}" is there twice`);
    return [...members];
  }
  if (count === undefined || !Number.isInteger(count) || count < 0) {
    throw new Error(`${path}: count must be a whole number from 0, known before apply, not ${count}`);
  }
  return Array.from({ length: count }, (_, index) => String(index + 1));
}
