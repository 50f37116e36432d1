/** Data sources, functions and ephemeral resources. */
import { DEFERRED } from '../../protocol/messages.ts';
import { ValueError } from '../../protocol/value-error.ts';
import { isNull, isWhollyKnown, UNKNOWN, type Value } from '../../protocol/values.ts';
import { pathText } from '../paths.ts';
import { overlay, unknownPaths, withoutUnknowns } from '../state.ts';
import { FunctionError, type FunctionParameter } from '../types.ts';
import { validateObject } from '../validate.ts';
import { timeoutOf } from './apply.ts';
import { addFailure, type Call } from './call.ts';
import {
  type Handler,
  readPrivate,
  readValue,
  requireObject,
  unknownType,
  writePrivate,
  writeValue,
} from './handler.ts';
import type { AnyDataSource, AnyEphemeral, AnyResource, Entry } from './registry.ts';
import type { Session } from './session.ts';

async function validate(
  { configured }: Session,
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
  if (!call.diagnostics.hasErrors) {
    const context = { ...call.context(), config, configured: configured.state !== 'unconfigured' };
    await entry.definition.validate?.(context);
  }
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
  if (session.defers(request.client_capabilities)) {
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
  const context = call.context(timeout);
  try {
    const returned = await entry.definition.read({ ...context, ...session.client, config, timeout });
    const state = overlay(entry.attributes, config, returned, call.diagnostics);
    reportUnknown(state, call);
    return { state: writeValue(entry.type, withoutUnknowns(state)), diagnostics: call.messages() };
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `read ${entry.typeName}`);
    return { state: writeValue(entry.type, null), diagnostics: call.messages() };
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
    call.diagnostics.error('Bug in the provider', `The handler returned an unknown value for ${pathText(path)}.`, path);
  }
}

// --- Functions ------------------------------------------------------------------------------------------------------

export const callFunction: Handler<'CallFunction'> = async (session, request, call) => {
  const definition = await session.registry.functions.find(request.name);
  if (!definition) return { error: { text: `there is no function "${request.name}"` } };
  const { parameters, variadic } = definition;
  try {
    const { length } = request.arguments;
    if (length < parameters.length || (!variadic && length > parameters.length)) {
      throw new FunctionError(`expected ${variadic ? 'at least ' : ''}${parameters.length} arguments, got ${length}`);
    }
    const args = request.arguments.map((message, index) => argument(parameters[index] ?? variadic, message, index));
    if (args.includes(UNDECIDED)) return { result: writeValue(definition.returns, UNKNOWN) };
    const result = await definition.run(args as Value[], call.context());
    const [failure] = call.diagnostics.list.filter((diagnostic) => diagnostic.severity === 'error');
    if (failure) throw new FunctionError(failure.detail ? `${failure.summary}: ${failure.detail}` : failure.summary);
    return { result: writeValue(definition.returns, result) };
  } catch (error) {
    // Terraform adds a full stop to the text.
    const text = (error instanceof Error ? error.message : String(error)).toWellFormed().replace(/\.$/, '');
    if (error instanceof FunctionError && error.argument !== undefined) {
      return { error: { text, function_argument: error.argument } };
    }
    return { error: { text } };
  }
};

/** Marks an unknown argument of a parameter without `allowUnknown`: the result is unknown as well. */
const UNDECIDED = Symbol('undecided');

function argument(
  parameter: FunctionParameter | undefined,
  message: Parameters<typeof readValue>[1],
  index: number,
): Value | typeof UNDECIDED {
  if (!parameter) throw new FunctionError('there are more arguments than parameters', index);
  let value: Value;
  try {
    value = readValue(parameter.type, message);
  } catch (error) {
    if (error instanceof ValueError) throw new FunctionError(error.message, index);
    throw error;
  }
  if (isNull(value)) {
    if (!parameter.allowNull) throw new FunctionError(`${parameter.name} must not be null`, index);
    return value;
  }
  if (!isWhollyKnown(value)) return parameter.allowUnknown ? value : UNDECIDED;
  const wrong = parameter.validate?.(value);
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
  if (session.defers(request.client_capabilities)) {
    return {
      deferred: { reason: DEFERRED.providerConfigUnknown },
      result: request.config,
      diagnostics: call.messages(),
    };
  }
  const context = call.context();
  try {
    const opened = await entry.definition.open({ ...context, ...session.client, config });
    const result = overlay(entry.attributes, config, opened.result, call.diagnostics);
    reportUnknown(result, call);
    if (opened.renewAt && !entry.definition.renew)
      call.bug(`${entry.typeName} returned renewAt, and has no handler to renew it.`);
    return {
      result: writeValue(entry.type, withoutUnknowns(result)),
      ...(opened.renewAt && { renew_at: timestamp(opened.renewAt) }),
      private: writePrivate(call, opened.private ?? {}),
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
  const context = call.context();
  const privateState = readPrivate(request.private);
  try {
    const renewed = await entry.definition.renew?.({ ...context, ...session.client, private: privateState });
    return {
      ...(renewed?.renewAt && { renew_at: timestamp(renewed.renewAt) }),
      private: writePrivate(call, renewed?.private ?? privateState, request.private),
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
  const context = call.context();
  try {
    await entry.definition.close?.({ ...context, ...session.client, private: readPrivate(request.private) });
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, `close ${entry.typeName}`);
  }
  return { diagnostics: call.messages() };
};
