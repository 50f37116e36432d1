/** The common part of all calls of the protocol: decoding and encoding of values and private data. */

import { parseJson, valueFromJson } from '../../protocol/json.ts';
import type { DynamicValue, Request, Response, Rpc } from '../../protocol/messages.ts';
import { decodeValue, encodeValue } from '../../protocol/msgpack.ts';
import { isObject } from '../../protocol/types.ts';
import { ValueError } from '../../protocol/value-error.ts';
import type { Type, Value, Values } from '../../protocol/values.ts';
import type { Decoded, Encodable } from '../../protocol/wire.ts';
import { DiagnosticError } from '../diagnostics.ts';
import type { PrivateState } from '../types.ts';
import type { Call } from './call.ts';
import type { Session } from './session.ts';

export type Handler<R extends Rpc> = (session: Session, request: Request<R>, call: Call) => Promise<Response<R>>;

/** Returns the value of a message; null for an absent one. @throws ValueError */
export function readValue(type: Type, message: Decoded<typeof DynamicValue> | undefined): Value {
  if (!message) return null;
  if (message.msgpack.length > 0) return decodeValue(type, message.msgpack);
  if (message.json.length > 0) return valueFromJson(type, parseJson(message.json));
  return null;
}

/** Returns the object of a message, or null. @throws ValueError */
export function readObject(type: Type, message: Decoded<typeof DynamicValue> | undefined): Values | null {
  const value = readValue(type, message);
  if (value === null) return null;
  if (!isObject(value)) throw new ValueError('expected an object');
  return value;
}

/** Returns the object of a message. @throws ValueError if there is none */
export function requireObject(type: Type, message: Decoded<typeof DynamicValue> | undefined, what: string): Values {
  const value = readObject(type, message);
  if (value === null) throw new ValueError(`the call has no ${what}`);
  return value;
}

export function writeValue(type: Type, value: Value): Encodable<typeof DynamicValue> {
  return { msgpack: encodeValue(type, value) };
}

/** Returns the data that this provider keeps with the object. Unreadable data of another version is dropped. */
export function readPrivate(bytes: Uint8Array | undefined): PrivateState {
  if (!bytes || bytes.length === 0) return {};
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as PrivateState) : {};
  } catch {
    return {};
  }
}

/**
 * Encodes the data that the provider keeps with an object. Data that is not JSON is a bug of the provider. The state must
 * not lose the object because of it, so the call reports the bug and returns the data from before.
 */
export function writePrivate(call: Call, state: PrivateState, before: Uint8Array = new Uint8Array()): Uint8Array {
  if (Object.keys(state).length === 0) return new Uint8Array();
  try {
    return Buffer.from(JSON.stringify(state));
  } catch (error) {
    call.bug(`The private data cannot be encoded as JSON: ${error instanceof Error ? error.message : String(error)}`);
    return before;
  }
}

/** Returns the error of a call for an unknown type name. */
export function unknownType(kind: string, typeName: string): DiagnosticError {
  return new DiagnosticError(`There is no ${kind} "${typeName}"`, 'This version of the provider does not have it.');
}
