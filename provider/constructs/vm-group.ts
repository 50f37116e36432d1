/** A number of VMs that are alike. */
import { Construct } from 'constructs';
import type { SshKey } from './bindings/ssh-key/index.ts';
import type { VmAntiAffinity } from './bindings/vm/index.ts';
import { checkedName, fail, mustBeKnown } from './checks.ts';
import { ground, joined, merged } from './ground.ts';
import type { Network } from './network.ts';
import type { Reference } from './reference.ts';
import { VirtualMachine, type VirtualMachineConfig } from './virtual-machine.ts';

/** What a member may have otherwise than its group. Labels, keys and `dependsOn` are added to those of the group. */
export type VmGroupMember = Omit<
  Partial<VirtualMachineConfig>,
  'name' | 'image' | 'network' | 'publicKeys' | 'project' | 'provider' | 'antiAffinity'
>;

/** Which VMs there are. */
export type VmGroupMembers =
  | {
      /**
       * How many: they are called `<name>-1`, `<name>-2`, …. A change adds or removes the last ones and touches no other.
       * Either this or `members`.
       */
      readonly count: number;
      readonly members?: undefined;
    }
  | {
      /**
       * Which: they are called `<name>-<member>`. Any of them can be added or removed without touching the others. Either
       * this or `count`.
       */
      readonly members: readonly string[];
      readonly count?: undefined;
    };

/** How the VMs are kept on different hosts. */
export type VmGroupSpread =
  | {
      /**
       * How firmly the VMs are kept on different hosts. `required`: no two of them ever share a host, and one for which
       * there is no host of its own waits. `preferred`: they share a host where there is no other. `none`: they are placed
       * as if they had nothing to do with each other. A VM keeps its host, so a change makes the VMs anew.
       *
       * They are then an anti-affinity group with the name of this one; for a group of another name, which other VMs may
       * belong to, give `antiAffinity` instead.
       * @default preferred
       */
      readonly spread?: 'required' | 'preferred' | 'none';
      readonly antiAffinity?: undefined;
    }
  | {
      /** The group of VMs that they are kept apart from, and from each other. Instead of `spread`. */
      readonly antiAffinity: VmAntiAffinity;
      readonly spread?: undefined;
    };

/** Everything that a `VirtualMachine` takes, and who the members are. */
export type VmGroupConfig = Omit<VirtualMachineConfig, 'name' | 'mac' | 'antiAffinity'> &
  VmGroupMembers &
  VmGroupSpread & {
    /**
     * Name of the group, an RFC 1123 label: begins the names of its VMs, and is their label `group`.
     * @default the id of the construct
     */
    readonly name?: string;
    /**
     * Whether one VM is made, changed or deleted after the other, in the order of the group, and not all at once. Together
     * with `waitFor: 'ready'`, a change that restarts VMs takes at most one of them down at a time.
     * @default false
     */
    readonly rolling?: boolean;
    /** What a member has otherwise, by what follows the name of the group (`1`, or one of `members`). @default nothing */
    readonly each?: (member: string) => VmGroupMember;
  };

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
  /** The VMs, in the order of their members. */
  readonly vms: readonly VirtualMachine[];
  /** Name of the group. */
  readonly name: string;
  /** The network they are on, as it was given. */
  readonly network: Reference;
  /** Made only when no network was given. */
  readonly ownNetwork: Network | undefined;
  /** The SSH keys that were made from public keys. */
  readonly ownKeys: readonly SshKey[];
  readonly #members: ReadonlyMap<string, VirtualMachine>;

  /** @throws Error that names the construct and what is wrong: its name, its image, its keys, its members */
  constructor(scope: Construct, id: string, config: VmGroupConfig) {
    super(scope, id);
    const { count, members, each, spread, antiAffinity, rolling, publicKeys: _publicKeys, ...common } = config;
    if (spread !== undefined && antiAffinity !== undefined) fail(this, 'give spread or antiAffinity, not both');
    this.name = checkedName(this, config.name ?? id);
    const mode = spread ?? 'preferred';
    const apart = antiAffinity ?? (mode === 'none' ? undefined : { group: this.name, mode });
    const names = memberNames(this, count, members);

    const { image, network, ownNetwork, ownKeys, sshKeys } = ground(this, this.name, config);
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
        labels: merged({ group: this.name }, config.labels ?? {}, labels),
        sshKeys: joined(sshKeys, moreKeys),
        ...(apart && { antiAffinity: apart }),
        ...(waits.length > 0 && { dependsOn: waits }),
      });
      vms.set(member, before);
    }
    this.#members = vms;
    this.vms = [...vms.values()];
  }

  /** The VM of a member, by what follows the name of the group. @throws Error that names those which there are */
  member(member: string): VirtualMachine {
    const found = this.#members.get(member);
    if (found) return found;
    const names = [...this.#members.keys()].map((each) => `"${each}"`).join(', ');
    return fail(this, `there is no member "${member}", only ${names}`);
  }

  /** The id of each VM by its name. */
  get ids(): Record<string, string> {
    return this.#collect((vm) => vm.id);
  }

  /** The IPv6 address of each VM by its name. */
  get addresses(): Record<string, string> {
    return this.#collect((vm) => vm.address);
  }

  /** The id of the host that each VM has been placed on, by its name. */
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
  mustBeKnown(group, 'count', count);
  mustBeKnown(group, 'members', members);
  if (members) {
    for (const member of members) {
      mustBeKnown(group, 'a member', member);
      if (member === '') fail(group, 'a member has no name');
    }
    const twice = members.find((member, index) => members.indexOf(member) !== index);
    if (twice !== undefined) fail(group, `the member "${twice}" is there twice`);
    return members;
  }
  if (count === undefined || !Number.isInteger(count) || count < 0) {
    return fail(group, `count must be a whole number from 0, not ${count}`);
  }
  return Array.from({ length: count }, (_, index) => String(index + 1));
}
