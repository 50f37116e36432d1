/** A prefix cut into subnets that have names. */
import { Fn, Token } from 'cdktf';
import { Construct } from 'constructs';
import { formatPrefix, hostBits, parsePrefix, subnet } from '../net/ipv6.ts';
import { Prefix, type PrefixConfig } from './bindings/prefix/index.ts';
import { placeSubnets } from './subnets.ts';

/** IPv6 space that can be cut: a `ucloud_prefix` (resource or data source), or a subnet of another plan. */
export interface Space {
  /** Id of the `ucloud_prefix`. */
  readonly id: string;
  readonly cidr: string;
  /** Prefix length of `cidr`. */
  readonly length?: number;
}

/** A piece of a plan. */
export interface Subnet extends Space {
  readonly name: string;
  /** Id of the `ucloud_prefix` that it lies in, which networks name as theirs. */
  readonly id: string;
  readonly length: number;
}

export interface SubnetConfig {
  readonly name: string;
  /** Prefix length. @default 64, what a network needs */
  readonly length?: number;
  /**
   * Keeps its place although it is no longer used, so that those behind it stay where they are.
   * @default false
   */
  readonly retired?: boolean;
}

export interface PrefixPlanConfig extends Pick<PrefixConfig, 'pool' | 'labels' | 'project'> {
  /**
   * Name of the prefix that is made, an RFC 1123 label. Not together with `within`.
   * @default the id of the construct
   */
  readonly name?: string;
  /** What is cut. @default a prefix of its own */
  readonly within?: Space;
  /**
   * Prefix length of what is cut. Needed when `within` does not tell before apply, as a data source.
   * @default that of `within`; 56 for a prefix of its own
   */
  readonly length?: number;
  /** The subnets, in an order that stays: append new ones, and mark old ones as retired. A name alone is a /64. */
  readonly subnets: readonly (string | SubnetConfig)[];
}

/** Length of a prefix that is made for a plan: 256 networks (RFC 6177 suggests 48 to 56 for a site). */
const siteLength = 56;

/**
 * Cuts a prefix into named subnets. Which subnet gets which place follows from their order alone, so a name that is
 * appended never moves the others, and a plan made anew on another prefix has the same form.
 *
 * ```ts
 * const site = new PrefixPlan(this, 'site', { subnets: ['web', 'db', { name: 'lab', length: 60 }] });
 * new Network(this, 'web', { subnet: site.subnet('web') });
 * const lab = new PrefixPlan(this, 'lab', { within: site.subnet('lab'), subnets: ['alice', 'bob'] });
 * ```
 */
export class PrefixPlan extends Construct {
  /** The prefix that was made; undefined when it cuts another's. */
  readonly prefix: Prefix | undefined;
  /** Those that are not retired, in the order of the plan. */
  readonly subnets: readonly Subnet[];

  constructor(scope: Construct, id: string, config: PrefixPlanConfig) {
    super(scope, id);
    const { within, subnets, name, length: wished, ...ofPrefix } = config;
    const path = this.node.path;
    let space: Space;
    if (within === undefined) {
      const length = wished ?? siteLength;
      this.prefix = new Prefix(this, 'Default', { name: name ?? id, length, ...ofPrefix });
      space = { id: this.prefix.id, cidr: this.prefix.cidr, length };
    } else {
      const surplus = Object.entries({ name, ...ofPrefix }).find(([, value]) => value !== undefined)?.[0];
      if (surplus !== undefined) throw new Error(`${path}: ${surplus} is for a prefix of its own; it has within`);
      this.prefix = undefined;
      space = within;
    }

    const length = wished ?? knownLength(space);
    if (length === undefined) throw new Error(`${path}: give length, which within does not tell before apply`);
    const known = knownLength(space);
    if (known !== undefined && known !== length) {
      throw new Error(`${path}: within is a /${known}, but length is ${length}`);
    }
    const wishes = subnets.map((each) => (typeof each === 'string' ? { name: each } : each));
    const retired = new Set(wishes.filter((each) => each.retired).map((each) => each.name));
    const cut = cutter(space.cidr, length, path);
    this.subnets = explained(path, () =>
      placeSubnets(
        length,
        wishes.map((each) => ({ name: each.name, length: each.length ?? 64 })),
      ),
    )
      .filter((place) => !retired.has(place.name))
      .map((place) => ({
        name: place.name,
        id: space.id,
        cidr: cut(place.length, place.index),
        length: place.length,
      }));
  }

  /** The subnet with this name. @throws Error that names those which there are */
  subnet(name: string): Subnet {
    const found = this.subnets.find((each) => each.name === name);
    if (found) return found;
    const names = this.subnets.map((each) => `"${each.name}"`).join(', ');
    throw new Error(`${this.node.path}: there is no subnet "${name}", only ${names}`);
  }
}

/** What synthesis can know of the length. A resource tells only what it was configured with. */
function knownLength(space: Space): number | undefined {
  const { cidr, length } =
    space instanceof Prefix ? { cidr: space.cidrInput ?? space.cidr, length: space.lengthInput } : space;
  if (!Token.isUnresolved(cidr)) return parsePrefix(cidr)?.length;
  return length === undefined || Token.isUnresolved(length) ? undefined : length;
}

/** Gives subnets of a prefix: as text where that is known, else as an expression that Terraform evaluates. */
function cutter(cidr: string, length: number, path: string): (length: number, index: number) => string {
  if (Token.isUnresolved(cidr)) return (to, index) => Fn.cidrsubnet(cidr, to - length, index);
  const prefix = parsePrefix(cidr);
  if (!prefix || hostBits(prefix) !== 0n) throw new Error(`${path}: "${cidr}" is no IPv6 prefix such as 2001:db8::/56`);
  return (to, index) => {
    const piece = subnet(prefix, to, BigInt(index));
    if (!piece) throw new Error(`${path}: ${cidr} has no /${to} with the number ${index}`);
    return formatPrefix(piece);
  };
}

/** Says which construct an error of the arithmetic is about. */
function explained<T>(path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof RangeError) throw new Error(`${path}: ${error.message}`, { cause: error });
    throw error;
  }
}
