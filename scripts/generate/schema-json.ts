/** Generates the provider's schema in the format of `terraform providers schema -json`, without Terraform. */
import type { Attribute, Attributes } from '../../provider/framework/attributes.ts';
import { isComputed, isOptional, type Timeouts, timeoutsAttribute } from '../../provider/framework/schema.ts';
import type { Lazy } from '../../provider/framework/types.ts';
import { provider } from '../../provider/provider.ts';

interface Definition {
  readonly description: string;
  readonly attributes: Attributes;
  readonly version?: number;
  readonly timeouts?: Timeouts;
}

/** A schema block in Terraform's JSON format. */
export interface Block {
  readonly version: number;
  readonly block: {
    readonly attributes: Readonly<Record<string, unknown>>;
    readonly description?: string;
    readonly description_kind: 'markdown' | 'plain';
  };
}

/** Removes false values, as Terraform does. */
const flags = (attr: Attribute) => ({
  ...(attr.required && { required: true }),
  ...(isOptional(attr) && { optional: true }),
  ...(isComputed(attr) && { computed: true }),
  ...(attr.sensitive && { sensitive: true }),
  ...(attr.writeOnly && { write_only: true }),
  ...(attr.deprecated !== undefined && { deprecated: true }),
});

const attributesJson = (attributes: Attributes): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(attributes)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, attr]) => [
        name,
        {
          ...(attr.kind === 'plain'
            ? { type: attr.type }
            : { nested_type: { attributes: attributesJson(attr.attributes), nesting_mode: attr.nesting } }),
          description: attr.description,
          description_kind: 'markdown',
          ...flags(attr),
        },
      ]),
  );

/** Returns all attributes that users see, including those of the framework. */
export const allAttributes = ({ attributes, timeouts }: Definition): Attributes => ({
  ...attributes,
  ...(timeouts && { timeouts: timeoutsAttribute(timeouts) }),
});

const blockOf = (definition: Definition): Block => ({
  version: definition.version ?? 0,
  block: {
    attributes: attributesJson(allAttributes(definition)),
    description: definition.description,
    description_kind: 'markdown',
  },
});

/** Loads a definition that may be lazy. */
export const load = async <T>(definition: Lazy<T>): Promise<T> =>
  typeof definition === 'function' ? (definition as () => Promise<T>)() : definition;

/** Loads all definitions. Returns them with their names. */
export async function loadAll<T>(definitions: Readonly<Record<string, Lazy<T>>> = {}): Promise<[string, T][]> {
  return Promise.all(
    Object.entries(definitions).map(async ([name, definition]): Promise<[string, T]> => [name, await load(definition)]),
  );
}

/** Returns the schema of the whole provider. */
export async function schemaJson() {
  const blocks = async (definitions: Readonly<Record<string, Lazy<Definition>>> | undefined) =>
    Object.fromEntries(
      (await loadAll(definitions)).map(([name, definition]) => [`${provider.name}_${name}`, blockOf(definition)]),
    );
  return {
    format_version: '1.0',
    provider_schemas: {
      [provider.address]: {
        provider: blockOf({ description: provider.description, attributes: provider.attributes }),
        resource_schemas: await blocks(provider.resources as Readonly<Record<string, Lazy<Definition>>>),
        data_source_schemas: await blocks(provider.dataSources as Readonly<Record<string, Lazy<Definition>>>),
        ephemeral_resource_schemas: await blocks(provider.ephemeral as Readonly<Record<string, Lazy<Definition>>>),
      },
    },
  };
}
