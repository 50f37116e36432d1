/** The parts that the forms of records share. */
import { type TProperties, Type } from '@sinclair/typebox';
import { type Noun, Reference } from '../../contract/fields.ts';
import { quotaKinds } from '../../contract/resources/quotas.ts';
import { antiAffinityModes } from '../../contract/resources/vms.ts';
import type { SomeAmounts } from '../quota/amounts.ts';

export const kind = <P extends TProperties>(prefix: string, fields: P) =>
  ({ prefix, schema: Type.Object(fields) }) as const;
export const oneOf = <const V extends readonly string[]>(values: V) =>
  Type.Unsafe<V[number]>({ type: 'string', enum: [...values] });
export const id = <N extends Noun>(noun: N) => Reference(noun);

export const time = Type.String();
export const bytes = Type.Integer({ minimum: 0 });
export const labels = Type.Record(Type.String(), Type.String());
export const declared = { created_at: time, updated_at: time };
/** In a declaration its owner's name for the group, in a placement `<project>/<name>`. */
export const antiAffinity = Type.Optional(Type.Object({ group: Type.String(), mode: oneOf(antiAffinityModes) }));
export const scoped = { project: id('project'), name: Type.String(), labels };

/** Limits of a project, each absent if there is none. Null is no limit: an earlier version wrote it for 1e999. */
export const limits = Type.Unsafe<SomeAmounts>({
  type: 'object',
  properties: Object.fromEntries(quotaKinds.map((kind) => [kind, { type: 'integer', nullable: true, minimum: 0 }])),
});

/** The resources that a VM takes, and those of a host. */
export const resources = { cpus: Type.Number(), memory: bytes, disk: bytes };
