/** A prefix cut into subnets that have names. */
import { Fn, Token } from 'cdktf';
import { Construct } from 'constructs';
import { formatPrefix, hostBits, parsePrefix, subnet } from '../net/ipv6.ts';
import { Prefix, type PrefixConfig } from './bindings/prefix/index.ts';
import { checkedName, fail, mustBeKnown } from './checks.ts';
import { placeSubnets } from './subnets.ts';

/** IPv6 space that can be cut: a `ucloud_prefix` (resource or data source), another plan, or a subnet of one. */
export interface Space {
  /** Id of the `ucloud_prefix`. */
  readonly id: string;
  /** In CIDR notation. */
  readonly cidr: string;
  /** Prefix length of `cidr`. */
  readonly length?: number;
}

/** A piece of a plan. */
export interface Subnet extends Space {
  /** As the plan calls it. */
  readonly name: string;
  /** Id of the `ucloud_prefix` that it lies in, which networks name as theirs. */
  readonly id: string;
  /** Prefix length of `cidr`. */
  readonly length: number;
}

/** What is asked of a plan. */
export interface SubnetConfig {
  /** By which `subnet(name)` finds it. */
  readonly name: string;
  /** Prefix length. @default 64, what a network needs */
  readonly length?: number;
  /**
   * Which of the subnets of this length it is, counted from 0. Where one subnet of a plan says it, all must: then their
   * order means nothing, and any can be added or taken away without moving another.
   * @default its place follows from the order of the list
   */
  readonly index?: number;
  /**
   * Keeps its place although it is no longer used, so that those behind it stay where they are.
   * @default false
   */
  readonly retired?: boolean;
}

/** What is cut. */
export type PrefixPlanSpace =
  | (Omit<PrefixConfig, 'name' | 'length' | 'count' | 'forEach'> & {
      /**
       * Name of the prefix that is made, an RFC 1123 label. Not together with `within`.
       * @default the id of the construct
       */
      readonly name?: string;
      readonly within?: undefined;
      /** Prefix length of the prefix that is made. @default that of `cidr`, or 56 */
      readonly length?: number;
    })
  | ({ readonly [Option in Exclude<keyof PrefixConfig, 'length'>]?: undefined } & {
      /** What is cut. @default a prefix of its own */
      readonly within: Space;
      /** Prefix length of what is cut. Needed where `within` does not tell before apply, as a data source. @default that of `within` */
      readonly length?: number;
    });

/** A prefix of its own, with all that a `ucloud_prefix` takes, or `within` another; and its subnets. */
export type PrefixPlanConfig = PrefixPlanSpace & {
  /**
   * The subnets. A name alone is a /64. Their places follow from the order, so append new ones and mark old ones as
   * retired; or each says its `index`.
   */
  readonly subnets: readonly (string | SubnetConfig)[];
};

/** Length of a prefix that is made for a plan: 256 networks (RFC 6177 suggests 48 to 56 for a site). */
const siteLength = 56;

/**
 * Cuts a prefix into named subnets. Which subnet gets which place follows from the list alone, so a plan made anew on
 * another prefix has the same form, and a plan that does not fit is refused while the app runs.
 *
 * ```ts
 * const site = new PrefixPlan(this, 'site', { subnets: ['web', 'db', { name: 'lab', length: 60 }] });
 * new Network(this, 'web', { subnet: site.subnet('web') });
 * const lab = new PrefixPlan(this, 'lab', { within: site.subnet('lab'), subnets: ['alice', 'bob'] });
 * ```
 */
export class PrefixPlan extends Construct implements Space {
  /** Made only when it cuts no other's. */
  readonly ownPrefix: Prefix | undefined;
  /** Id of the `ucloud_prefix` that is cut, or that what is cut lies in. */
  readonly id: string;
  /** What is cut, in CIDR notation. */
  readonly cidr: string;
  /** Prefix length of what is cut. */
  readonly length: number;
  /** Those that are not retired, in the order of the plan. */
  readonly subnets: readonly Subnet[];

  /** @throws Error that names the construct and what is wrong: its name, its length, the subnet that has no place */
  constructor(scope: Construct, id: string, config: PrefixPlanConfig) {
    super(scope, id);
    const { within, subnets, length: wished, ...ofPrefix } = config;
    mustBeKnown(this, 'length', wished);
    mustBeKnown(this, 'subnets', subnets);
    if (within !== undefined) {
      const surplus = Object.entries(ofPrefix).find(([, value]) => value !== undefined)?.[0];
      if (surplus !== undefined) fail(this, `${surplus} is for a prefix of its own; it has within`);
    }
    let space = within;
    if (space === undefined) {
      const { cidr } = ofPrefix;
      this.ownPrefix = new Prefix(this, 'Default', {
        ...ofPrefix,
        name: checkedName(this, ofPrefix.name ?? id),
        // A CIDR says its length, too.
        ...(cidr === undefined && { length: wished ?? siteLength }),
      });
      space = this.ownPrefix;
    }
    const known = knownLength(space);
    const length = wished ?? known;
    const source = within ? 'within' : 'cidr';
    if (length === undefined) fail(this, `give length, which ${source} does not tell before apply`);
    if (known !== undefined && known !== length) fail(this, `${source} is a /${known}, but length is ${length}`);
    this.id = space.id;
    this.cidr = space.cidr;
    this.length = length;
    this.subnets = this.#cut(subnets.map((each) => (typeof each === 'string' ? { name: each } : each)));
  }

  /** The subnet with this name. @throws Error that names those which there are */
  subnet(name: string): Subnet {
    const found = this.subnets.find((each) => each.name === name);
    if (found) return found;
    const names = this.subnets.map((each) => `"${each.name}"`).join(', ');
    return fail(this, `there is no subnet "${name}", only ${names}`);
  }

  /** Makes it something that `dependsOn` takes: waits for the prefix. */
  get fqn(): string {
    return this.ownPrefix ? this.ownPrefix.fqn : fail(this, 'it makes no prefix that can be waited for; it has within');
  }

  #cut(wishes: readonly SubnetConfig[]): Subnet[] {
    for (const { name, length, index } of wishes) {
      mustBeKnown(this, 'the name of a subnet', name);
      mustBeKnown(this, `the length of subnet "${name}"`, length);
      mustBeKnown(this, `the index of subnet "${name}"`, index);
    }
    const retired = new Set(wishes.filter((each) => each.retired).map((each) => each.name));
    const places = this.#explained(() =>
      placeSubnets(
        this.length,
        wishes.map(({ name, length = 64, index }) => ({ name, length, index })),
      ),
    );
    const cidrOf = this.#cutter();
    return places
      .filter(({ name }) => !retired.has(name))
      .map(({ name, length, index }) => ({ name, id: this.id, cidr: cidrOf(length, index), length }));
  }

  /** Gives subnets of what is cut: as text where that is known, else as an expression that Terraform evaluates. */
  #cutter(): (length: number, index: number) => string {
    const { cidr } = this;
    if (Token.isUnresolved(cidr)) return (to, index) => Fn.cidrsubnet(cidr, to - this.length, index);
    const prefix = parsePrefix(cidr);
    if (!prefix || hostBits(prefix) !== 0n) fail(this, `"${cidr}" is no IPv6 prefix such as 2001:db8::/56`);
    return (to, index) => {
      const piece = subnet(prefix, to, BigInt(index));
      return piece ? formatPrefix(piece) : fail(this, `${cidr} has no /${to} with the number ${index}`);
    };
  }

  /** Says which construct an error of the arithmetic is about. */
  #explained<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (error instanceof RangeError) fail(this, error.message, error);
      throw error;
    }
  }
}

/** What synthesis can know of the length. A resource tells only what it was configured with. */
function knownLength(space: Space): number | undefined {
  const { cidr, length } =
    space instanceof Prefix ? { cidr: space.cidrInput ?? space.cidr, length: space.lengthInput } : space;
  if (!Token.isUnresolved(cidr)) return parsePrefix(cidr)?.length;
  return length === undefined || Token.isUnresolved(length) ? undefined : length;
}
