/**
 * Facts of Terraform's plugin protocol 6.9 from its published definition, independent of the tables of the provider:
 * https://developer.hashicorp.com/terraform/plugin/terraform-plugin-protocol
 *
 * Each line is a message: its name, then `number type name` of each field. Before a type, `+` means repeated, `?` optional,
 * and `%` a map from strings. `enum` and `int64` have the same encoding.
 */
const lines = `
DynamicValue: 1 bytes msgpack, 2 bytes json
Diagnostic: 1 enum severity, 2 string summary, 3 string detail, 4 AttributePath attribute
FunctionError: 1 string text, 2 ?int64 function_argument
AttributePath: 1 +AttributePath.Step steps
AttributePath.Step: 1 ?string attribute_name, 2 ?string element_key_string, 3 ?int64 element_key_int
RawState: 1 bytes json, 2 %string flatmap
Timestamp: 1 int64 seconds, 2 int64 nanos
ResourceIdentitySchema: 1 int64 version, 2 +ResourceIdentitySchema.IdentityAttribute identity_attributes
ResourceIdentitySchema.IdentityAttribute: 1 string name, 2 bytes type, 3 bool required_for_import, 4 bool optional_for_import, 5 string description
ResourceIdentityData: 1 DynamicValue identity_data
Schema: 1 int64 version, 2 Schema.Block block
Schema.Block: 1 int64 version, 2 +Schema.Attribute attributes, 3 +Schema.NestedBlock block_types, 4 string description, 5 enum description_kind, 6 bool deprecated
Schema.Attribute: 1 string name, 2 bytes type, 3 string description, 4 bool required, 5 bool optional, 6 bool computed, 7 bool sensitive, 8 enum description_kind, 9 bool deprecated, 10 Schema.Object nested_type, 11 bool write_only
Schema.Object: 1 +Schema.Attribute attributes, 3 enum nesting, 4 int64 min_items, 5 int64 max_items
Function: 1 +Function.Parameter parameters, 2 Function.Parameter variadic_parameter, 3 Function.Return return, 4 string summary, 5 string description, 6 enum description_kind, 7 string deprecation_message
Function.Parameter: 1 string name, 2 bytes type, 3 bool allow_null_value, 4 bool allow_unknown_values, 5 string description, 6 enum description_kind
Function.Return: 1 bytes type
ServerCapabilities: 1 bool plan_destroy, 2 bool get_provider_schema_optional, 3 bool move_resource_state
ClientCapabilities: 1 bool deferral_allowed, 2 bool write_only_attributes_allowed
Deferred: 1 enum reason
TypeMetadata: 1 string type_name
FunctionMetadata: 1 string name
GetMetadata.Request:
GetMetadata.Response: 1 ServerCapabilities server_capabilities, 2 +Diagnostic diagnostics, 3 +TypeMetadata data_sources, 4 +TypeMetadata resources, 5 +FunctionMetadata functions, 6 +TypeMetadata ephemeral_resources
GetProviderSchema.Request:
GetProviderSchema.Response: 1 Schema provider, 2 %Schema resource_schemas, 3 %Schema data_source_schemas, 4 +Diagnostic diagnostics, 5 Schema provider_meta, 6 ServerCapabilities server_capabilities, 7 %Function functions, 8 %Schema ephemeral_resource_schemas
GetResourceIdentitySchemas.Request:
GetResourceIdentitySchemas.Response: 1 %ResourceIdentitySchema identity_schemas, 2 +Diagnostic diagnostics
ValidateProviderConfig.Request: 1 DynamicValue config
ValidateProviderConfig.Response: 2 +Diagnostic diagnostics
ValidateResourceConfig.Request: 1 string type_name, 2 DynamicValue config, 3 ClientCapabilities client_capabilities
ValidateResourceConfig.Response: 1 +Diagnostic diagnostics
ValidateDataResourceConfig.Request: 1 string type_name, 2 DynamicValue config
ValidateDataResourceConfig.Response: 1 +Diagnostic diagnostics
ValidateEphemeralResourceConfig.Request: 1 string type_name, 2 DynamicValue config
ValidateEphemeralResourceConfig.Response: 1 +Diagnostic diagnostics
UpgradeResourceState.Request: 1 string type_name, 2 int64 version, 3 RawState raw_state
UpgradeResourceState.Response: 1 DynamicValue upgraded_state, 2 +Diagnostic diagnostics
UpgradeResourceIdentity.Request: 1 string type_name, 2 int64 version, 3 RawState raw_identity
UpgradeResourceIdentity.Response: 1 ResourceIdentityData upgraded_identity, 2 +Diagnostic diagnostics
ConfigureProvider.Request: 1 string terraform_version, 2 DynamicValue config, 3 ClientCapabilities client_capabilities
ConfigureProvider.Response: 1 +Diagnostic diagnostics
ReadResource.Request: 1 string type_name, 2 DynamicValue current_state, 3 bytes private, 4 DynamicValue provider_meta, 5 ClientCapabilities client_capabilities, 6 ResourceIdentityData current_identity
ReadResource.Response: 1 DynamicValue new_state, 2 +Diagnostic diagnostics, 3 bytes private, 4 Deferred deferred, 5 ResourceIdentityData new_identity
PlanResourceChange.Request: 1 string type_name, 2 DynamicValue prior_state, 3 DynamicValue proposed_new_state, 4 DynamicValue config, 5 bytes prior_private, 6 DynamicValue provider_meta, 7 ClientCapabilities client_capabilities, 8 ResourceIdentityData prior_identity
PlanResourceChange.Response: 1 DynamicValue planned_state, 2 +AttributePath requires_replace, 3 bytes planned_private, 4 +Diagnostic diagnostics, 5 bool legacy_type_system, 6 Deferred deferred, 7 ResourceIdentityData planned_identity
ApplyResourceChange.Request: 1 string type_name, 2 DynamicValue prior_state, 3 DynamicValue planned_state, 4 DynamicValue config, 5 bytes planned_private, 6 DynamicValue provider_meta, 7 ResourceIdentityData planned_identity
ApplyResourceChange.Response: 1 DynamicValue new_state, 2 bytes private, 3 +Diagnostic diagnostics, 4 bool legacy_type_system, 5 ResourceIdentityData new_identity
ImportResourceState.Request: 1 string type_name, 2 string id, 3 ClientCapabilities client_capabilities, 4 ResourceIdentityData identity
ImportResourceState.Response: 1 +ImportResourceState.ImportedResource imported_resources, 2 +Diagnostic diagnostics, 3 Deferred deferred
ImportResourceState.ImportedResource: 1 string type_name, 2 DynamicValue state, 3 bytes private, 4 ResourceIdentityData identity
MoveResourceState.Request: 1 string source_provider_address, 2 string source_type_name, 3 int64 source_schema_version, 4 RawState source_state, 5 string target_type_name, 6 bytes source_private, 7 RawState source_identity, 8 int64 source_identity_schema_version
MoveResourceState.Response: 1 DynamicValue target_state, 2 +Diagnostic diagnostics, 3 bytes target_private, 4 ResourceIdentityData target_identity
ReadDataSource.Request: 1 string type_name, 2 DynamicValue config, 3 DynamicValue provider_meta, 4 ClientCapabilities client_capabilities
ReadDataSource.Response: 1 DynamicValue state, 2 +Diagnostic diagnostics, 3 Deferred deferred
OpenEphemeralResource.Request: 1 string type_name, 2 DynamicValue config, 3 ClientCapabilities client_capabilities
OpenEphemeralResource.Response: 1 +Diagnostic diagnostics, 2 Timestamp renew_at, 3 DynamicValue result, 4 ?bytes private, 5 Deferred deferred
RenewEphemeralResource.Request: 1 string type_name, 2 ?bytes private
RenewEphemeralResource.Response: 1 +Diagnostic diagnostics, 2 Timestamp renew_at, 3 ?bytes private
CloseEphemeralResource.Request: 1 string type_name, 2 ?bytes private
CloseEphemeralResource.Response: 1 +Diagnostic diagnostics
GetFunctions.Request:
GetFunctions.Response: 1 %Function functions, 2 +Diagnostic diagnostics
CallFunction.Request: 1 string name, 2 +DynamicValue arguments
CallFunction.Response: 1 DynamicValue result, 2 FunctionError error
StopProvider.Request:
StopProvider.Response: 1 string Error
`;

export interface FieldFact {
  readonly number: number;
  readonly cardinality: 'one' | 'optional' | 'repeated' | 'map';
  /** A scalar of Protocol Buffers, `enum`, or the name of a message. */
  readonly type: string;
}

const cardinalities = { '+': 'repeated', '?': 'optional', '%': 'map' } as const;

function fieldFact(text: string): [string, FieldFact] {
  const [, number, mark = '', type = '', name = ''] = /^(\d+) ([+?%]?)([\w.]+) (\w+)$/.exec(text) ?? [];
  if (number === undefined) throw new Error(`not a field: ${text}`);
  const cardinality = cardinalities[mark as keyof typeof cardinalities] ?? 'one';
  return [name, { number: Number(number), cardinality, type }];
}

/** The fields of each message by name. */
export const protocolFacts: ReadonlyMap<string, ReadonlyMap<string, FieldFact>> = new Map(
  lines
    .trim()
    .split('\n')
    .map((line) => {
      const [name = '', fields = ''] = line.split(/: ?/);
      return [name, new Map(fields.split(', ').filter(Boolean).map(fieldFact))];
    }),
);

/** Calls of the service, from the messages. */
export const protocolCalls = [...protocolFacts.keys()]
  .filter((name) => name.endsWith('.Request'))
  .map((name) => name.slice(0, -'.Request'.length));

/** Fields that the provider neither reads nor sends. */
export const unusedFields: ReadonlySet<string> = new Set([
  'Schema.Block.block_types',
  'Schema.Object.min_items',
  'Schema.Object.max_items',
  'GetProviderSchema.Response.provider_meta',
  'ReadResource.Request.provider_meta',
  'PlanResourceChange.Request.provider_meta',
  'ApplyResourceChange.Request.provider_meta',
  'ReadDataSource.Request.provider_meta',
  'PlanResourceChange.Response.legacy_type_system',
  'ApplyResourceChange.Response.legacy_type_system',
]);
