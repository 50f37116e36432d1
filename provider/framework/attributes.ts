import type { Type, Value } from '../protocol/values.ts';
import type { AttributePath } from './diagnostics.ts';

/** A violation inside a value. `path` leads from the attribute to the place; it is empty for the whole value. */
export interface Flaw {
  readonly path: AttributePath;
  /** A sentence for the user. */
  readonly problem: string;
}

/** The options of every attribute. Exactly one of: required; optional; computed; optional and computed. */
export interface AttributeOptions<T = unknown> {
  /** For users, in Markdown: shown in the registry's documentation and in editors. */
  description: string;
  /** The configuration must set it. */
  required?: boolean;
  /** The configuration may set it. */
  optional?: boolean;
  /** The provider may set the value if the configuration does not. */
  computed?: boolean;
  /** The planned value without a configured one. The attribute then counts as optional and computed. */
  default?: T;
  /** Terraform's output hides the value. The state file contains it, so prefer `writeOnly` for secrets. */
  sensitive?: boolean;
  /** Only the configuration contains the value, never plan or state. Needs Terraform 1.11. Not together with `computed`. */
  writeOnly?: boolean;
  /** A change replaces the object. `'if-configured'`: only if the configuration sets a value. */
  requiresReplace?: boolean | 'if-configured';
  /**
   * A computed value that any update may change (`updated_at`, `status`). It is planned as unknown only if another
   * attribute changes, because otherwise every plan would show a difference. Other computed attributes keep their value
   * in an update.
   */
  volatile?: boolean;
  /**
   * Returns true if two spellings have the same meaning (`2GiB` and `2048MiB`; an IPv6 address in any notation). The state
   * then keeps its spelling, and the plan has no change. Applies to the attribute's whole value.
   */
  equal?(a: T, b: T): boolean;
  /**
   * Returns the violation of a value as a sentence for the user, or one sentence for each place in it. The value is neither
   * null nor unknown; its elements and members may be null or UNKNOWN. No I/O.
   */
  validate?(value: T): string | readonly Flaw[] | undefined;
  /** The alternative. Terraform shows it as a warning if a configuration sets the attribute. */
  deprecated?: string;
}

/** An attribute with a plain type. */
export interface PlainAttribute extends AttributeOptions {
  readonly kind: 'plain';
  readonly type: Type;
}

/** An attribute that holds objects with attributes of their own, each with its own rules. */
export interface NestedAttribute extends AttributeOptions {
  readonly kind: 'nested';
  readonly nesting: 'single' | 'list' | 'set' | 'map';
  readonly attributes: Attributes;
}

export type Attribute = PlainAttribute | NestedAttribute;

/** Attributes by name: lower-case letters, digits and underscores, beginning with a letter. */
export type Attributes = { readonly [name: string]: Attribute };

function plain<T>(type: Type, options: AttributeOptions<T>): PlainAttribute {
  return { ...(options as AttributeOptions), kind: 'plain', type };
}

function nested<T>(
  nesting: NestedAttribute['nesting'],
  attributes: Attributes,
  options: AttributeOptions<T>,
): NestedAttribute {
  return { ...(options as AttributeOptions), kind: 'nested', nesting, attributes };
}

/**
 * The attribute types. `attribute.list('string', { description, optional: true })`;
 * `attribute.nestedList({ cidr: attribute.string({ … }) }, { description, required: true })`.
 */
export const attribute = {
  string: (options: AttributeOptions<string>) => plain('string', options),
  /** A whole number or a fraction; `bigint` or `Decimal` only if `number` is not exact. */
  number: (options: AttributeOptions<number>) => plain('number', options),
  bool: (options: AttributeOptions<boolean>) => plain('bool', options),
  list: <T = readonly Value[]>(element: Type, options: AttributeOptions<T>) => plain(['list', element], options),
  set: <T = readonly Value[]>(element: Type, options: AttributeOptions<T>) => plain(['set', element], options),
  map: <T = { readonly [key: string]: Value }>(element: Type, options: AttributeOptions<T>) =>
    plain(['map', element], options),
  /** An object whose members must all be set. Most attributes should be `single` instead. */
  object: <T = { readonly [key: string]: Value }>(
    members: Readonly<Record<string, Type>>,
    options: AttributeOptions<T>,
  ) => plain(['object', members], options),
  /** A value of any type. */
  dynamic: (options: AttributeOptions<Value>) => plain('dynamic', options),
  /** One object with attributes: `disk = { size = "10GiB" }`. */
  single: <T = { readonly [key: string]: Value }>(attributes: Attributes, options: AttributeOptions<T>) =>
    nested('single', attributes, options),
  nestedList: <T = readonly Value[]>(attributes: Attributes, options: AttributeOptions<T>) =>
    nested('list', attributes, options),
  nestedSet: <T = readonly Value[]>(attributes: Attributes, options: AttributeOptions<T>) =>
    nested('set', attributes, options),
  nestedMap: <T = { readonly [key: string]: Value }>(attributes: Attributes, options: AttributeOptions<T>) =>
    nested('map', attributes, options),
};
