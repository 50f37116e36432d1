/** A network with the prefix that it takes its /64 from. */
import { Construct } from 'constructs';
import { Network as NetworkResource, type NetworkConfig as NetworkResourceConfig } from './bindings/network/index.ts';
import { Prefix } from './bindings/prefix/index.ts';
import { checkedName, fail } from './checks.ts';
import type { Subnet } from './prefix-plan.ts';
import { idOf, type Reference } from './reference.ts';

/** Where a network has its /64 from. */
export type NetworkPlace =
  | {
      /**
       * What it takes its /64 from: a construct, a data source, or an id. Not together with `subnet`.
       * @default a prefix of its own, a /64
       */
      readonly prefix?: Reference;
      /** Its /64, in CIDR notation. Not together with `subnet`. @default the first of its prefix that is free */
      readonly cidr?: string;
      readonly subnet?: undefined;
    }
  | {
      /** The /64 of a plan. Not together with `prefix` and `cidr`. */
      readonly subnet: Subnet;
      readonly prefix?: undefined;
      readonly cidr?: undefined;
    };

/**
 * Everything that a `ucloud_network` takes. `dependsOn`, `lifecycle`, `connection` and `provisioners` are those of the
 * network; `provider` and `project` hold for a prefix of its own, too.
 */
export type NetworkConfig = Omit<NetworkResourceConfig, 'name' | 'prefix' | 'cidr' | 'count' | 'forEach'> &
  NetworkPlace & {
    /**
     * Name of the network, and of the prefix that is made for it: an RFC 1123 label.
     * @default the id of the construct
     */
    readonly name?: string;
  };

/**
 * A link of its own for VMs, with its /64: from a plan, from a prefix, or from a prefix of its own.
 *
 * ```ts
 * const lan = new Network(this, 'lan', { dnsServers: ['2001:db8::53'] });
 * const web = new VirtualMachine(this, 'web', { image: 'demo', network: lan });
 * ```
 */
export class Network extends Construct {
  /** The resource itself. */
  readonly network: NetworkResource;
  /** Made only when neither a prefix nor a subnet was given. */
  readonly ownPrefix: Prefix | undefined;

  /** @throws Error that names the construct and what is wrong: its name, its subnet */
  constructor(scope: Construct, id: string, config: NetworkConfig = {}) {
    super(scope, id);
    const { prefix, subnet, cidr, ...rest } = config;
    const name = checkedName(this, config.name ?? id);
    if (subnet !== undefined && (prefix !== undefined || cidr !== undefined)) {
      fail(this, 'subnet says prefix and cidr, so give only that');
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
    this.network = new NetworkResource(this, 'Default', {
      ...rest,
      name,
      prefix: idOf(place),
      ...(at !== undefined && { cidr: at }),
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

  /** Id of the network. */
  get id(): string {
    return this.network.id;
  }

  /** Its /64. */
  get cidr(): string {
    return this.network.cidr;
  }

  /** Link-local address of the router. */
  get gateway(): string {
    return this.network.gateway;
  }

  /** Makes it something that `dependsOn` takes: waits for the network. */
  get fqn(): string {
    return this.network.fqn;
  }
}
