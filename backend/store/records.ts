/**
 * How records of one kind lie in the database: under which prefix and of what form. The kinds themselves are
 * declared in model/records.ts.
 */
import type { TSchema } from '@sinclair/typebox';
import type { Revision } from './store.ts';
import type { UnknownFields } from './unknown-fields.ts';

export interface RecordKind<S extends TSchema = TSchema> {
  /** Ends with `/`: `vms/`. */
  readonly prefix: string;
  readonly schema: S;
}

/** A record with its place in the database. */
export interface Stored<T> {
  readonly key: string;
  /** The key without the prefix of its kind. */
  readonly id: string;
  readonly value: T;
  readonly revision: Revision;
  readonly created: Revision;
  /** What a newer version has added to it. Not in `value`; `rewrite` keeps it. */
  readonly unknown?: UnknownFields;
}
