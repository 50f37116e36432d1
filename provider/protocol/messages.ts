/**
 * The messages of Terraform's plugin protocol 6 (service `tfplugin6.Provider`), up to minor version 6.9: field names,
 * numbers and types. Deprecated fields and fields of Terraform's legacy SDK are omitted.
 * https://developer.hashicorp.com/terraform/plugin/terraform-plugin-protocol
 */
import {
  type Decoded,
  type Encodable,
  type Fields,
  type MessageType,
  map,
  message,
  one,
  optional,
  repeated,
} from './wire.ts';

export const DynamicValue = message('DynamicValue', { msgpack: one(1, 'bytes'), json: one(2, 'bytes') });

export const AttributePathStep = message('AttributePath.Step', {
  attribute_name: optional(1, 'string'),
  element_key_string: optional(2, 'string'),
  element_key_int: optional(3, 'int'),
});
export const AttributePath = message('AttributePath', { steps: repeated(1, AttributePathStep) });

export const SEVERITY = { error: 1, warning: 2 } as const;
export const Diagnostic = message('Diagnostic', {
  severity: one(1, 'int'),
  summary: one(2, 'string'),
  detail: one(3, 'string'),
  attribute: one(4, AttributePath),
});

/** The format of a description: 1 is Markdown, 0 is plain text. */
export const MARKDOWN = 1;
export const NESTING = { single: 1, list: 2, set: 3, map: 4 } as const;

/**
 * An attribute. `nested_type` is a SchemaObject, which contains attributes again. So that no table refers to itself, it has
 * the type bytes, which has the same encoding.
 */
export const SchemaAttribute = message('Schema.Attribute', {
  name: one(1, 'string'),
  type: one(2, 'bytes'),
  description: one(3, 'string'),
  required: one(4, 'bool'),
  optional: one(5, 'bool'),
  computed: one(6, 'bool'),
  sensitive: one(7, 'bool'),
  description_kind: one(8, 'int'),
  deprecated: one(9, 'bool'),
  nested_type: one(10, 'bytes'),
  write_only: one(11, 'bool'),
});
export const SchemaObject = message('Schema.Object', {
  attributes: repeated(1, SchemaAttribute),
  nesting: one(3, 'int'),
});
/** A block. This provider has no nested blocks (field 3), which are the older form of nested attributes. */
export const SchemaBlock = message('Schema.Block', {
  version: one(1, 'int'),
  attributes: repeated(2, SchemaAttribute),
  description: one(4, 'string'),
  description_kind: one(5, 'int'),
  deprecated: one(6, 'bool'),
});
export const Schema = message('Schema', { version: one(1, 'int'), block: one(2, SchemaBlock) });

export const IdentityAttribute = message('ResourceIdentitySchema.IdentityAttribute', {
  name: one(1, 'string'),
  type: one(2, 'bytes'),
  required_for_import: one(3, 'bool'),
  optional_for_import: one(4, 'bool'),
  description: one(5, 'string'),
});
export const ResourceIdentitySchema = message('ResourceIdentitySchema', {
  version: one(1, 'int'),
  identity_attributes: repeated(2, IdentityAttribute),
});
export const ResourceIdentityData = message('ResourceIdentityData', { identity_data: one(1, DynamicValue) });

export const FunctionParameter = message('Function.Parameter', {
  name: one(1, 'string'),
  type: one(2, 'bytes'),
  allow_null_value: one(3, 'bool'),
  allow_unknown_values: one(4, 'bool'),
  description: one(5, 'string'),
  description_kind: one(6, 'int'),
});
export const FunctionReturn = message('Function.Return', { type: one(1, 'bytes') });
export const FunctionSignature = message('Function', {
  parameters: repeated(1, FunctionParameter),
  variadic_parameter: one(2, FunctionParameter),
  return: one(3, FunctionReturn),
  summary: one(4, 'string'),
  description: one(5, 'string'),
  description_kind: one(6, 'int'),
  deprecation_message: one(7, 'string'),
});
export const FunctionError = message('FunctionError', {
  text: one(1, 'string'),
  function_argument: optional(2, 'int'),
});

export const RawState = message('RawState', { json: one(1, 'bytes'), flatmap: map(2, 'string') });
export const Timestamp = message('Timestamp', { seconds: one(1, 'int'), nanos: one(2, 'int') });

export const ServerCapabilities = message('ServerCapabilities', {
  plan_destroy: one(1, 'bool'),
  get_provider_schema_optional: one(2, 'bool'),
  move_resource_state: one(3, 'bool'),
});
export const ClientCapabilities = message('ClientCapabilities', {
  deferral_allowed: one(1, 'bool'),
  write_only_attributes_allowed: one(2, 'bool'),
});
export const DEFERRED = { resourceConfigUnknown: 1, providerConfigUnknown: 2, absentPrerequisite: 3 } as const;
export const Deferred = message('Deferred', { reason: one(1, 'int') });

const Named = message('FunctionMetadata', { name: one(1, 'string') });
const Typed = message('TypeMetadata', { type_name: one(1, 'string') });
const diagnostics = <N extends number>(number: N) => repeated(number, Diagnostic);
const validateTyped = {
  request: message('Validate.Request', { type_name: one(1, 'string'), config: one(2, DynamicValue) }),
  response: message('Validate.Response', { diagnostics: diagnostics(1) }),
};
const validateResource = {
  request: message('ValidateResourceConfig.Request', {
    ...validateTyped.request.fields,
    client_capabilities: one(3, ClientCapabilities),
  }),
  response: validateTyped.response,
};

/** The calls of the service by name. */
export const RPCS = {
  GetMetadata: {
    request: message('GetMetadata.Request', {}),
    response: message('GetMetadata.Response', {
      server_capabilities: one(1, ServerCapabilities),
      diagnostics: diagnostics(2),
      data_sources: repeated(3, Typed),
      resources: repeated(4, Typed),
      functions: repeated(5, Named),
      ephemeral_resources: repeated(6, Typed),
    }),
  },
  GetProviderSchema: {
    request: message('GetProviderSchema.Request', {}),
    response: message('GetProviderSchema.Response', {
      provider: one(1, Schema),
      resource_schemas: map(2, Schema),
      data_source_schemas: map(3, Schema),
      diagnostics: diagnostics(4),
      server_capabilities: one(6, ServerCapabilities),
      functions: map(7, FunctionSignature),
      ephemeral_resource_schemas: map(8, Schema),
    }),
  },
  GetResourceIdentitySchemas: {
    request: message('GetResourceIdentitySchemas.Request', {}),
    response: message('GetResourceIdentitySchemas.Response', {
      identity_schemas: map(1, ResourceIdentitySchema),
      diagnostics: diagnostics(2),
    }),
  },
  ValidateProviderConfig: {
    request: message('ValidateProviderConfig.Request', { config: one(1, DynamicValue) }),
    response: message('ValidateProviderConfig.Response', { diagnostics: diagnostics(2) }),
  },
  ValidateResourceConfig: validateResource,
  ValidateDataResourceConfig: validateTyped,
  ValidateEphemeralResourceConfig: validateTyped,
  UpgradeResourceState: {
    request: message('UpgradeResourceState.Request', {
      type_name: one(1, 'string'),
      version: one(2, 'int'),
      raw_state: one(3, RawState),
    }),
    response: message('UpgradeResourceState.Response', {
      upgraded_state: one(1, DynamicValue),
      diagnostics: diagnostics(2),
    }),
  },
  UpgradeResourceIdentity: {
    request: message('UpgradeResourceIdentity.Request', {
      type_name: one(1, 'string'),
      version: one(2, 'int'),
      raw_identity: one(3, RawState),
    }),
    response: message('UpgradeResourceIdentity.Response', {
      upgraded_identity: one(1, ResourceIdentityData),
      diagnostics: diagnostics(2),
    }),
  },
  ConfigureProvider: {
    request: message('ConfigureProvider.Request', {
      terraform_version: one(1, 'string'),
      config: one(2, DynamicValue),
      client_capabilities: one(3, ClientCapabilities),
    }),
    response: message('ConfigureProvider.Response', { diagnostics: diagnostics(1) }),
  },
  ReadResource: {
    request: message('ReadResource.Request', {
      type_name: one(1, 'string'),
      current_state: one(2, DynamicValue),
      private: one(3, 'bytes'),
      client_capabilities: one(5, ClientCapabilities),
      current_identity: one(6, ResourceIdentityData),
    }),
    response: message('ReadResource.Response', {
      new_state: one(1, DynamicValue),
      diagnostics: diagnostics(2),
      private: one(3, 'bytes'),
      deferred: one(4, Deferred),
      new_identity: one(5, ResourceIdentityData),
    }),
  },
  PlanResourceChange: {
    request: message('PlanResourceChange.Request', {
      type_name: one(1, 'string'),
      prior_state: one(2, DynamicValue),
      proposed_new_state: one(3, DynamicValue),
      config: one(4, DynamicValue),
      prior_private: one(5, 'bytes'),
      client_capabilities: one(7, ClientCapabilities),
      prior_identity: one(8, ResourceIdentityData),
    }),
    response: message('PlanResourceChange.Response', {
      planned_state: one(1, DynamicValue),
      requires_replace: repeated(2, AttributePath),
      planned_private: one(3, 'bytes'),
      diagnostics: diagnostics(4),
      deferred: one(6, Deferred),
      planned_identity: one(7, ResourceIdentityData),
    }),
  },
  ApplyResourceChange: {
    request: message('ApplyResourceChange.Request', {
      type_name: one(1, 'string'),
      prior_state: one(2, DynamicValue),
      planned_state: one(3, DynamicValue),
      config: one(4, DynamicValue),
      planned_private: one(5, 'bytes'),
      planned_identity: one(7, ResourceIdentityData),
    }),
    response: message('ApplyResourceChange.Response', {
      new_state: one(1, DynamicValue),
      private: one(2, 'bytes'),
      diagnostics: diagnostics(3),
      new_identity: one(5, ResourceIdentityData),
    }),
  },
  ImportResourceState: {
    request: message('ImportResourceState.Request', {
      type_name: one(1, 'string'),
      id: one(2, 'string'),
      client_capabilities: one(3, ClientCapabilities),
      identity: one(4, ResourceIdentityData),
    }),
    response: message('ImportResourceState.Response', {
      imported_resources: repeated(
        1,
        message('ImportResourceState.ImportedResource', {
          type_name: one(1, 'string'),
          state: one(2, DynamicValue),
          private: one(3, 'bytes'),
          identity: one(4, ResourceIdentityData),
        }),
      ),
      diagnostics: diagnostics(2),
      deferred: one(3, Deferred),
    }),
  },
  MoveResourceState: {
    request: message('MoveResourceState.Request', {
      source_provider_address: one(1, 'string'),
      source_type_name: one(2, 'string'),
      source_schema_version: one(3, 'int'),
      source_state: one(4, RawState),
      target_type_name: one(5, 'string'),
      source_private: one(6, 'bytes'),
      source_identity: one(7, RawState),
      source_identity_schema_version: one(8, 'int'),
    }),
    response: message('MoveResourceState.Response', {
      target_state: one(1, DynamicValue),
      diagnostics: diagnostics(2),
      target_private: one(3, 'bytes'),
      target_identity: one(4, ResourceIdentityData),
    }),
  },
  ReadDataSource: {
    request: message('ReadDataSource.Request', {
      type_name: one(1, 'string'),
      config: one(2, DynamicValue),
      client_capabilities: one(4, ClientCapabilities),
    }),
    response: message('ReadDataSource.Response', {
      state: one(1, DynamicValue),
      diagnostics: diagnostics(2),
      deferred: one(3, Deferred),
    }),
  },
  OpenEphemeralResource: {
    request: message('OpenEphemeralResource.Request', {
      type_name: one(1, 'string'),
      config: one(2, DynamicValue),
      client_capabilities: one(3, ClientCapabilities),
    }),
    response: message('OpenEphemeralResource.Response', {
      diagnostics: diagnostics(1),
      renew_at: one(2, Timestamp),
      result: one(3, DynamicValue),
      private: optional(4, 'bytes'),
      deferred: one(5, Deferred),
    }),
  },
  RenewEphemeralResource: {
    request: message('RenewEphemeralResource.Request', {
      type_name: one(1, 'string'),
      private: optional(2, 'bytes'),
    }),
    response: message('RenewEphemeralResource.Response', {
      diagnostics: diagnostics(1),
      renew_at: one(2, Timestamp),
      private: optional(3, 'bytes'),
    }),
  },
  CloseEphemeralResource: {
    request: message('CloseEphemeralResource.Request', {
      type_name: one(1, 'string'),
      private: optional(2, 'bytes'),
    }),
    response: message('CloseEphemeralResource.Response', { diagnostics: diagnostics(1) }),
  },
  GetFunctions: {
    request: message('GetFunctions.Request', {}),
    response: message('GetFunctions.Response', { functions: map(1, FunctionSignature), diagnostics: diagnostics(2) }),
  },
  CallFunction: {
    request: message('CallFunction.Request', {
      name: one(1, 'string'),
      arguments: repeated(2, DynamicValue),
    }),
    response: message('CallFunction.Response', {
      result: one(1, DynamicValue),
      error: one(2, FunctionError),
    }),
  },
  StopProvider: {
    request: message('StopProvider.Request', {}),
    response: message('StopProvider.Response', { Error: one(1, 'string') }),
  },
} satisfies Record<string, { request: MessageType<Fields>; response: MessageType<Fields> }>;

export type Rpc = keyof typeof RPCS;
export type Request<R extends Rpc> = Decoded<(typeof RPCS)[R]['request']>;
export type Response<R extends Rpc> = Encodable<(typeof RPCS)[R]['response']>;
