/** ReadResource, ImportResourceState, UpgradeResourceState and MoveResourceState: where states come from. */
import { type Json, parseJson, valueFromJson } from '../../protocol/json.ts';
import { DEFERRED, type RawState } from '../../protocol/messages.ts';
import { isObject } from '../../protocol/types.ts';
import type { Value, Values } from '../../protocol/values.ts';
import type { Decoded } from '../../protocol/wire.ts';
import { DiagnosticError } from '../diagnostics.ts';
import { emptyObject, overlay, unknownPaths, withoutUnknowns } from '../state.ts';
import type { PrivateState } from '../types.ts';
import { timeoutOf } from './apply.ts';
import {
  type Call,
  type Handler,
  readPrivate,
  requireObject,
  unknownType,
  writePrivate,
  writeValue,
} from './handler.ts';
import { identityField, importIdOf } from './identity.ts';
import type { AnyResource, Entry } from './registry.ts';
import { addFailure } from './session.ts';

export const readResource: Handler<'ReadResource'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  call.attributes = entry.attributes;
  const state = requireObject(entry.type, request.current_state, 'state');
  const privateState = readPrivate(request.private);
  if (session.configured.state === 'unknown') {
    // Nobody can be asked yet: what is known stays.
    const deferred = request.client_capabilities?.deferral_allowed === true;
    return {
      new_state: request.current_state,
      private: request.private,
      diagnostics: call.messages(),
      ...(deferred && { deferred: { reason: DEFERRED.providerConfigUnknown } }),
      ...identityField('new_identity', entry, state),
    };
  }
  const timeout = timeoutOf(entry.definition, 'read', state);
  const context = session.call(call.diagnostics, timeout);
  let fresh: Values | null = state;
  try {
    const { client } = session;
    const returned = await entry.definition.read({ ...context, client, state, timeout, private: privateState });
    fresh =
      returned === undefined ? null : withoutUnknowns(overlay(entry.attributes, state, returned, call.diagnostics));
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `read ${entry.typeName}`);
  } finally {
    context.finish();
  }
  return {
    new_state: writeValue(entry.type, fresh),
    private: writePrivate(privateState),
    diagnostics: call.messages(),
    ...identityField('new_identity', entry, fresh),
  };
};

export const importResourceState: Handler<'ImportResourceState'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  call.attributes = entry.attributes;
  const { definition, attributes, typeName } = entry;
  if (definition.import === false) {
    throw new DiagnosticError(`${typeName} can not be imported`, 'Objects of this type have no id to import them by.');
  }
  const id = request.id || importIdOf(entry, request.identity?.identity_data);
  const privateState: PrivateState = {};
  const context = session.call(call.diagnostics);
  let state: Values | undefined;
  try {
    const found = definition.import
      ? await definition.import(id, { ...context, client: session.client, private: privateState })
      : { id };
    if (found) state = withoutUnknowns(overlay(attributes, importedDefaults(entry), found, call.diagnostics));
    else if (!call.diagnostics.hasErrors) {
      call.diagnostics.error(
        `There is no ${typeName} "${id}"`,
        'Nothing with this id or name exists, or it is hidden from you.',
      );
    }
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `import ${typeName} "${id}"`);
  }
  return {
    imported_resources:
      state && !call.diagnostics.hasErrors
        ? [
            {
              type_name: typeName,
              state: writeValue(entry.type, state),
              private: writePrivate(privateState),
              ...identityField('identity', entry, state),
            },
          ]
        : [],
    diagnostics: call.messages(),
  };
};

/**
 * Attributes that only steer the provider (such as what to wait for) are not known to the API. An import gives them their
 * defaults, so that the plan after it is empty for a configuration that leaves them out.
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
  const { definition, typeName } = entry;
  const current = definition.version ?? 0;
  if (request.version > current) {
    throw new DiagnosticError(
      'The state was written by a later version of the provider',
      `The state of ${typeName} has version ${request.version}; this provider knows version ${current}. Use at least ` +
        'the version of the provider that wrote it.',
    );
  }
  let state = storedState(request.raw_state);
  for (let version = request.version; version < current; version++) {
    const step = definition.upgrade?.[version];
    if (!step) throw new DiagnosticError(`A state of ${typeName} of version ${version} can not be upgraded`);
    state = step(state) as { [key: string]: Json };
  }
  return { upgraded_state: writeValue(entry.type, fitState(entry, state)), diagnostics: call.messages() };
};

function storedState(raw: Decoded<typeof RawState> | undefined): { [key: string]: Json } {
  if (!raw || raw.json.length === 0) {
    throw new DiagnosticError('The stored state can not be read', 'It is empty, or of Terraform 0.11 or older.');
  }
  const state = parseJson(raw.json);
  if (!isObject(state)) throw new DiagnosticError('The stored state can not be read', 'It is not a JSON object.');
  return state as { [key: string]: Json };
}

function fitState(entry: Entry<AnyResource>, stored: { [key: string]: Json }): Value {
  const value = valueFromJson(entry.type, stored);
  if (!isObject(value)) throw new DiagnosticError('The stored state is not an object');
  // Write-only values never belong in a state; an attribute may have become write-only since.
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, entry.attributes[name]?.writeOnly ? null : member]),
  );
}

export const moveResourceState: Handler<'MoveResourceState'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.target_type_name);
  if (!entry) throw unknownType('resource type', request.target_type_name);
  call.attributes = entry.attributes;
  const { definition, attributes, typeName } = entry;
  const moved = await move(session, request, call, definition);
  if (!moved) {
    throw new DiagnosticError(
      `A ${request.source_type_name} can not become a ${typeName}`,
      'Remove the moved block. To adopt the object, take it out of the state with a removed block and import it.',
    );
  }
  const state = overlay(attributes, emptyObject(attributes), moved, call.diagnostics);
  for (const path of unknownPaths(state))
    call.diagnostics.error('Bug in the provider', 'It moved an unknown value.', path);
  return {
    target_state: writeValue(entry.type, withoutUnknowns(state)),
    diagnostics: call.messages(),
    ...identityField('target_identity', entry, withoutUnknowns(state)),
  };
};

async function move(
  session: Parameters<typeof moveResourceState>[0],
  request: Parameters<typeof moveResourceState>[1],
  call: Call,
  definition: AnyResource,
): Promise<object | undefined> {
  return definition.moveFrom?.(
    {
      providerAddress: request.source_provider_address,
      typeName: request.source_type_name,
      schemaVersion: request.source_schema_version,
      state: storedState(request.source_state),
    },
    session.call(call.diagnostics),
  );
}
