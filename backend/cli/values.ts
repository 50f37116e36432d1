/**
 * The values of options. Text of the command line becomes a value of the contract, or an error that names the option
 * and the part at fault. No text is silently dropped, shortened or guessed.
 *
 *     list       a,b            [] for an empty one; \, is a comma in an item
 *     map        key=value,…    {} for an empty one; \, and \= are a comma and an equals sign, \\ is a backslash
 *     both       repeated options add entries; JSON is allowed too
 *     null       in an update: the default
 */
import { parseJson } from './json.ts';

/** The part of JSON Schema that options use. */
export interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly format?: string;
  readonly pattern?: string;
  readonly maxLength?: number;
  readonly anyOf?: readonly JsonSchema[];
  readonly properties?: Record<string, JsonSchema>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly 'x-reference'?: string;
  readonly 'x-rule'?: string;
}

/** Returns the flag of a field. */
export const flagOf = (field: string): string => `--${field.replaceAll('_', '-')}`;

/** Returns the schema without the `null` of an update. */
export const solid = (schema: JsonSchema): JsonSchema => schema.anyOf?.find(({ type }) => type !== 'null') ?? schema;

/** Tells whether the field accepts `null`. */
export const takesNull = (schema: JsonSchema): boolean => schema.anyOf?.some(({ type }) => type === 'null') ?? false;

/** Returns the text in quotes, shortened for one line. */
const quoted = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}…` : text);

/** Returns the parts between separators without a backslash before them. Backslashes stay for the next step. */
function split(text: string, separator: string, most = Number.POSITIVE_INFINITY): string[] {
  const parts = [''];
  for (let i = 0; i < text.length; i++) {
    const letter = text.charAt(i);
    if (letter === separator && parts.length < most) parts.push('');
    else parts[parts.length - 1] += letter === '\\' ? letter + text.charAt(++i) : letter;
  }
  return parts;
}

const unescaped = (text: string): string => text.replace(/\\([\\,=])/g, '$1');

/**
 * Parses an item. The value alone is sufficient if an item needs one field: `--interfaces web` means `[{"network":
 * "web"}]`.
 */
function itemOf(schema: JsonSchema, text: string, option: string): unknown {
  if (schema.type !== 'object') return parseScalar(schema, text, option);
  const [only, ...others] = schema.required ?? [];
  if (only === undefined || others.length > 0) {
    throw new Error(`${option}: ${quoted(text)} is not an item; write JSON: [{"…": …}]`);
  }
  return { [only]: text };
}

function json(text: string, option: string, form: 'list' | 'object'): unknown {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    const why = (error as Error).message;
    throw new Error(`${option}: ${quoted(text)} is not well-formed JSON: ${why}`, { cause: error });
  }
  if ((form === 'list') !== Array.isArray(value)) {
    throw new Error(`${option}: ${quoted(text)} is JSON, but not ${form === 'list' ? 'a list' : 'an object'}`);
  }
  return value;
}

const isJson = (text: string): boolean => /^\s*[[{]/.test(text);

function parseList(schema: JsonSchema, text: string, option: string): unknown[] {
  if (isJson(text)) return json(text, option, 'list') as unknown[];
  if (text.trim() === '') throw new Error(`${option}: is empty; [] is the empty list`);
  return split(text, ',').map((part) => {
    if (part === '') throw new Error(`${option}: ${quoted(text)} has an empty item`);
    return itemOf(schema.items ?? {}, unescaped(part), option);
  });
}

function parseMap(schema: JsonSchema, text: string, option: string): Record<string, unknown> {
  if (isJson(text)) return json(text, option, 'object') as Record<string, unknown>;
  if (text.trim() === '') throw new Error(`${option}: is empty; {} is the empty map`);
  const entries = split(text, ',').map((part): [string, unknown] => {
    const [key = '', ...rest] = split(part, '=', 2);
    const [value] = rest;
    if (value === undefined || key === '') throw new Error(`${option}: ${quoted(part)} must be key=value`);
    const name = unescaped(key);
    const { properties } = schema;
    const property = properties && Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (properties && !property) {
      throw new Error(`${option}: ${quoted(name)} is not one of ${Object.keys(properties).join(', ')}`);
    }
    return [name, property ? parseOne(property, unescaped(value), `${option}.${name}`) : unescaped(value)];
  });
  return merged([entries], option);
}

/** Returns all entries as an object. @throws Error if two entries have the same key */
function merged(parts: readonly (readonly (readonly [string, unknown])[])[], option: string): Record<string, unknown> {
  const all = new Map<string, unknown>();
  for (const [key, value] of parts.flat()) {
    if (all.has(key)) throw new Error(`${option}: ${quoted(key)} is given twice`);
    all.set(key, value);
  }
  return Object.fromEntries(all);
}

function parseScalar(schema: JsonSchema, text: string, option: string): unknown {
  const bad = (form: string) => new Error(`${option}: ${quoted(text)} is not ${form}`);
  switch (schema.type) {
    case 'integer': {
      if (!/^-?(0|[1-9][0-9]*)$/.test(text)) throw bad('a whole number');
      if (!Number.isSafeInteger(Number(text))) throw bad('a whole number that can be sent exactly');
      return Number(text);
    }
    case 'number': {
      if (!/^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/.test(text) || !Number.isFinite(Number(text))) {
        throw bad('a number');
      }
      return Number(text);
    }
    case 'boolean':
      if (text !== 'true' && text !== 'false') throw bad('true or false');
      return text === 'true';
    default:
      if (schema.enum && !schema.enum.includes(text)) throw bad(`one of ${schema.enum.join(', ')}`);
      return text;
  }
}

function parseOne(schema: JsonSchema, text: string, option: string): unknown {
  if (takesNull(schema) && text === 'null') return null;
  const inner = solid(schema);
  if (inner.type === 'array') return parseList(inner, text, option);
  if (inner.type === 'object') return parseMap(inner, text, option);
  return parseScalar(inner, text, option);
}

/**
 * Returns the value of a field. @param texts the texts of the option, one for each use @throws Error that names the
 * option
 */
export function parseValue(schema: JsonSchema, field: string, texts: readonly string[]): unknown {
  const option = flagOf(field);
  const [first, ...more] = texts;
  if (first === undefined) return undefined;
  if (more.length === 0) return parseOne(schema, first, option);
  const inner = solid(schema);
  if (inner.type !== 'array' && inner.type !== 'object') throw new Error(`${option}: is given ${texts.length} times`);
  const values = texts.map((text) => {
    const value = parseOne(schema, text, option);
    if (value === null) throw new Error(`${option}: null cannot be combined with further values of ${option}`);
    return value;
  });
  return inner.type === 'array'
    ? values.flat()
    : merged(
        values.map((value) => Object.entries(value as object)),
        option,
      );
}
