/**
 * The form of records in the database: the key prefix and the schema of each kind. model/records/ declares the
 * kinds.
 */
import type { TSchema } from '@sinclair/typebox';
import type { Revision } from './store.ts';
import type { UnknownFields } from './unknown-fields.ts';

/** A kind of records. */
export interface RecordKind<S extends TSchema = TSchema> {
  /** The key prefix, which ends with `/`: `vms/`. */
  readonly prefix: string;
  readonly schema: S;
}

/** A record as it was read from the database. */
export interface Stored<T> {
  readonly key: string;
  /** The key without the prefix of its kind. */
  readonly id: string;
  readonly value: T;
  /** The revision of the last write. */
  readonly revision: Revision;
  /** The revision of the creation. */
  readonly created: Revision;
  /** The fields that a newer version has added. `value` does not contain them, and `rewrite` keeps them. */
  readonly unknown?: UnknownFields;
}
