/** What every call of the protocol has in common: decoding, and that whatever goes wrong ends in a diagnostic. */

import { parseJson, valueFromJson } from '../../protocol/json.ts';
import type { Diagnostic as DiagnosticMessage, DynamicValue } from '../../protocol/messages.ts';
import { type Request, type Response, type Rpc, SEVERITY } from '../../protocol/messages.ts';
import { decodeValue, encodeValue } from '../../protocol/msgpack.ts';
import { isObject } from '../../protocol/types.ts';
import { ValueError } from '../../protocol/value-error.ts';
import type { Type, Value, Values } from '../../protocol/values.ts';
import type { Decoded, Encodable } from '../../protocol/wire.ts';
import type { Attributes } from '../attributes.ts';
import { type Diagnostic, DiagnosticError, DiagnosticList } from '../diagnostics.ts';
import { locatable, pathMessage } from '../paths.ts';
import type { PrivateState } from '../types.ts';
import type { Session } from './session.ts';

/** One call: its diagnostics, and the attributes by which their paths are to be read once these are known. */
export class Call {
  readonly diagnostics = new DiagnosticList();
  attributes: Attributes = {};

  messages(): Encodable<typeof DiagnosticMessage>[] {
    return this.diagnostics.list.map((diagnostic) => diagnosticMessage(diagnostic, this.attributes));
  }
}

export type Handler<R extends Rpc> = (session: Session, request: Request<R>, call: Call) => Promise<Response<R>>;

function diagnosticMessage(diagnostic: Diagnostic, attributes: Attributes): Encodable<typeof DiagnosticMessage> {
  const attribute = diagnostic.path && pathMessage(attributes, locatable(diagnostic.path));
  return {
    severity: SEVERITY[diagnostic.severity],
    // Go refuses a message with text that is not valid Unicode, such as half a surrogate pair.
    summary: diagnostic.summary.toWellFormed(),
    detail: (diagnostic.detail ?? '').toWellFormed(),
    ...(attribute?.steps?.length && { attribute }),
  };
}

/** A value as the protocol carries it; absent means null. */
export function readValue(type: Type, message: Decoded<typeof DynamicValue> | undefined): Value {
  if (!message) return null;
  if (message.msgpack.length > 0) return decodeValue(type, message.msgpack);
  if (message.json.length > 0) return valueFromJson(type, parseJson(message.json));
  return null;
}

/** An object, or null. */
export function readObject(type: Type, message: Decoded<typeof DynamicValue> | undefined): Values | null {
  const value = readValue(type, message);
  if (value === null) return null;
  if (!isObject(value)) throw new ValueError('expected an object');
  return value;
}

/** An object that must be there. */
export function requireObject(type: Type, message: Decoded<typeof DynamicValue> | undefined, what: string): Values {
  const value = readObject(type, message);
  if (value === null) throw new ValueError(`the call has no ${what}`);
  return value;
}

export function writeValue(type: Type, value: Value): Encodable<typeof DynamicValue> {
  return { msgpack: encodeValue(type, value) };
}

/** Data that this provider kept with the object. What another version left there and can not be read is dropped. */
export function readPrivate(bytes: Uint8Array | undefined): PrivateState {
  if (!bytes || bytes.length === 0) return {};
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as PrivateState) : {};
  } catch {
    return {};
  }
}

export function writePrivate(state: PrivateState): Uint8Array {
  return Object.keys(state).length === 0 ? new Uint8Array() : Buffer.from(JSON.stringify(state));
}

/** Fails a call for a type name that the provider does not have. */
export function unknownType(kind: string, typeName: string): DiagnosticError {
  return new DiagnosticError(`There is no ${kind} "${typeName}"`, 'This version of the provider does not have it.');
}
