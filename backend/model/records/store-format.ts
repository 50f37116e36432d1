/** The format of the database. No version writes it yet; the first version that needs a newer format will. */
import { Type } from '@sinclair/typebox';
import { kind } from './form.ts';

/**
 * What this version understands. To be raised with every change of a form that who does not know it would get wrong: a new
 * value of an enumeration, another meaning, a field that must not be ignored.
 */
export const currentFormat = 1;

/**
 * `format/store`: the least format that a reader of this database must understand; 1 if it is missing. A version that is
 * about to write what older ones would get wrong sets it first. They then stop, and do not start again.
 */
export const formats = kind('format/', { reader: Type.Integer({ minimum: 1 }) });
