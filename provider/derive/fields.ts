/**
 * The description of a resource in openapi.yaml, in the short form that the provider contains (schema/resources.gen.ts).
 * The provider derives attributes, plan rules, requests and documentation from it.
 */

/** A field of a resource. */
export interface Field {
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'map' | 'list' | 'object';
  readonly description: string;
  /** A creation may or must contain the field. Undefined: it must not. */
  readonly create?: 'required' | 'optional';
  /** An update may contain the field. */
  readonly update?: true;
  /** Every answer contains the field. */
  readonly always?: true;
  /** The server chooses the value if a creation does not contain the field. An early answer may lack the value. */
  readonly serverChosen?: true;
  readonly default?: unknown;
  readonly immutable?: true;
  readonly sensitive?: true;
  readonly volatile?: true;
  /** A change takes effect at the next start of the guest. */
  readonly atRestart?: true;
  /** The noun of the object whose id the field contains. */
  readonly reference?: string;
  /** The token may not see the other object, so a plan cannot check whether it exists. */
  readonly foreign?: true;
  readonly format?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  /** The pattern in words: a clause after "must be". */
  readonly rule?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  /** The limits of the number of elements in a list or a map. */
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly unique?: true;
  /** The elements of a list or a map. */
  readonly items?: Field;
  /** The keys of a map. */
  readonly keys?: Field;
  readonly fields?: Fields;
}

/** Returns true if the field is a set: a list of distinct references, whose order has no meaning. */
export const isSet = (field: Field): boolean =>
  field.type === 'list' && field.unique === true && field.items?.reference !== undefined;

/** Fields by name. */
export type Fields = { readonly [name: string]: Field };

/** A resource of the API. */
export interface ResourceSchema {
  /** The singular in names: `ssh_key`. */
  readonly noun: string;
  /** The path of the list: `/v1/ssh-keys`. */
  readonly path: string;
  readonly description: string;
  readonly fields: Fields;
  readonly creatable: boolean;
  readonly updatable: boolean;
  /** The API accepts a deletion first, and the object is gone later. */
  readonly deletesLater: boolean;
  /** The list has a filter for names, so the resource has a data source and import by name. */
  readonly findable: boolean;
  /** The fields that the list has filters for. */
  readonly filters: readonly string[];
}
