/** Data sources, functions and ephemeral resources. */
import { DEFERRED } from '../../protocol/messages.ts';
import { ValueError } from '../../protocol/value-error.ts';
import { UNKNOWN, type Value } from '../../protocol/values.ts';
import { pathText } from '../paths.ts';
import { overlay, unknownPaths, withoutUnknowns } from '../state.ts';
import { FunctionError, type FunctionParameter } from '../types.ts';
import { validateObject } from '../validate.ts';
import { timeoutOf } from './apply.ts';
import {
  type Call,
  type Handler,
  readPrivate,
  readValue,
  requireObject,
  unknownType,
  writePrivate,
  writeValue,
} from './handler.ts';
import type { AnyDataSource, AnyEphemeral, AnyResource, Entry } from './registry.ts';
import { addFailure, type Session } from './session.ts';

async function validate(
  session: Session,
  entry: Entry<AnyResource | AnyDataSource | AnyEphemeral>,
  request: {
    config: Parameters<typeof requireObject>[1];
    client_capabilities?: { write_only_attributes_allowed: boolean } | undefined;
  },
  call: Call,
) {
  call.attributes = entry.attributes;
  const config = requireObject(entry.type, request.config, 'configuration');
  const writeOnlyAllowed = request.client_capabilities?.write_only_attributes_allowed === true;
  if (entry.definition.deprecated) {
    call.diagnostics.warning(`${entry.typeName} is deprecated`, entry.definition.deprecated);
  }
  validateObject(entry.attributes, config, call.diagnostics, { writeOnlyAllowed });
  if (!call.diagnostics.hasErrors) await entry.definition.validate?.({ ...session.call(call.diagnostics), config });
  return { diagnostics: call.messages() };
}

export const validateResourceConfig: Handler<'ValidateResourceConfig'> = async (session, request, call) => {
  const entry = await session.registry.resources.find(request.type_name);
  if (!entry) throw unknownType('resource type', request.type_name);
  return validate(session, entry, request, call);
};

export const validateDataResourceConfig: Handler<'ValidateDataResourceConfig'> = async (session, request, call) => {
  const entry = await session.registry.dataSources.find(request.type_name);
  if (!entry) throw unknownType('data source', request.type_name);
  return validate(session, entry, request, call);
};

export const validateEphemeralResourceConfig: Handler<'ValidateEphemeralResourceConfig'> = async (
  session,
  request,
  call,
) => {
  const entry = await session.registry.ephemeral.find(request.type_name);
  if (!entry) throw unknownType('ephemeral resource type', request.type_name);
  return validate(session, entry, request, call);
};

export const readDataSource: Handler<'ReadDataSource'> = async (session, request, call) => {
  const entry = await session.registry.dataSources.find(request.type_name);
  if (!entry) throw unknownType('data source', request.type_name);
  call.attributes = entry.attributes;
  const config = requireObject(entry.type, request.config, 'configuration');
  if (session.configured.state === 'unknown' && request.client_capabilities?.deferral_allowed) {
    return {
      state: writeValue(
        entry.type,
        overlay(entry.attributes, config, unknownComputed(entry, config), call.diagnostics),
      ),
      deferred: { reason: DEFERRED.providerConfigUnknown },
      diagnostics: call.messages(),
    };
  }
  const timeout = timeoutOf(entry.definition, 'read', config);
  const context = session.call(call.diagnostics, timeout);
  try {
    const { client } = session;
    const returned = await entry.definition.read({ ...context, client, config, timeout });
    const state = overlay(entry.attributes, config, returned, call.diagnostics);
    reportUnknown(state, call);
    return { state: writeValue(entry.type, withoutUnknowns(state)), diagnostics: call.messages() };
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `read ${entry.typeName}`);
    return { state: writeValue(entry.type, null), diagnostics: call.messages() };
  } finally {
    context.finish();
  }
};

function unknownComputed(entry: Entry<AnyDataSource>, config: { [name: string]: Value }): { [name: string]: Value } {
  return Object.fromEntries(
    Object.entries(entry.attributes)
      .filter(([name, attr]) => attr.computed && config[name] === null)
      .map(([name]) => [name, UNKNOWN]),
  );
}

function reportUnknown(state: Value, call: Call): void {
  for (const path of unknownPaths(state)) {
    call.diagnostics.error('Bug in the provider', `It left ${pathText(path)} unknown.`, path);
  }
}

// --- Functions ------------------------------------------------------------------------------------------------------

export const callFunction: Handler<'CallFunction'> = async (session, request, call) => {
  const definition = await session.registry.functions.find(request.name);
  if (!definition) return { error: { text: `there is no function "${request.name}"` } };
  const { parameters, variadic } = definition;
  try {
    if (request.arguments.length < parameters.length || (!variadic && request.arguments.length > parameters.length)) {
      throw new FunctionError(`expected ${parameters.length} arguments, got ${request.arguments.length}`);
    }
    const args = request.arguments.map((message, index) => argument(parameters[index] ?? variadic, message, index));
    const result = await definition.run(args, session.call(call.diagnostics));
    const [failure] = call.diagnostics.list.filter((diagnostic) => diagnostic.severity === 'error');
    if (failure) throw new FunctionError(failure.detail ? `${failure.summary}: ${failure.detail}` : failure.summary);
    return { result: writeValue(definition.returns, result) };
  } catch (error) {
    // Terraform puts the text into a sentence of its own and ends that.
    const text = (error instanceof Error ? error.message : String(error)).toWellFormed().replace(/\.$/, '');
    if (error instanceof FunctionError && error.argument !== undefined) {
      return { error: { text, function_argument: error.argument } };
    }
    return { error: { text } };
  }
};

function argument(
  parameter: FunctionParameter | undefined,
  message: Parameters<typeof readValue>[1],
  index: number,
): Value {
  if (!parameter) throw new FunctionError('there are more arguments than parameters', index);
  let value: Value;
  try {
    value = readValue(parameter.type, message);
  } catch (error) {
    if (error instanceof ValueError) throw new FunctionError(error.message, index);
    throw error;
  }
  const wrong = value === null || value === UNKNOWN ? undefined : parameter.validate?.(value);
  if (wrong !== undefined) throw new FunctionError(wrong, index);
  return value;
}

// --- Ephemeral resources --------------------------------------------------------------------------------------------

function timestamp(date: Date): { seconds: number; nanos: number } {
  const milliseconds = date.getTime();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanos: (milliseconds - seconds * 1000) * 1_000_000 };
}

export const openEphemeralResource: Handler<'OpenEphemeralResource'> = async (session, request, call) => {
  const entry = await session.registry.ephemeral.find(request.type_name);
  if (!entry) throw unknownType('ephemeral resource type', request.type_name);
  call.attributes = entry.attributes;
  const config = requireObject(entry.type, request.config, 'configuration');
  if (session.configured.state === 'unknown' && request.client_capabilities?.deferral_allowed) {
    return {
      deferred: { reason: DEFERRED.providerConfigUnknown },
      result: request.config,
      diagnostics: call.messages(),
    };
  }
  const context = session.call(call.diagnostics);
  try {
    const opened = await entry.definition.open({ ...context, client: session.client, config });
    const result = overlay(entry.attributes, config, opened.result, call.diagnostics);
    reportUnknown(result, call);
    return {
      result: writeValue(entry.type, withoutUnknowns(result)),
      ...(opened.renewAt && { renew_at: timestamp(opened.renewAt) }),
      private: writePrivate(opened.private ?? {}),
      diagnostics: call.messages(),
    };
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `open ${entry.typeName}`);
    return { diagnostics: call.messages() };
  }
};

export const renewEphemeralResource: Handler<'RenewEphemeralResource'> = async (session, request, call) => {
  const entry = await session.registry.ephemeral.find(request.type_name);
  if (!entry) throw unknownType('ephemeral resource type', request.type_name);
  const context = session.call(call.diagnostics);
  const privateState = readPrivate(request.private);
  try {
    const renewed = await entry.definition.renew?.({ ...context, client: session.client, private: privateState });
    return {
      ...(renewed?.renewAt && { renew_at: timestamp(renewed.renewAt) }),
      private: writePrivate(renewed?.private ?? privateState),
      diagnostics: call.messages(),
    };
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `renew ${entry.typeName}`);
    return { private: request.private, diagnostics: call.messages() };
  }
};

export const closeEphemeralResource: Handler<'CloseEphemeralResource'> = async (session, request, call) => {
  const entry = await session.registry.ephemeral.find(request.type_name);
  if (!entry) throw unknownType('ephemeral resource type', request.type_name);
  const context = session.call(call.diagnostics);
  try {
    await entry.definition.close?.({ ...context, client: session.client, private: readPrivate(request.private) });
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `close ${entry.typeName}`);
  }
  return { diagnostics: call.messages() };
};
