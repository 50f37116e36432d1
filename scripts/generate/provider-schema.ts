/** Generates provider/schema/resources.gen.ts and provider/schema/errors.gen.ts from openapi.yaml alone. */
import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import type { Field, Fields, ResourceSchema } from '../../provider/derive/fields.ts';
import { pluralOf } from '../../provider/derive/nouns.ts';
import { generatedBy, type Step } from './step.ts';

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly propertyNames?: Schema;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly default?: unknown;
  readonly readOnly?: boolean;
  readonly format?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly uniqueItems?: boolean;
  readonly [extension: `x-${string}`]: unknown;
}

interface Body {
  readonly content?: Readonly<Record<string, { readonly schema?: Schema }>>;
}
interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name?: string; readonly in?: string }[];
  readonly requestBody?: Body;
  readonly responses: Readonly<Record<string, Body>>;
}
/** The used parts of an OpenAPI document. */
export interface Document {
  readonly info: { readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly examples: Readonly<
      Record<
        string,
        {
          readonly summary: string;
          readonly description: string;
          readonly 'x-retryable': boolean;
          readonly value: unknown;
        }
      >
    >;
  };
}

/** Removes undefined values, so that the generated file contains only defined ones. */
const withoutUndefined = <T extends object>(object: T): T =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
const flag = (value: unknown): true | undefined => (value === true ? true : undefined);

function typeOf(schema: Schema, where: string): Field['type'] {
  switch (schema.type) {
    case 'string':
    case 'integer':
    case 'number':
    case 'boolean':
      return schema.type;
    case 'array':
      return 'list';
    case 'object':
      return schema.properties ? 'object' : 'map';
    default:
      throw new Error(`${where}: the provider knows no attribute for a schema of type ${schema.type}`);
  }
}

/** Returns the schema of a value, without the rules about who may set it. */
function valueSchema(schema: Schema, where: string): Field {
  const type = typeOf(schema, where);
  const values = typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined;
  const items = schema.items ?? (type === 'map' ? values : undefined);
  return withoutUndefined<Field>({
    type,
    description: schema.description ?? '',
    default: schema.default,
    immutable: flag(schema['x-immutable']),
    sensitive: flag(schema['x-sensitive']),
    volatile: flag(schema['x-volatile']),
    serverChosen: flag(schema['x-server-chosen']),
    atRestart: flag(schema['x-at-restart']),
    reference: schema['x-reference'] as string | undefined,
    foreign: flag(schema['x-foreign']),
    format: schema.format,
    enum: schema.enum,
    pattern: schema.pattern,
    rule: schema['x-rule'] as string | undefined,
    minimum: schema.minimum,
    maximum: schema.maximum,
    minLength: schema.minLength,
    maxLength: schema.maxLength,
    minItems: schema.minItems ?? schema.minProperties,
    maxItems: schema.maxItems ?? schema.maxProperties,
    unique: flag(schema.uniqueItems),
    items: items && items.type !== 'object' ? valueSchema(items, `${where}[]`) : undefined,
    keys: schema.propertyNames ? valueSchema({ type: 'string', ...schema.propertyNames }, `${where} keys`) : undefined,
  });
}

/** Returns the fields of an object: those of the response, with the rules of creation and update. */
function fieldsOf(item: Schema, create: Schema | undefined, update: Schema | undefined, where: string): Fields {
  const fields: Record<string, Field> = {};
  for (const [name, schema] of Object.entries(item.properties ?? {})) {
    if (schema['x-api-only'] === true) continue;
    const path = `${where}.${name}`;
    const creation = create?.properties?.[name];
    const nested = schema.type === 'array' ? schema.items : schema;
    const nestedCreation = creation?.type === 'array' ? creation.items : creation;
    fields[name] = withoutUndefined<Field>({
      ...valueSchema(creation ?? schema, path),
      immutable: flag(schema['x-immutable'] ?? creation?.['x-immutable']),
      create: creation ? (create?.required?.includes(name) ? 'required' : 'optional') : undefined,
      update: flag(update?.properties?.[name] !== undefined),
      always: flag(item.required?.includes(name)),
      fields: nested?.properties ? fieldsOf(nested, nestedCreation, undefined, path) : undefined,
    });
  }
  return fields;
}

/** Objects that the API removes after some days, so no configuration can refer to them. */
const shortLived: ReadonlySet<string> = new Set(['operation']);

/**
 * Returns the schemas of all objects that the provider offers.
 * @throws Error if the response of a `get` operation is not JSON
 */
export function resourceSchemas(document: Document): ResourceSchema[] {
  const component = (schema: Schema | undefined): Schema | undefined =>
    schema?.$ref ? document.components.schemas[schema.$ref.replace('#/components/schemas/', '')] : schema;
  const json = (body: Body | undefined): Schema | undefined => component(body?.content?.['application/json']?.schema);
  const operations = new Map<string, { readonly path: string; readonly operation: Operation }>();
  for (const [path, item] of Object.entries(document.paths)) {
    for (const operation of Object.values(item)) operations.set(operation.operationId, { path, operation });
  }
  const schemas: ResourceSchema[] = [];
  for (const [id, { operation: get }] of operations) {
    const noun = id.match(/^(.+)_get$/)?.[1];
    const list = noun && operations.get(`${noun}_list`);
    if (!noun || !list) continue;
    const item = json(get.responses['200']);
    if (!item) throw new Error(`${id} has no JSON response`);
    if (item['x-api-only'] === true) continue;
    const create = operations.get(`${noun}_create`)?.operation;
    const update = operations.get(`${noun}_update`)?.operation;
    const remove = operations.get(`${noun}_delete`)?.operation;
    if (shortLived.has(noun)) continue;
    const parameters = (list.operation.parameters ?? []).flatMap(({ name, in: place }) =>
      place === 'query' && name !== undefined ? [name] : [],
    );
    const fields = fieldsOf(item, json(create?.requestBody), json(update?.requestBody), noun);
    schemas.push({
      noun,
      path: list.path,
      description: item.description ?? '',
      creatable: create !== undefined,
      updatable: update !== undefined,
      deletesLater: remove?.responses['202'] !== undefined,
      findable: parameters.includes('name'),
      filters: parameters.filter((name) => fields[name]?.type === 'string'),
      fields,
    });
  }
  return schemas;
}

const named = (schemas: readonly ResourceSchema[], property: 'creatable' | 'findable'): string[] =>
  schemas.filter((schema) => schema[property]).map(({ noun }) => noun);

/** Reads openapi.yaml. */
export const readDocument = async (): Promise<Document> => parse(await readFile('openapi.yaml', 'utf8')) as Document;

/** Returns the fields of a capacity check that are a number of objects. */
const countedKinds = ({ components }: Document): readonly string[] =>
  Object.entries(components.schemas.CapacityCheck?.properties ?? {})
    .filter(([, { type }]) => type === 'integer')
    .map(([name]) => name);

export const providerSchema: Step = {
  name: 'provider schema',
  async generate() {
    const document = await readDocument();
    const schemas = resourceSchemas(document);
    const nouns = schemas.map(({ noun }) => `'${noun}'`).join(' | ');
    const errors = Object.entries(document.components.examples).map(([code, { summary, description, ...rest }]) => [
      code,
      { title: summary, action: description, retryable: rest['x-retryable'] },
    ]);
    return [
      {
        path: 'provider/schema/resources.gen.ts',
        content: `// ${generatedBy}
import type { ResourceSchema } from '../derive/fields.ts';

export const version = '${document.info.version}';
export type Noun = ${nouns};
/** The nouns with a create operation. */
export const creatable: readonly Noun[] = ${JSON.stringify(named(schemas, 'creatable'))};
/** The nouns that can be found by name. */
export const findable: readonly Noun[] = ${JSON.stringify(named(schemas, 'findable'))};

export const plurals: Readonly<Record<Noun, string>> = ${JSON.stringify(Object.fromEntries(schemas.map((schema) => [schema.noun, pluralOf(schema)])))};

/** The resources of which a capacity check counts only the number. */
export const countedKinds = ${JSON.stringify(countedKinds(document))} as const;

// The schemas are text, parsed on demand: Terraform starts the provider several times per command, and each run needs
// few of them.
const texts: Readonly<Record<Noun, string>> = {
${schemas.map((schema) => `  ${schema.noun}: ${JSON.stringify(JSON.stringify(schema))},`).join('\n')}
};
const parsed: Partial<Record<Noun, ResourceSchema>> = {};
export function schemaOf(noun: Noun): ResourceSchema {
  const schema = parsed[noun] ?? (JSON.parse(texts[noun]) as ResourceSchema);
  parsed[noun] = schema;
  return schema;
}
`,
        checkedIn: false,
      },
      {
        path: 'provider/schema/errors.gen.ts',
        content: `// ${generatedBy}
/** The API's errors, by code. */
export const errors: Readonly<Record<string, { readonly title: string; readonly action: string; readonly retryable: boolean }>> = ${JSON.stringify(
          Object.fromEntries(errors),
          undefined,
          1,
        )};
`,
        checkedIn: false,
      },
    ];
  },
};
