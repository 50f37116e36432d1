/** A group of similar VMs. */
import { Construct } from 'constructs';
import type { SshKey } from './bindings/ssh-key/index.ts';
import type { VmAntiAffinity } from './bindings/vm/index.ts';
import { fail, requireKnown, validateName } from './checks.ts';
import { concatIds, createVmDependencies, mergeMaps, type VmDependenciesConfig } from './construct-support.ts';
import type { Network } from './network.ts';
import type { Reference } from './reference.ts';
import { VirtualMachine, type VirtualMachineConfig } from './virtual-machine.ts';

/**
 * The options of a member that may differ from its group. Labels, keys and `dependsOn` are added to those of the group.
 */
export type VmGroupMember = Omit<
  Partial<VirtualMachineConfig>,
  'name' | 'image' | 'rootVolume' | 'network' | 'publicKeys' | 'project' | 'provider' | 'antiAffinity'
>;

/** The members of the group. */
export type VmGroupMembers =
  | {
      /**
       * The number of VMs, with the names `<name>-1`, `<name>-2`, …. A change adds or removes the last VMs and does not
       * affect the others. Give either this or `members`.
       */
      readonly count: number;
      readonly members?: undefined;
    }
  | {
      /**
       * The members; their VMs have the names `<name>-<member>`. Adding or removing a member does not affect the
       * others. Give either this or `count`.
       */
      readonly members: readonly string[];
      readonly count?: undefined;
    };

/** The anti-affinity of the group. */
export type VmGroupSpread =
  | {
      /**
       * How strictly the VMs are kept on different hosts. `required`: two of them never share a host; a VM waits until
       * a host is available. `preferred`: they share a host only if no other host has room. `none`: the group has no
       * effect on placement. A VM never changes its host, so a change of this option replaces the VMs.
       *
       * The VMs form an anti-affinity group with the name of this construct. For a group with another name, which other
       * VMs may join, give `antiAffinity` instead.
       * @default preferred
       */
      readonly spread?: 'required' | 'preferred' | 'none';
      readonly antiAffinity?: undefined;
    }
  | {
      /** The anti-affinity group of the VMs. Not together with `spread`. */
      readonly antiAffinity: VmAntiAffinity;
      readonly spread?: undefined;
    };

/** All options of a `VirtualMachine`, and the members. Each member has its own `dataDisks`. */
export type VmGroupConfig = Omit<
  VirtualMachineConfig,
  'name' | 'mac' | 'antiAffinity' | 'volumes' | 'image' | 'rootVolume'
> &
  Pick<VmDependenciesConfig, 'image'> &
  VmGroupMembers &
  VmGroupSpread & {
    /**
     * The name of the group: an RFC 1123 label. It is the beginning of the VM names and the value of their label
     * `group`.
     * @default the id of the construct
     */
    readonly name?: string;
    /**
     * True to create, change and delete the VMs one after the other, in the order of the group. Together with `waitFor:
     * 'ready'`, at most one VM at a time is down during a change that restarts VMs.
     * @default false
     */
    readonly rolling?: boolean;
    /**
     * Returns the options of a member by its name without the name of the group (`1`, or an element of `members`).
     * @default no own options
     */
    readonly each?: (member: string) => VmGroupMember;
  };

/**
 * A group of similar VMs on one network, spread over hosts: strictly with `spread: 'required'`, otherwise as far as the
 * hosts allow.
 *
 * Each VM is a separate resource with its own name, so a change of the group's size does not affect the remaining VMs.
 *
 * ```ts
 * const web = new VmGroup(this, 'web', { image: 'demo', count: 3, spread: 'required', network: lan });
 * new TerraformOutput(this, 'web', { value: web.addresses });
 * ```
 */
export class VmGroup extends Construct {
  /** The VMs, in the order of the members. */
  readonly vms: readonly VirtualMachine[];
  /** The name of the group. */
  readonly name: string;
  /** The network of the VMs, as it was given. */
  readonly network: Reference;
  /** The created network; undefined if a network was given. */
  readonly ownNetwork: Network | undefined;
  /** The SSH keys that were created from `publicKeys`. */
  readonly ownKeys: readonly SshKey[];
  readonly #members: ReadonlyMap<string, VirtualMachine>;

  /** @throws Error that names the construct and the invalid option */
  constructor(scope: Construct, id: string, config: VmGroupConfig) {
    super(scope, id);
    const { count, members, each, spread, antiAffinity, rolling, publicKeys: _publicKeys, ...common } = config;
    if (spread !== undefined && antiAffinity !== undefined) fail(this, 'give spread or antiAffinity, not both');
    this.name = validateName(this, config.name ?? id);
    const mode = spread ?? 'preferred';
    const groupAntiAffinity = antiAffinity ?? (mode === 'none' ? undefined : { group: this.name, mode });
    const names = memberNames(this, count, members);

    const { image, network, ownNetwork, ownKeys, sshKeys } = createVmDependencies(this, this.name, config);
    this.network = network;
    this.ownNetwork = ownNetwork;
    this.ownKeys = ownKeys;

    const group = new Construct(this, 'vm');
    const vms = new Map<string, VirtualMachine>();
    let before: VirtualMachine | undefined;
    for (const member of names) {
      const { labels = {}, sshKeys: moreKeys = [], dependsOn = [], ...own } = each?.(member) ?? {};
      const waits = [...(config.dependsOn ?? []), ...dependsOn, ...(rolling && before ? [before] : [])];
      before = new VirtualMachine(group, member, {
        ...common,
        ...own,
        name: `${this.name}-${member}`,
        image,
        network,
        labels: mergeMaps({ group: this.name }, config.labels ?? {}, labels),
        sshKeys: concatIds(sshKeys, moreKeys),
        ...(groupAntiAffinity && { antiAffinity: groupAntiAffinity }),
        ...(waits.length > 0 && { dependsOn: waits }),
      });
      vms.set(member, before);
    }
    this.#members = vms;
    this.vms = [...vms.values()];
  }

  /**
   * Returns the VM of a member, by its name without the name of the group.
   * @throws Error that names the existing members
   */
  member(member: string): VirtualMachine {
    const found = this.#members.get(member);
    if (found) return found;
    const names = [...this.#members.keys()].map((each) => `"${each}"`).join(', ');
    return fail(this, `there is no member "${member}", only ${names}`);
  }

  /** The ids of the VMs, by VM name. */
  get ids(): Record<string, string> {
    return this.#collect((vm) => vm.id);
  }

  /** The IPv6 addresses of the VMs, by VM name. */
  get addresses(): Record<string, string> {
    return this.#collect((vm) => vm.address);
  }

  /** The ids of the VMs' hosts, by VM name. */
  get hosts(): Record<string, string> {
    return this.#collect((vm) => vm.host);
  }

  #collect(of: (vm: VirtualMachine) => string): Record<string, string> {
    return Object.fromEntries(this.vms.map((vm) => [vm.name, of(vm)]));
  }
}

function memberNames(
  group: Construct,
  count: number | undefined,
  members: readonly string[] | undefined,
): readonly string[] {
  if ((count === undefined) === (members === undefined)) fail(group, 'give either count or members');
  requireKnown(group, 'count', count);
  requireKnown(group, 'members', members);
  if (members) {
    for (const member of members) {
      requireKnown(group, 'a member', member);
      if (member === '') fail(group, 'a member has no name');
    }
    const twice = members.find((member, index) => members.indexOf(member) !== index);
    if (twice !== undefined) fail(group, `the member "${twice}" occurs twice`);
    return members;
  }
  if (count === undefined || !Number.isInteger(count) || count < 0) {
    return fail(group, `count must be a whole number from 0, not ${count}`);
  }
  return Array.from({ length: count }, (_, index) => String(index + 1));
}
