/** Resource identity (protocol 6.9): the permanent name of an object, stored next to its state. */
import { valueFromJson } from '../../protocol/json.ts';
import type { DynamicValue, ResourceIdentityData } from '../../protocol/messages.ts';
import type { Values } from '../../protocol/values.ts';
import type { Decoded, Encodable } from '../../protocol/wire.ts';
import { DiagnosticError } from '../diagnostics.ts';
import type { ObjectType } from '../schema.ts';
import type { Call } from './call.ts';
import { type Handler, requireObject, unknownType, writeValue } from './handler.ts';
import type { AnyResource, Entry } from './registry.ts';
import { upgradeStored } from './stored.ts';

type Identity = NonNullable<AnyResource['identity']>;
type Message = Encodable<typeof ResourceIdentityData>;

function identityType(identity: Identity): ObjectType {
  return ['object', Object.fromEntries(Object.entries(identity.attributes).map(([name, { type }]) => [name, type]))];
}

/**
 * Returns the identity of an object with this state, for a response. Undefined if the type has no identity, or if the state
 * is incomplete after a failed create or an import by id: Terraform refuses an identity that changes later. An error in the
 * computation is reported, and the object stays in the state.
 */
export function identityOf(call: Call, entry: Entry<AnyResource>, state: Values | null): Message | undefined {
  const { identity } = entry.definition;
  if (!identity || state === null) return undefined;
  try {
    const values = identity.of(state);
    const missing = Object.entries(identity.attributes).some(
      ([name, { requiredForImport }]) => requiredForImport !== false && (values[name] ?? null) === null,
    );
    return missing ? undefined : { identity_data: writeValue(identityType(identity), values) };
  } catch (error) {
    call.bug(
      `The identity of this ${entry.typeName} cannot be computed: ${error instanceof Error ? error.message : error}`,
    );
    return undefined;
  }
}

/** Returns the import id for the `identity` of an import block. @throws DiagnosticError for a type without an identity */
export function importIdOf(entry: Entry<AnyResource>, data: Decoded<typeof DynamicValue> | undefined): string {
  const { identity } = entry.definition;
  if (!identity) {
    throw new DiagnosticError(
      'Import by identity is not possible',
      `${entry.typeName} has no identity. Import the object by its id.`,
    );
  }
  return identity.importId(requireObject(identityType(identity), data, 'identity'));
}

export const upgradeResourceIdentity: Handler<'UpgradeResourceIdentity'> = async ({ registry }, request, call) => {
  const entry = await registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  const { identity } = entry.definition;
  if (!identity) throw new DiagnosticError(`${entry.typeName} has no identity`);
  const stored = upgradeStored(`identity of ${entry.typeName}`, request.version, request.raw_identity, identity);
  const type = identityType(identity);
  return {
    upgraded_identity: { identity_data: writeValue(type, valueFromJson(type, stored)) },
    diagnostics: call.messages(),
  };
};
