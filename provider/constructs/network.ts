/** A network with the prefix that it takes its /64 from. */
import { Construct } from 'constructs';
import { Network as NetworkResource, type NetworkConfig as NetworkResourceConfig } from './bindings/network/index.ts';
import { Prefix } from './bindings/prefix/index.ts';
import type { Subnet } from './prefix-plan.ts';
import { idOf, type Reference } from './reference.ts';

export interface NetworkConfig
  extends Pick<NetworkResourceConfig, 'cidr' | 'dnsServers' | 'labels' | 'mtu' | 'project'> {
  /**
   * Name of the network, and of the prefix that is made for it: an RFC 1123 label.
   * @default the id of the construct
   */
  readonly name?: string;
  /**
   * What it takes its /64 from: a construct, or an id. Not together with `subnet`.
   * @default a prefix of its own, a /64
   */
  readonly prefix?: Reference;
  /** The /64 of a plan. Not together with `prefix` and `cidr`. */
  readonly subnet?: Subnet;
}

/**
 * A link of its own for VMs, with its /64: from a plan, from a prefix, or from a prefix of its own.
 *
 * ```ts
 * const lan = new Network(this, 'lan', { dnsServers: ['2001:db8::53'] });
 * const web = new VirtualMachine(this, 'web', { image: 'demo', network: lan });
 * ```
 */
export class Network extends Construct {
  readonly network: NetworkResource;
  /** Made only when neither a prefix nor a subnet was given. */
  readonly ownPrefix: Prefix | undefined;

  constructor(scope: Construct, id: string, config: NetworkConfig = {}) {
    super(scope, id);
    const { prefix, subnet, name = id, ...rest } = config;
    const { path } = this.node;
    if (subnet !== undefined && (prefix !== undefined || rest.cidr !== undefined)) {
      throw new Error(`${path}: subnet says prefix and cidr, so give only that`);
    }
    if (subnet !== undefined && subnet.length !== 64) {
      throw new Error(`${path}: a network needs a /64, but the subnet "${subnet.name}" is a /${subnet.length}`);
    }
    const project = rest.project === undefined ? {} : { project: rest.project };
    const given = subnet ?? prefix;
    this.ownPrefix =
      given === undefined
        ? new Prefix(this, 'prefix', {
            name,
            ...(rest.cidr === undefined ? { length: 64 } : { cidr: rest.cidr }),
            ...project,
          })
        : undefined;
    this.network = new NetworkResource(this, 'Default', {
      ...rest,
      name,
      prefix: idOf(given ?? this.ownPrefix ?? ''),
      ...(subnet && { cidr: subnet.cidr }),
    });
  }

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
}
