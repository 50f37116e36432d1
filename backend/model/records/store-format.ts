/** The format of the database. No version writes it yet; the first version that needs a newer format will. */
import { Type } from '@sinclair/typebox';
import { kind } from './form.ts';

/**
 * The format that this version understands. It must be raised with every change that older versions would misread: a
 * new value of an enumeration, another meaning, or a field that must not be ignored.
 */
export const currentFormat = 1;

/**
 * `format/store`: the minimum format that a reader must support; 1 if it is missing. A version sets it before it writes
 * records that older versions would misread. Older versions then stop, and do not start again.
 */
export const formats = kind('format/', { reader: Type.Integer({ minimum: 1 }) });
