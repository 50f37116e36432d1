/** A prefix, divided into named subnets. */
import { Fn, Token } from 'cdktf';
import { Construct } from 'constructs';
import { formatPrefix, hostBits, parsePrefix, subnet } from '../net/ipv6.ts';
import { Prefix, type PrefixConfig } from './bindings/prefix/index.ts';
import { fail, requireKnown, validateName } from './checks.ts';
import { placeSubnets } from './subnets.ts';

/**
 * An IPv6 prefix that a plan can divide: a `ucloud_prefix` (resource or data source), another plan, or a subnet of a
 * plan.
 */
export interface Space {
  /** Id of the `ucloud_prefix`. */
  readonly id: string;
  /** The prefix in CIDR notation. */
  readonly cidr: string;
  /** Prefix length of `cidr`. */
  readonly length?: number;
}

/** A subnet of a plan. */
export interface Subnet extends Space {
  /** The name of the subnet in the plan. */
  readonly name: string;
  /** The id of the `ucloud_prefix` that contains the subnet. Networks use it as their prefix. */
  readonly id: string;
  /** Prefix length of `cidr`. */
  readonly length: number;
}

/** A subnet to place in a plan. */
export interface SubnetConfig {
  /** The name for `subnet(name)`. */
  readonly name: string;
  /**
   * The prefix length.
   * @default 64, the length that a network needs
   */
  readonly length?: number;
  /**
   * The index among the subnets of this length, from 0. Either all subnets of a plan have an index, or none. With
   * indexes, the order of the list has no meaning, and adding or removing a subnet does not move the others.
   * @default the place follows from the order of the list
   */
  readonly index?: number;
  /**
   * True for an unused subnet that keeps its place, so that later subnets do not move.
   * @default false
   */
  readonly retired?: boolean;
}

/** The prefix that a plan divides. */
export type PrefixPlanSpace =
  | (Omit<PrefixConfig, 'name' | 'length' | 'count' | 'forEach'> & {
      /**
       * The name of the created prefix: an RFC 1123 label. Not together with `within`.
       * @default the id of the construct
       */
      readonly name?: string;
      readonly within?: undefined;
      /**
       * The length of the created prefix.
       * @default the length of `cidr`, or 56
       */
      readonly length?: number;
    })
  | ({ readonly [Option in Exclude<keyof PrefixConfig, 'length'>]?: undefined } & {
      /**
       * The prefix to divide.
       * @default a new prefix
       */
      readonly within: Space;
      /**
       * The length of the divided prefix. Required if `within` does not know it before apply, such as a data source.
       * @default the length of `within`
       */
      readonly length?: number;
    });

/**
 * The options of a plan: either a new prefix with all arguments of a `ucloud_prefix`, or an existing prefix (`within`);
 * and the subnets.
 */
export type PrefixPlanConfig = PrefixPlanSpace & {
  /**
   * The subnets. A name alone means a /64. The places follow from the order, so append new subnets and mark unused ones
   * as `retired`. Alternatively, give every subnet an `index`.
   */
  readonly subnets: readonly (string | SubnetConfig)[];
};

/** The length of a created prefix: room for 256 networks (RFC 6177 suggests 48 to 56 for a site). */
const siteLength = 56;

/**
 * Divides a prefix into named subnets. The places of the subnets depend on the list alone. So the same plan has the
 * same layout in another prefix, and a plan that does not fit fails while the app runs.
 *
 * ```ts
 * const site = new PrefixPlan(this, 'site', { subnets: ['web', 'db', { name: 'lab', length: 60 }] });
 * new Network(this, 'web', { subnet: site.subnet('web') });
 * const lab = new PrefixPlan(this, 'lab', { within: site.subnet('lab'), subnets: ['alice', 'bob'] });
 * ```
 */
export class PrefixPlan extends Construct implements Space {
  /** The created prefix; undefined with `within`. */
  readonly ownPrefix: Prefix | undefined;
  /** The id of the `ucloud_prefix` that is divided, or that contains the divided subnet. */
  readonly id: string;
  /** The divided prefix, in CIDR notation. */
  readonly cidr: string;
  /** The length of the divided prefix. */
  readonly length: number;
  /** The subnets in the order of the plan, without the retired ones. */
  readonly subnets: readonly Subnet[];

  /** @throws Error that names the construct and the invalid option, or the subnet without a place */
  constructor(scope: Construct, id: string, config: PrefixPlanConfig) {
    super(scope, id);
    const { within, subnets, length: requestedLength, ...ofPrefix } = config;
    requireKnown(this, 'length', requestedLength);
    requireKnown(this, 'subnets', subnets);
    if (within !== undefined) {
      const conflicting = Object.entries(ofPrefix).find(([, value]) => value !== undefined)?.[0];
      if (conflicting !== undefined) fail(this, `${conflicting} cannot be set together with within`);
    }
    let space = within;
    if (space === undefined) {
      const { cidr } = ofPrefix;
      this.ownPrefix = new Prefix(this, 'Default', {
        ...ofPrefix,
        name: validateName(this, ofPrefix.name ?? id),
        // A CIDR contains the length.
        ...(cidr === undefined && { length: requestedLength ?? siteLength }),
      });
      space = this.ownPrefix;
    }
    const known = knownLength(space);
    const length = requestedLength ?? known;
    const source = within ? 'within' : 'cidr';
    if (length === undefined) fail(this, `length is missing: ${source} does not tell it before apply`);
    if (known !== undefined && known !== length) fail(this, `${source} is a /${known}, but length is ${length}`);
    this.id = space.id;
    this.cidr = space.cidr;
    this.length = length;
    this.subnets = this.#placeSubnets(subnets.map((each) => (typeof each === 'string' ? { name: each } : each)));
  }

  /**
   * Returns the subnet with this name.
   * @throws Error that names the existing subnets
   */
  subnet(name: string): Subnet {
    const found = this.subnets.find((each) => each.name === name);
    if (found) return found;
    const names = this.subnets.map((each) => `"${each.name}"`).join(', ');
    return fail(this, `there is no subnet "${name}", only ${names}`);
  }

  /** The address of the prefix in Terraform, so that `dependsOn` accepts the construct. */
  get fqn(): string {
    return this.ownPrefix
      ? this.ownPrefix.fqn
      : fail(this, 'the plan has within, so it has no prefix of its own to wait for');
  }

  #placeSubnets(requests: readonly SubnetConfig[]): Subnet[] {
    for (const { name, length, index } of requests) {
      requireKnown(this, 'the name of a subnet', name);
      requireKnown(this, `the length of subnet "${name}"`, length);
      requireKnown(this, `the index of subnet "${name}"`, index);
    }
    const retired = new Set(requests.filter((each) => each.retired).map((each) => each.name));
    const places = this.#withConstructPath(() =>
      placeSubnets(
        this.length,
        requests.map(({ name, length = 64, index }) => ({ name, length, index })),
      ),
    );
    const cidrOf = this.#cidrFunction();
    return places
      .filter(({ name }) => !retired.has(name))
      .map(({ name, length, index }) => ({ name, id: this.id, cidr: cidrOf(length, index), length }));
  }

  /**
   * Returns a function that computes the CIDR of a subnet: as text if the prefix is known, otherwise as an expression
   * for Terraform.
   */
  #cidrFunction(): (length: number, index: number) => string {
    const { cidr } = this;
    if (Token.isUnresolved(cidr)) return (to, index) => Fn.cidrsubnet(cidr, to - this.length, index);
    const prefix = parsePrefix(cidr);
    if (!prefix || hostBits(prefix) !== 0n) fail(this, `"${cidr}" is not an IPv6 prefix such as 2001:db8::/56`);
    return (to, index) => {
      const piece = subnet(prefix, to, BigInt(index));
      return piece ? formatPrefix(piece) : fail(this, `${cidr} has no /${to} with the number ${index}`);
    };
  }

  /** Adds the path of the construct to an error of the computation. */
  #withConstructPath<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (error instanceof RangeError) fail(this, error.message, error);
      throw error;
    }
  }
}

/** Returns the prefix length if it is known while the app runs. A resource knows only its configured length. */
function knownLength(space: Space): number | undefined {
  const { cidr, length } =
    space instanceof Prefix ? { cidr: space.cidrInput ?? space.cidr, length: space.lengthInput } : space;
  if (!Token.isUnresolved(cidr)) return parsePrefix(cidr)?.length;
  return length === undefined || Token.isUnresolved(length) ? undefined : length;
}
