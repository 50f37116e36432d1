/** Checks requests against the schemas of the contract, and reports each field at fault with its rule. */
import { type TSchema, Type } from '@sinclair/typebox';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import type { Endpoint } from '../../contract/endpoint.ts';
import { type FieldError, UcloudError } from '../../contract/errors.ts';
import { idPrefixes, type Noun } from '../../contract/fields.ts';
import { canonicalHeader } from '../../contract/openapi.ts';
import { formats } from '../../model/text/formats.ts';

const maxErrors = 20;

function newAjv(coerce: boolean): Ajv {
  const ajv = new Ajv({
    allErrors: true,
    verbose: true,
    useDefaults: true,
    coerceTypes: coerce,
    // The schemas contain extensions (`x-…`). The linter of openapi.yaml finds misspelt keywords.
    strict: false,
    // JavaScript reads a number such as 1e999 as Infinity, which JSON cannot express.
    strictNumbers: true,
    formats: Object.fromEntries(
      Object.entries(formats).map(([name, problem]) => [name, (text: string) => problem(text) === undefined]),
    ),
  });
  return ajv;
}
/** Query, path and headers arrive as text. Bodies have types of their own. */
const textual = newAjv(true);
const typed = newAjv(false);

const isNoun = (word: unknown): word is Noun => typeof word === 'string' && Object.hasOwn(idPrefixes, word);

const escapePointer = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1');

function rule(error: ErrorObject): string {
  const { keyword, params, parentSchema, data } = error;
  switch (keyword) {
    case 'required':
      return 'is required';
    case 'additionalProperties':
      return 'is not a field of this object';
    case 'enum':
      return `must be one of ${(params.allowedValues as unknown[]).join(', ')}`;
    case 'format':
      return (typeof data === 'string' && formats[params.format]?.(data)) || `must be of the format ${params.format}`;
    case 'pattern': {
      const noun: unknown = parentSchema?.['x-reference'];
      if (isNoun(noun)) {
        return `must be the id of a ${noun.replaceAll('_', ' ')}, such as ${idPrefixes[noun]}-0123456789abcdef`;
      }
      const words: unknown = parentSchema?.['x-rule'];
      return typeof words === 'string' ? `must be ${words}` : `must match ${params.pattern}`;
    }
    case 'propertyNames': {
      const words = (error.schema as Readonly<Record<string, unknown>> | undefined)?.['x-rule'];
      return typeof words === 'string' ? `is not a valid key: it must be ${words}` : 'is not a valid key';
    }
    case 'minProperties':
      return 'must have at least one field';
    case 'uniqueItems':
      return `must not contain the same item twice (items ${params.j} and ${params.i})`;
    default:
      return error.message ?? 'is not valid';
  }
}

function toFieldError(error: ErrorObject, base: string): FieldError {
  const { keyword, params, instancePath } = error;
  const name: unknown =
    keyword === 'required'
      ? params.missingProperty
      : keyword === 'additionalProperties'
        ? params.additionalProperty
        : keyword === 'propertyNames'
          ? params.propertyName
          : undefined;
  const path = typeof name === 'string' ? `${instancePath}/${escapePointer(name.slice(0, 100))}` : instancePath;
  return { pointer: base + (base === '#header' ? canonicalHeader(path) : path), detail: rule(error) };
}

/** Tells whether an error repeats another error of the same field, or only adds that null is allowed. */
const isNoise = (error: ErrorObject): boolean =>
  error.keyword === 'anyOf' ||
  (error.keyword === 'type' && error.params.type === 'null') ||
  (error.propertyName !== undefined && error.keyword !== 'propertyNames');

/**
 * Returns the pointer to a text that no field may contain: NUL ends strings in C, and UTF-8 cannot express halves of
 * surrogate pairs. The value is valid for a schema, so its depth is limited.
 */
function findUnstorable(value: unknown): string | undefined {
  if (typeof value === 'string') return value.includes('\0') || !value.isWellFormed() ? '' : undefined;
  if (value === null || typeof value !== 'object') return undefined;
  for (const [key, item] of Object.entries(value)) {
    const found = findUnstorable(item);
    if (found !== undefined) return `/${escapePointer(key)}${found}`;
  }
  return undefined;
}

/** At most as many digits as 2^53. Ajv reads longer numbers as Infinity and then skips the other rules. */
const decimal = /^(0|-?[1-9][0-9]{0,15})$/;

/**
 * Returns the fields that contain whole numbers as text. JavaScript also accepts `1e3` and `0x10`, which no client
 * means.
 */
const wholeFields = (schema: TSchema): readonly string[] =>
  Object.entries((schema.properties ?? {}) as Record<string, TSchema>).flatMap(([name, { type }]) =>
    type === 'integer' ? [name] : [],
  );

interface Part {
  readonly base: string;
  /** The fields that contain whole numbers as text. */
  readonly whole: readonly string[];
  readonly validate: ValidateFunction;
  readonly pick: (input: Input) => unknown;
}

/** The parts of a request that are checked. */
export interface Input {
  readonly params: unknown;
  readonly query: unknown;
  readonly headers: unknown;
  readonly body: unknown;
}

/**
 * Returns the check of an operation's requests. It fills in defaults and converts numbers in the query. @throws
 * UcloudError `invalid_input` with every field at fault
 */
export function validator(endpoint: Endpoint): (input: Input) => void {
  const parts: Part[] = [];
  const add = (base: string, schema: TSchema | undefined, pick: Part['pick']) => {
    if (schema === undefined) return;
    const text = base !== '';
    parts.push({
      base,
      whole: text ? wholeFields(schema) : [],
      validate: (text ? textual : typed).compile(schema),
      pick,
    });
  };
  add('#path', endpoint.params, (input) => input.params);
  add('#query', endpoint.query ?? noQuery, (input) => input.query);
  add('#header', endpoint.headers, (input) => input.headers);
  if (!endpoint.opaqueBody) add('', endpoint.body, (input) => input.body);

  return (input) => {
    const errors = new Map<string, FieldError>();
    const note = (error: FieldError) => {
      if (!errors.has(error.pointer) && errors.size < maxErrors) errors.set(error.pointer, error);
    };
    for (const { base, whole, validate, pick } of parts) {
      const value = pick(input);
      if (value === undefined && base === '' && endpoint.optionalBody) continue;
      for (const name of whole) {
        const text = (value as Readonly<Record<string, unknown>>)[name];
        if (typeof text === 'string' && !decimal.test(text)) {
          note({ pointer: `${base}/${name}`, detail: 'must be a whole number of at most 16 decimal digits' });
        }
      }
      if (validate(value)) {
        const unstorable = base === '#header' ? undefined : findUnstorable(value);
        if (unstorable !== undefined) {
          note({ pointer: base + unstorable, detail: 'must not contain NUL or unpaired surrogates' });
        }
        continue;
      }
      for (const error of validate.errors ?? []) if (!isNoise(error)) note(toFieldError(error, base));
    }
    if (errors.size > 0) throw invalidInput([...errors.values()]);
  };
}

/**
 * Returns the check of a body that the handler has read itself. Fields outside the schema are ignored. @throws
 * UcloudError `invalid_input`
 */
export function bodyChecker(schema: TSchema): (body: unknown) => void {
  const validate = typed.compile(schema);
  return (body) => {
    if (validate(body)) return;
    throw invalidInput((validate.errors ?? []).slice(0, maxErrors).map((error) => toFieldError(error, '')));
  };
}

const noQuery = Type.Object({}, { additionalProperties: false });

/** Returns the error of these fields. */
export function invalidInput(errors: readonly FieldError[]): UcloudError {
  return new UcloudError(
    'invalid_input',
    errors.map(({ pointer, detail }) => `${pointer || 'the body'} ${detail}`).join('; '),
    {
      errors,
    },
  );
}

/** Returns the error of one field that breaks a rule beyond the schema. */
export const fieldError = (
  code:
    | 'invalid_input'
    | 'invalid_reference'
    | 'rule_violated'
    | 'name_taken'
    | 'address_taken'
    | 'no_capacity'
    | 'billing_account_required'
    | 'unsupported_media_type',
  pointer: string,
  detail: string,
): UcloudError => new UcloudError(code, `${pointer || 'the body'} ${detail}`, { errors: [{ pointer, detail }] });
