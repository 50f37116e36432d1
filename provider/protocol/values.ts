/**
 * Terraform's values in TypeScript.
 *
 * | Terraform          | TypeScript                                                              |
 * |--------------------|-------------------------------------------------------------------------|
 * | null               | `null`                                                                  |
 * | unknown            | `UNKNOWN` (a value that exists only after apply; seen while planning)   |
 * | string, bool       | `string`, `boolean`                                                     |
 * | number             | `number` when that is exact, `bigint` for larger integers, else `Decimal` |
 * | list, tuple, set   | array (the order of a set has no meaning; comparisons ignore it) |
 * | map, object        | plain object                                                            |
 * | dynamic            | `Dynamic`: a value together with its type                               |
 */

/** The marker of a value that is known only after apply. */
export const UNKNOWN: unique symbol = Symbol.for('terraform.unknown');
export type Unknown = typeof UNKNOWN;

/**
 * A type of Terraform's type system in the notation that Terraform uses in JSON, for example
 * `['map', 'string']` or `['object', { name: 'string', ports: ['set', 'number'] }]`.
 */
export type Type =
  | 'string'
  | 'number'
  | 'bool'
  | 'dynamic'
  | readonly ['list', Type]
  | readonly ['set', Type]
  | readonly ['map', Type]
  | readonly ['tuple', readonly Type[]]
  | readonly ['object', Readonly<Record<string, Type>>];

/**
 * A number that neither `number` nor `bigint` can hold exactly, such as a fraction with forty digits.
 * `text` is its decimal notation from Terraform.
 */
export class Decimal {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  toString(): string {
    return this.text;
  }
}

/** A value of an attribute with the type `dynamic`, together with its current type. */
export class Dynamic {
  readonly type: Type;
  readonly value: Value;
  constructor(type: Type, value: Value) {
    this.type = type;
    this.value = value;
  }
}

/** Any value. It may be `UNKNOWN` or contain it. */
export type Value =
  | null
  | Unknown
  | boolean
  | string
  | number
  | bigint
  | Decimal
  | Dynamic
  | readonly Value[]
  | { readonly [key: string]: Value };

/** The attributes of an object by name. This is the default State of a definition. */
export type Values = { [name: string]: Value };

/**
 * `T` in a plan: each part may be unknown, and an attribute without a value is `null`.
 * `Planned<{ name: string; tags: string[] }>` = `{ name: string | Unknown | null; tags: (string | Unknown | null)[] | Unknown | null }`.
 */
export type Planned<T> = { [K in keyof T]: PlannedValue<T[K]> };
export type PlannedValue<T> =
  | Unknown
  | null
  | (T extends string | number | bigint | boolean | null | undefined | Unknown | Decimal | Dynamic
      ? T
      : T extends readonly (infer E)[]
        ? readonly PlannedValue<E>[]
        : T extends object
          ? Planned<T>
          : T);

/** Returns true if a value itself is known. A known list may contain unknown elements. */
export function isKnown<T>(value: T | Unknown): value is T {
  return value !== UNKNOWN;
}

/** Returns true if a value is null, or a dynamic value that is null with a type. */
export function isNull(value: unknown): boolean {
  return value === null || (value instanceof Dynamic && value.value === null);
}

/** Returns true if a value and everything in it is known. */
export function isWhollyKnown(value: unknown): boolean {
  if (value === UNKNOWN) return false;
  if (Array.isArray(value)) return value.every(isWhollyKnown);
  if (value instanceof Dynamic) return isWhollyKnown(value.value);
  if (value !== null && typeof value === 'object') return Object.values(value).every(isWhollyKnown);
  return true;
}
