/** A network and the prefix of its /64. */
import { Construct } from 'constructs';
import { Network as NetworkResource, type NetworkConfig as NetworkResourceConfig } from './bindings/network/index.ts';
import { Prefix } from './bindings/prefix/index.ts';
import { fail, validateName } from './checks.ts';
import type { Subnet } from './prefix-plan.ts';
import { idOf, type Reference } from './reference.ts';
import { SecurityGroup, type SecurityRule } from './security-group.ts';

/** The source of a network's /64. */
export type NetworkPlace =
  | {
      /**
       * The prefix that contains the /64: a construct, a data source, or an id. Not together with `subnet`.
       * @default a new /64 prefix
       */
      readonly prefix?: Reference;
      /**
       * The /64 of the network, in CIDR notation. Not together with `subnet`.
       * @default the first free /64 of its prefix
       */
      readonly cidr?: string;
      readonly subnet?: undefined;
    }
  | {
      /** A /64 subnet of a `PrefixPlan`. Not together with `prefix` and `cidr`. */
      readonly subnet: Subnet;
      readonly prefix?: undefined;
      readonly cidr?: undefined;
    };

/**
 * All arguments of a `ucloud_network`. `dependsOn`, `lifecycle`, `connection` and `provisioners` apply to the network;
 * `provider` and `project` also apply to a prefix that the construct creates.
 */
export type NetworkConfig = Omit<NetworkResourceConfig, 'name' | 'prefix' | 'cidr' | 'count' | 'forEach'> &
  NetworkPlace & {
    /**
     * The name of the network and of the created prefix: an RFC 1123 label.
     * @default the id of the construct
     */
    readonly name?: string;
    /**
     * Rules for interfaces without a security group of their own. The construct creates a group with the name of the network.
     * @default no group
     */
    readonly rules?: readonly SecurityRule[];
  };

/**
 * A network for VMs with a /64: from a plan, from a prefix, or from a new prefix.
 *
 * ```ts
 * const lan = new Network(this, 'lan', { dnsServers: ['2001:db8::53'] });
 * const web = new VirtualMachine(this, 'web', { image: 'demo', network: lan });
 * ```
 */
export class Network extends Construct {
  /** The network resource. */
  readonly network: NetworkResource;
  /** The created prefix; undefined if a prefix or a subnet was given. */
  readonly ownPrefix: Prefix | undefined;
  /** The group with the rules of the network; undefined without `rules`. */
  readonly ownGroup: SecurityGroup | undefined;

  /** @throws Error that names the construct and the invalid option */
  constructor(scope: Construct, id: string, config: NetworkConfig = {}) {
    super(scope, id);
    const { prefix, subnet, cidr, rules, defaultSecurityGroups, ...rest } = config;
    const name = validateName(this, config.name ?? id);
    if (subnet !== undefined && (prefix !== undefined || cidr !== undefined)) {
      fail(this, 'subnet contains prefix and cidr, so give subnet alone');
    }
    if (subnet !== undefined && subnet.length !== 64) {
      fail(this, `a network needs a /64, but the subnet "${subnet.name}" is a /${subnet.length}`);
    }
    let place: Reference | undefined = subnet ?? prefix;
    if (place === undefined) {
      this.ownPrefix = this.#makePrefix(name, config);
      place = this.ownPrefix;
    }
    const at = subnet?.cidr ?? cidr;
    const { project, provider } = config;
    const common = { ...(project !== undefined && { project }), ...(provider && { provider }) };
    this.ownGroup = rules && new SecurityGroup(this, 'rules', { ...common, name, rules });
    const groups = [...(this.ownGroup ? [this.ownGroup.id] : []), ...(defaultSecurityGroups ?? [])];
    this.network = new NetworkResource(this, 'Default', {
      ...rest,
      name,
      prefix: idOf(place),
      ...(at !== undefined && { cidr: at }),
      ...(groups.length > 0 && { defaultSecurityGroups: groups }),
    });
  }

  #makePrefix(name: string, { cidr, project, provider }: NetworkConfig): Prefix {
    return new Prefix(this, 'prefix', {
      name,
      ...(cidr === undefined ? { length: 64 } : { cidr }),
      ...(project !== undefined && { project }),
      ...(provider && { provider }),
    });
  }

  /** The id of the network. */
  get id(): string {
    return this.network.id;
  }

  /** The /64 of the network, in CIDR notation. */
  get cidr(): string {
    return this.network.cidr;
  }

  /** The link-local address of the router. */
  get gateway(): string {
    return this.network.gateway;
  }

  /** The address of the network in Terraform, so that `dependsOn` accepts the construct. */
  get fqn(): string {
    return this.network.fqn;
  }
}
