/** The parts that the forms of records share. */
import { type TProperties, Type } from '@sinclair/typebox';
import { type Noun, Reference } from '../../contract/fields.ts';
import { quotaKinds } from '../../contract/resources/quotas.ts';
import { antiAffinityModes } from '../../contract/resources/vms.ts';
import type { SomeAmounts } from '../quota/amounts.ts';

/** Declares a kind of records with its key prefix. */
export const kind = <P extends TProperties>(prefix: string, fields: P) =>
  ({ prefix, schema: Type.Object(fields) }) as const;
/** Returns the schema of a set of strings. */
export const oneOf = <const V extends readonly string[]>(values: V) =>
  Type.Unsafe<V[number]>({ type: 'string', enum: [...values] });
/** Returns the schema of an id. */
export const id = <N extends Noun>(noun: N) => Reference(noun);

/** A time (RFC 3339, UTC). */
export const time = Type.String();
/** A number of bytes. */
export const bytes = Type.Integer({ minimum: 0 });
/** Labels. */
export const labels = Type.Record(Type.String(), Type.String());
/** The fields of every declaration. */
export const declared = { created_at: time, updated_at: time };
/** The anti-affinity group: a declaration contains its name, and a placement `<project>/<name>`. */
export const antiAffinity = Type.Optional(Type.Object({ group: Type.String(), mode: oneOf(antiAffinityModes) }));
/** The fields of a declaration in a project. */
export const scoped = { project: id('project'), name: Type.String(), labels };

/** The limits of a project. A missing kind is unlimited, and so is null: an earlier version wrote it for 1e999. */
export const limits = Type.Unsafe<SomeAmounts>({
  type: 'object',
  properties: Object.fromEntries(quotaKinds.map((kind) => [kind, { type: 'integer', nullable: true, minimum: 0 }])),
});

/** The resources of a VM or a host. */
export const resources = { cpus: Type.Number(), memory: bytes, disk: bytes };
