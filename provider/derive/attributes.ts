/**
 * The attributes of a resource or data source, derived from the description of its fields in openapi.yaml:
 *
 *   field of the API                                   attribute
 *   required in a creation                             required
 *   optional, with a default                           optional, computed, planned with the default
 *   optional, in every answer                          optional, computed: the server chooses the value
 *   optional, a secret                                 optional, computed: the configuration that Terraform generates for
 *                                                      an import cannot contain it, so an omitted secret stays unchanged
 *   optional otherwise                                 optional
 *   not in a creation                                  computed
 *
 * An `x-immutable` field requires replacement, an `x-volatile` field is volatile, an `x-sensitive` field is sensitive. The
 * schema contains no `x-api-only` fields. Formats compare by meaning. A plan checks patterns, limits and enums.
 */
import { type Attribute, type Attributes, attribute, type Type, UNKNOWN } from '../framework/index.ts';
import { describe } from './describe.ts';
import { type Field, type Fields, isSet, type ResourceSchema } from './fields.ts';
import { nouns, nounWords, pluralOf } from './nouns.ts';
import { flawsOf, problemWith } from './rules.ts';
import { formats, sameMeaning } from './semantics.ts';

function typeOf(field: Field): Type {
  switch (field.type) {
    case 'string':
      return 'string';
    case 'boolean':
      return 'bool';
    case 'integer':
    case 'number':
      return 'number';
    case 'map':
      return ['map', field.items ? typeOf(field.items) : 'string'];
    case 'list':
      if (!field.items) throw new Error('a list of objects is a nested attribute');
      return [isSet(field) ? 'set' : 'list', typeOf(field.items)];
    case 'object':
      throw new Error('an object is a nested attribute');
  }
}

/** Says whether the configuration, the provider or both can set an attribute. */
type Source = Pick<Attribute, 'required' | 'optional' | 'computed' | 'default'>;

function sourceOf(field: Field): Source {
  if (field.create === 'required') return { required: true };
  if (field.create === undefined) return { computed: true };
  if (field.default !== undefined) return { optional: true, computed: true, default: field.default };
  return field.always || field.serverChosen || field.sensitive
    ? { optional: true, computed: true }
    : { optional: true };
}

/** Returns the comparison of two spellings of a value; undefined if only identical values are equal. */
function equality(field: Field): ((a: unknown, b: unknown) => boolean) | undefined {
  const format = formats[field.format ?? ''];
  if (format) return (a, b) => typeof a === 'string' && typeof b === 'string' && sameMeaning(format, a, b);
  const element = field.type === 'list' && field.items && !isSet(field) ? equality(field.items) : undefined;
  return (
    element &&
    ((a, b) =>
      Array.isArray(a) &&
      Array.isArray(b) &&
      a.length === b.length &&
      a.every((each, index) => element(each, b[index])))
  );
}

function attributeOf(field: Field, source: Source): Attribute {
  const equal = equality(field);
  const configurable = source.computed !== true || source.optional === true;
  const options = {
    description: describe(field, configurable),
    ...source,
    ...(configurable && { validate: (value: unknown) => flawsOf(field, value) }),
    ...(configurable && field.immutable && { requiresReplace: true }),
    ...(field.sensitive && { sensitive: true }),
    ...(field.volatile && { volatile: true }),
    ...(equal && { equal }),
  };
  if (field.fields) {
    const nested = attributesOf(field.fields, configurable ? sourceOf : () => ({ computed: true }));
    return field.type === 'list'
      ? attribute.nestedList(nested, options as never)
      : attribute.single(nested, options as never);
  }
  return { ...options, kind: 'plain', type: typeOf(field) } as Attribute;
}

function attributesOf(fields: Fields, decide: (field: Field, name: string) => Source): Attributes {
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [name, attributeOf(field, decide(field, name))]),
  );
}

/** Returns the attributes of a resource. Only top-level attributes force replacement, since nested values change with them. */
export function resourceAttributes(schema: ResourceSchema): Attributes {
  return attributesOf(fieldsForTerraform(schema), sourceOf);
}

/**
 * Returns the attributes of the data source that finds one object by id or by name, optionally in a project.
 * @param more further attributes that find an object
 */
export function dataSourceAttributes(schema: ResourceSchema, more: readonly string[] = []): Attributes {
  const given = new Set(['id', 'name', 'project', ...more]);
  return attributesOf(fieldsForTerraform(schema, true), (_field, name) => {
    if (name === 'id' && schema.fields.name === undefined && more.length === 0) return { required: true };
    return given.has(name) ? { optional: true, computed: true } : { computed: true };
  });
}

/** Returns the attributes of the data source that lists objects: the filters, and the objects with all their attributes. */
export function listDataSourceAttributes(schema: ResourceSchema): Attributes {
  const { fields, filters } = schema;
  const what = nouns(schema.noun);
  const filter = (name: string, field: Field | undefined) => {
    const of = field?.reference === undefined ? `of this ${nounWords(name)}` : `of the ${nounWords(name)} with this id`;
    const validate = (value: unknown) => field && problemWith(field, value);
    return attribute.string({ optional: true, description: `Only ${what} ${of}.`, validate });
  };
  return {
    ...(fields.labels && {
      selector: attribute.string({
        optional: true,
        description: `Only ${what} whose labels match, in the syntax of Kubernetes: \`env=prod,tier!=db,app in (a,b),!legacy\`.`,
      }),
    }),
    ...Object.fromEntries(filters.map((name) => [name, filter(name, fields[name])])),
    ids: attribute.list('string', { computed: true, description: 'Their ids, in the same order.' }),
    [pluralOf(schema)]: attribute.nestedList(
      attributesOf(schema.fields, () => ({ computed: true })),
      { computed: true, description: `The ${what}.` },
    ),
  };
}

/** Returns the fields with descriptions for users of Terraform: these have a provider block, and the API does not. */
function fieldsForTerraform(schema: ResourceSchema, data = false): Fields {
  const { project } = schema.fields;
  if (!project) return schema.fields;
  const description = data
    ? 'Id of the project of the object. If it is set, the data source looks for the name in this project only.'
    : project.description.replace(
        /^Default: the project of the token\./,
        'Id of the project of the object. Default: `project` of the provider, else the project of its token.',
      );
  return { ...schema.fields, project: { ...project, description } };
}

/** Returns a wholly known plan value for a request: only fields of a creation, and formats in their normal spelling. */
export function requestValue(field: Field, value: unknown): unknown {
  if (typeof value === 'string') return (field.format && formats[field.format]?.normal(value)) ?? value;
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) {
    const { fields, items } = field;
    if (fields) return value.map((element) => requestBody(fields, element as Readonly<Record<string, unknown>>));
    return items ? value.map((element) => requestValue(items, element)) : value;
  }
  if (field.fields) return requestBody(field.fields, value as Readonly<Record<string, unknown>>);
  return value;
}

/** Returns the body of a creation: the planned values, without those that the server chooses. */
export function requestBody(fields: Fields, planned: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(fields)) {
    const value = planned[name];
    if (field.create === undefined || value === null || value === undefined || value === UNKNOWN) continue;
    body[name] = requestValue(field, value);
  }
  return body;
}

/**
 * Returns the state for an answer of the API: the fields of the schema, and null for a missing field. The API shows some
 * secrets only once. Without such a secret in the answer, the state has no value for it, so the old one stays.
 */
export function stateOf(fields: Fields, answer: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const state: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(fields)) {
    const value = answer[name];
    const shownOnce = field.sensitive && field.create === undefined;
    if (value === undefined && shownOnce) continue;
    state[name] = value === undefined || value === null ? null : stateValue(field, value);
  }
  return state;
}

function stateValue({ fields }: Field, value: unknown): unknown {
  if (!fields) return value;
  if (Array.isArray(value)) return value.map((each) => stateOf(fields, each as Readonly<Record<string, unknown>>));
  return stateOf(fields, value as Readonly<Record<string, unknown>>);
}
