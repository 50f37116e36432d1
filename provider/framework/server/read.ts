/** ReadResource, ImportResourceState, UpgradeResourceState and MoveResourceState: the calls that return a state. */
import { valueFromJson } from '../../protocol/json.ts';
import { DEFERRED, type Request } from '../../protocol/messages.ts';
import { UNKNOWN, type Value, type Values } from '../../protocol/values.ts';
import { DiagnosticError } from '../diagnostics.ts';
import { copyObject, emptyObject, overlay, unknownPaths, withoutUnknowns, withoutWriteOnly } from '../state.ts';
import type { PrivateState } from '../types.ts';
import { timeoutOf } from './apply.ts';
import { addFailure, type Call } from './call.ts';
import { type Handler, readPrivate, requireObject, unknownType, writePrivate, writeValue } from './handler.ts';
import { identityOf, importIdOf } from './identity.ts';
import type { AnyResource, Entry } from './registry.ts';
import { readStored, type Stored, upgradeStored } from './stored.ts';

export const readResource: Handler<'ReadResource'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  call.attributes = entry.attributes;
  const state = requireObject(entry.type, request.current_state, 'state');
  const privateState = readPrivate(request.private);
  if (session.configured.state === 'unknown') {
    // Without a client, the state stays as it is.
    const new_identity = identityOf(call, entry, state);
    return {
      new_state: request.current_state,
      private: request.private,
      new_identity,
      ...(session.defers(request.client_capabilities) && { deferred: { reason: DEFERRED.providerConfigUnknown } }),
      diagnostics: call.messages(),
    };
  }
  const timeout = timeoutOf(entry.definition, 'read', state);
  const context = call.context(timeout);
  let fresh: Values | null = state;
  try {
    const returned = await entry.definition.read({
      ...context,
      ...session.client,
      state: copyObject(state),
      timeout,
      private: privateState,
    });
    fresh =
      returned === undefined ? null : withoutUnknowns(overlay(entry.attributes, state, returned, call.diagnostics));
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `read ${entry.typeName}`);
  }
  const new_identity = identityOf(call, entry, fresh);
  return {
    new_state: writeValue(entry.type, fresh),
    private: writePrivate(call, privateState, request.private),
    new_identity,
    diagnostics: call.messages(),
  };
};

export const importResourceState: Handler<'ImportResourceState'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  call.attributes = entry.attributes;
  const { definition, attributes, typeName } = entry;
  if (definition.import === false) {
    throw new DiagnosticError(`${typeName} cannot be imported`, 'The provider does not support import for this type.');
  }
  if (session.defers(request.client_capabilities)) {
    return {
      imported_resources: [{ type_name: typeName, state: writeValue(entry.type, UNKNOWN) }],
      deferred: { reason: DEFERRED.providerConfigUnknown },
      diagnostics: call.messages(),
    };
  }
  if (!request.id && !request.identity?.identity_data) {
    throw new DiagnosticError('The import id is empty', `Write the id of the ${typeName} after its address.`);
  }
  const id = request.id || importIdOf(entry, request.identity?.identity_data);
  const privateState: PrivateState = {};
  const context = call.context();
  let state: Values | undefined;
  try {
    const found = definition.import
      ? await definition.import(id, { ...context, ...session.client, private: privateState })
      : { id };
    if (found) state = withoutUnknowns(overlay(attributes, importedDefaults(entry), found, call.diagnostics));
    else if (!call.diagnostics.hasErrors) {
      call.diagnostics.error(`There is no ${typeName} "${id}"`, 'It does not exist, or the provider may not see it.');
    }
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `import ${typeName} "${id}"`);
  }
  const imported = state && {
    type_name: typeName,
    state: writeValue(entry.type, state),
    private: writePrivate(call, privateState),
    // The state does not contain all attributes yet, so the values that the user gave count.
    identity: identityOf(call, entry, state) ?? (request.id ? undefined : request.identity),
  };
  return {
    imported_resources: imported && !call.diagnostics.hasErrors ? [imported] : [],
    diagnostics: call.messages(),
  };
};

/**
 * Returns the defaults of attributes that the API does not know, such as the state to wait for. An import sets them, so
 * that the next plan is empty for a configuration without them.
 */
function importedDefaults({ attributes }: Entry<AnyResource>): Values {
  const values = emptyObject(attributes);
  for (const [name, attr] of Object.entries(attributes)) {
    if (attr.default !== undefined) values[name] = attr.default as Value;
  }
  return values;
}

export const upgradeResourceState: Handler<'UpgradeResourceState'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  call.attributes = entry.attributes;
  const state = upgradeStored(`state of ${entry.typeName}`, request.version, request.raw_state, entry.definition);
  return { upgraded_state: writeValue(entry.type, fitState(entry, state)), diagnostics: call.messages() };
};

/** Removes write-only values from a stored state: an attribute may have become write-only since. */
function fitState(entry: Entry<AnyResource>, stored: Stored): Values {
  return withoutWriteOnly(entry.attributes, valueFromJson(entry.type, stored) as Values);
}

export const moveResourceState: Handler<'MoveResourceState'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.target_type_name);
  if (!entry) throw unknownType('resource type', request.target_type_name);
  call.attributes = entry.attributes;
  const { attributes, typeName } = entry;
  const privateState: PrivateState = {};
  const moved = await move(request, call, entry, privateState);
  if (!moved && !call.diagnostics.hasErrors) {
    throw new DiagnosticError(
      `A ${request.source_type_name} cannot become a ${typeName}`,
      'Remove the moved block. To keep the object, remove it from the state with a removed block, and import it.',
    );
  }
  if (!moved) return { diagnostics: call.messages() };
  const state = overlay(attributes, emptyObject(attributes), moved, call.diagnostics);
  for (const path of unknownPaths(state))
    call.diagnostics.error('Bug in the provider', 'The moved state contains an unknown value.', path);
  const known = withoutUnknowns(state);
  const target_identity = identityOf(call, entry, known);
  return {
    target_state: writeValue(entry.type, known),
    target_private: writePrivate(call, privateState),
    target_identity,
    diagnostics: call.messages(),
  };
};

async function move(
  request: Request<'MoveResourceState'>,
  call: Call,
  { definition, typeName }: Entry<AnyResource>,
  privateState: PrivateState,
): Promise<object | undefined> {
  const context = call.context();
  try {
    return await definition.moveFrom?.(
      {
        providerAddress: request.source_provider_address,
        typeName: request.source_type_name,
        schemaVersion: request.source_schema_version,
        state: readStored(`state of ${request.source_type_name}`, request.source_state),
        private: readPrivate(request.source_private),
      },
      { ...context, private: privateState },
    );
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `move a ${request.source_type_name} to a ${typeName}`);
    return undefined;
  }
}
