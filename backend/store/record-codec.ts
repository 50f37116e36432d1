/**
 * Records as text of the database, checked against the schema of their kind in both directions. What a newer version has
 * added is no fault: see unknown-fields.ts.
 */
import type { Static, TSchema } from '@sinclair/typebox';
import { Ajv, type ValidateFunction } from 'ajv';
import type { RecordKind, Stored } from './record-kind.ts';
import type { Entry } from './store.ts';
import { closedSchema, restoreUnknownFields, separateUnknownFields, type UnknownFields } from './unknown-fields.ts';

/** A record that does not have the form of its kind: written by hand, or by a fault. */
export class InvalidRecordError extends Error {
  readonly key: string;
  /** The problem, such as `/cpus must be integer`. */
  readonly rule: string;
  constructor(key: string, rule: string) {
    super(`record ${key} is invalid: ${rule}`);
    this.name = 'InvalidRecordError';
    this.key = key;
    this.rule = rule;
  }
}

// Not strict: the schemas carry extensions (x-reference) that say nothing about form. Only finite numbers are numbers:
// JSON writes the others as null.
const ajv = new Ajv({ strict: false, strictNumbers: true, validateFormats: false });
const validators = new WeakMap<TSchema, ValidateFunction>();

function validatorOf(schema: TSchema): ValidateFunction {
  let validator = validators.get(schema);
  if (validator === undefined) {
    validator = ajv.compile(closedSchema(schema));
    validators.set(schema, validator);
  }
  return validator;
}

function check<S extends TSchema>(schema: S, key: string, value: unknown): Static<S> {
  const validate = validatorOf(schema);
  if (validate(value)) return value;
  const [error] = validate.errors ?? [];
  const extra = error?.keyword === 'additionalProperties' ? ` (${error.params.additionalProperty})` : '';
  throw new InvalidRecordError(key, `${error?.instancePath || 'it'} ${error?.message ?? 'is not valid'}${extra}`);
}

/**
 * The text to store. With `before`, it replaces that record and keeps what this version does not know of it. Throws
 * InvalidRecordError, so that no record is written which nobody could read.
 */
export function serializeRecord<S extends TSchema>(
  kind: RecordKind<S>,
  id: string,
  value: Static<S>,
  before?: Stored<Static<S>>,
): string {
  check(kind.schema, kind.prefix + id, value);
  return JSON.stringify(before?.unknown ? restoreUnknownFields(before.value, value, before.unknown) : value);
}

/** Throws InvalidRecordError. The entry's key must begin with the prefix of the kind. */
export function parseRecord<S extends TSchema>(kind: RecordKind<S>, entry: Entry): Stored<Static<S>> {
  const { key, revision, created } = entry;
  let value: unknown;
  try {
    value = JSON.parse(entry.value);
  } catch {
    throw new InvalidRecordError(key, 'it is not JSON');
  }
  const place = { key, id: key.slice(kind.prefix.length), revision, created };
  // Nearly always there is nothing unknown, and it need not be taken apart.
  if (validatorOf(kind.schema)(value)) return { ...place, value };
  const { known, unknown }: { known: unknown; unknown?: UnknownFields } = separateUnknownFields(kind.schema, value);
  return { ...place, value: check(kind.schema, key, known), ...(unknown ? { unknown } : {}) };
}
