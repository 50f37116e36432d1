/** Resource identity (protocol 6.9): what names an object for good, kept beside its state. */
import { parseJson, valueFromJson } from '../../protocol/json.ts';
import type { DynamicValue, ResourceIdentityData } from '../../protocol/messages.ts';
import { isObject } from '../../protocol/types.ts';
import type { Values } from '../../protocol/values.ts';
import type { Decoded, Encodable } from '../../protocol/wire.ts';
import { DiagnosticError } from '../diagnostics.ts';
import type { ObjectType } from '../schema.ts';
import { type Handler, requireObject, unknownType, writeValue } from './handler.ts';
import type { AnyResource, Entry } from './registry.ts';

type Identity = NonNullable<AnyResource['identity']>;
type Message = Encodable<typeof ResourceIdentityData>;

function identityType(identity: Identity): ObjectType {
  return ['object', Object.fromEntries(Object.entries(identity.attributes).map(([name, { type }]) => [name, type]))];
}

/** The identity of an object with this state, as a field to spread into a response; nothing when the type has none. */
export function identityField<K extends string>(
  field: K,
  { definition: { identity } }: Entry<AnyResource>,
  state: Values | null,
): { [key in K]?: Message } {
  if (!identity || state === null) return {};
  return { [field]: { identity_data: writeValue(identityType(identity), identity.of(state)) } } as {
    [key in K]?: Message;
  };
}

/** The id to import by, from what the user gave in an `identity` of an import block. */
export function importIdOf(entry: Entry<AnyResource>, data: Decoded<typeof DynamicValue> | undefined): string {
  const { identity } = entry.definition;
  if (!identity) {
    throw new DiagnosticError('Import by identity is not possible', `${entry.typeName} has no identity: import by id.`);
  }
  return identity.importId(requireObject(identityType(identity), data, 'identity'));
}

export const upgradeResourceIdentity: Handler<'UpgradeResourceIdentity'> = async ({ registry }, request, call) => {
  const entry = await registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  const { identity } = entry.definition;
  if (!identity) throw new DiagnosticError(`${entry.typeName} has no identity`);
  const current = identity.version ?? 0;
  if (request.version !== current) {
    throw new DiagnosticError(
      'The identity was written by another version of the provider',
      `Its version is ${request.version}; this provider writes version ${current}.`,
    );
  }
  const type = identityType(identity);
  const value = valueFromJson(type, parseJson(request.raw_identity?.json ?? new Uint8Array()));
  if (!isObject(value)) throw new DiagnosticError('The stored identity is not an object');
  return { upgraded_identity: { identity_data: writeValue(type, value) }, diagnostics: call.messages() };
};
