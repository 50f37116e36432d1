/** Calls about the provider as a whole: schemas, configuration, stop. */
import { type FunctionSignature, MARKDOWN } from '../../protocol/messages.ts';
import { typeToJson } from '../../protocol/types.ts';
import { isWhollyKnown } from '../../protocol/values.ts';
import type { Encodable } from '../../protocol/wire.ts';
import { schemaMessage } from '../schema.ts';
import type { FunctionParameter as Parameter } from '../types.ts';
import { validateObject } from '../validate.ts';
import { addFailure } from './call.ts';
import { type Handler, requireObject } from './handler.ts';
import type { AnyFunction, Entry } from './registry.ts';

const CAPABILITIES = { plan_destroy: true, get_provider_schema_optional: true, move_resource_state: true };

export const getMetadata: Handler<'GetMetadata'> = async ({ registry }, _request, call) => ({
  server_capabilities: CAPABILITIES,
  diagnostics: call.messages(),
  resources: registry.resources.names.map((type_name) => ({ type_name })),
  data_sources: registry.dataSources.names.map((type_name) => ({ type_name })),
  ephemeral_resources: registry.ephemeral.names.map((type_name) => ({ type_name })),
  functions: registry.functions.names.map((name) => ({ name })),
});

interface Described {
  definition: { description: string; version?: number; deprecated?: string };
}

function schemas<D extends Entry<Described['definition']>>(entries: [string, D][]) {
  return Object.fromEntries(
    entries.map(([name, entry]) => [name, schemaMessage({ ...entry.definition, attributes: entry.attributes })]),
  );
}

export const getProviderSchema: Handler<'GetProviderSchema'> = async ({ registry }, _request, call) => {
  const { definition, attributes } = registry.provider;
  return {
    provider: schemaMessage({ description: definition.description, attributes }),
    resource_schemas: schemas(await registry.resources.all()),
    data_source_schemas: schemas(await registry.dataSources.all()),
    ephemeral_resource_schemas: schemas(await registry.ephemeral.all()),
    functions: signatures(await registry.functions.all()),
    server_capabilities: CAPABILITIES,
    diagnostics: call.messages(),
  };
};

export const getFunctions: Handler<'GetFunctions'> = async ({ registry }, _request, call) => ({
  functions: signatures(await registry.functions.all()),
  diagnostics: call.messages(),
});

function signatures(functions: [string, AnyFunction][]) {
  return Object.fromEntries(functions.map(([name, definition]) => [name, signature(definition)]));
}

function parameter(definition: Parameter) {
  return {
    name: definition.name,
    type: typeToJson(definition.type),
    allow_null_value: definition.allowNull === true,
    allow_unknown_values: definition.allowUnknown === true,
    description: definition.description,
    description_kind: MARKDOWN,
  };
}

function signature(definition: AnyFunction): Encodable<typeof FunctionSignature> {
  return {
    parameters: definition.parameters.map(parameter),
    ...(definition.variadic && { variadic_parameter: parameter(definition.variadic) }),
    return: { type: typeToJson(definition.returns) },
    summary: definition.summary,
    description: definition.description,
    description_kind: MARKDOWN,
    deprecation_message: definition.deprecated ?? '',
  };
}

export const getResourceIdentitySchemas: Handler<'GetResourceIdentitySchemas'> = async (
  { registry },
  _request,
  call,
) => {
  const entries = await registry.resources.all();
  return {
    identity_schemas: Object.fromEntries(
      entries.flatMap(([name, { definition }]) => {
        if (!definition.identity) return [];
        const { version = 0, attributes } = definition.identity;
        const identity_attributes = Object.entries(attributes).map(
          ([attribute, { type, description, requiredForImport }]) => ({
            name: attribute,
            type: typeToJson(type),
            description,
            required_for_import: requiredForImport !== false,
            optional_for_import: requiredForImport === false,
          }),
        );
        return [[name, { version, identity_attributes }]];
      }),
    ),
    diagnostics: call.messages(),
  };
};

export const validateProviderConfig: Handler<'ValidateProviderConfig'> = async (session, request, call) => {
  const { definition, attributes, type } = session.registry.provider;
  call.attributes = attributes;
  const config = requireObject(type, request.config, 'configuration');
  validateObject(attributes, config, call.diagnostics, { writeOnlyAllowed: false });
  if (!call.diagnostics.hasErrors) {
    await definition.validate?.({ ...call.context(), config, configured: false });
  }
  return { diagnostics: call.messages() };
};

export const configureProvider: Handler<'ConfigureProvider'> = async (session, request, call) => {
  const { definition, attributes, type } = session.registry.provider;
  call.attributes = attributes;
  const config = requireObject(type, request.config, 'configuration');
  const context = call.context();
  try {
    const client = await definition.configure({ ...context, config, terraformVersion: request.terraform_version });
    if (client !== undefined) {
      session.configured = { state: 'ready', client, session: await definition.startSession?.(client) };
    } else if (isWhollyKnown(config)) {
      if (!call.diagnostics.hasErrors)
        call.diagnostics.error('Bug in the provider', 'The provider did not configure itself.');
    } else session.configured = { state: 'unknown' };
  } catch (error) {
    addFailure(call.diagnostics, error, context.signal, 'configure the provider');
  }
  return { diagnostics: call.messages() };
};

export const stopProvider: Handler<'StopProvider'> = async (session) => {
  session.log.info('Terraform stops the provider');
  session.stop();
  return { Error: '' };
};
