/**
 * The description of a resource in openapi.yaml, in the short form that the provider contains (schema/resources.gen.ts):
 * everything that attributes, plan rules, requests and documentation are derived from.
 */
export interface Field {
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'map' | 'list' | 'object';
  readonly description: string;
  /** A creation may or must contain the field. Undefined: it must not. */
  readonly create?: 'required' | 'optional';
  /** It can be changed. */
  readonly update?: true;
  /** Every answer has it. */
  readonly always?: true;
  /** Chosen by the server where creation leaves it out, though not every answer has it yet. */
  readonly serverChosen?: true;
  readonly default?: unknown;
  readonly immutable?: true;
  readonly sensitive?: true;
  readonly volatile?: true;
  /** A change of it waits for the next start of the guest. */
  readonly atRestart?: true;
  /** Noun of the object whose id it holds. */
  readonly reference?: string;
  readonly format?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  /** The pattern in words, after "must be". */
  readonly rule?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  /** Fewest and most elements of a list or a map. */
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly unique?: true;
  /** The elements of a list or a map. */
  readonly items?: Field;
  /** The keys of a map. */
  readonly keys?: Field;
  readonly fields?: Fields;
}

/** A list of distinct references is a set: their order means nothing. */
export const isSet = (field: Field): boolean =>
  field.type === 'list' && field.unique === true && field.items?.reference !== undefined;

export type Fields = { readonly [name: string]: Field };

export interface ResourceSchema {
  /** `ssh_key` */
  readonly noun: string;
  /** `/v1/ssh-keys` */
  readonly path: string;
  readonly description: string;
  readonly fields: Fields;
  readonly creatable: boolean;
  readonly updatable: boolean;
  /** Deletion is accepted first and done later. */
  readonly deletesLater: boolean;
  /** The list can be asked for a name: there is a data source, and import by name. */
  readonly findable: boolean;
}
