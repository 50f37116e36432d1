/** Converts the result of a handler to the state that Terraform stores. */
import { decodeValue, encodeValue } from '../protocol/msgpack.ts';
import { isList, isObject } from '../protocol/types.ts';
import { ValueError } from '../protocol/value-error.ts';
import { isWhollyKnown, UNKNOWN, type Value, type Values } from '../protocol/values.ts';
import type { Attribute, Attributes } from './attributes.ts';
import type { AttributePath, Diagnostics } from './diagnostics.ts';
import { fulfilsPlan, pairElements, sameMeaning } from './equality.ts';
import { pathText } from './paths.ts';
import { attributeType } from './schema.ts';

/** Returns an object whose attributes are all null. */
export function emptyObject(attributes: Attributes): Values {
  return Object.fromEntries(Object.keys(attributes).map((name) => [name, null]));
}

/** Returns a copy that shares no list or object with the original. */
export function copyValue(value: Value): Value {
  if (isList(value)) return value.map(copyValue);
  if (isObject(value)) return copyObject(value);
  return value;
}

export function copyObject(values: Readonly<Values>): Values {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, copyValue(value)]));
}

/**
 * Merges the values that a handler returned into the base: the plan, or the state before. A value with the same meaning
 * keeps the spelling of the base. A value of a wrong type is a bug of the provider. It is reported, and all other values
 * are kept, because a lost state would be worse.
 */
export function overlay(attributes: Attributes, base: Values, returned: object, diagnostics: Diagnostics): Values {
  const given = conform(attributes, returned, base, 'returned', diagnostics);
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]) => [
      name,
      attr.writeOnly ? null : keepSpelling(attr, base[name] ?? null, given[name] ?? null),
    ]),
  );
}

/**
 * Returns the attributes that a handler made, each value in its normal form. A missing attribute, or one of a wrong type,
 * has the value of `base`. A wrong type is reported with the verb `done`.
 */
export function conform(
  attributes: Attributes,
  made: object,
  base: Values,
  done: 'returned' | 'planned',
  diagnostics: Diagnostics,
): Values {
  for (const name of Object.keys(made)) {
    if (Object.hasOwn(attributes, name)) continue;
    diagnostics.error(
      'Bug in the provider',
      `The provider ${done} an attribute "${name}", which the schema does not have.`,
    );
  }
  const given = made as Readonly<Record<string, Value | undefined>>;
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]) => {
      const before = base[name] ?? null;
      const value = Object.hasOwn(given, name) ? given[name] : undefined;
      if (value === undefined) return [name, before];
      try {
        const type = attributeType(attr);
        // Encoding checks the type, and decoding returns the normal form of the value.
        return [name, decodeValue(type, encodeValue(type, value))];
      } catch (error) {
        if (!(error instanceof ValueError)) throw error;
        const path = [name, ...error.path];
        diagnostics.error(
          'Bug in the provider',
          `The provider ${done} a wrong value for ${pathText(path)}: ${error.reason}.`,
          path,
        );
        return [name, before];
      }
    }),
  );
}

/** Returns the values with null for write-only attributes at every depth. */
export function withoutWriteOnly(attributes: Attributes, values: Readonly<Values>): Values {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]) => {
      const value = values[name] ?? null;
      if (attr.writeOnly) return [name, null];
      if (attr.kind === 'plain') return [name, value];
      const object = (element: Value) => (isObject(element) ? withoutWriteOnly(attr.attributes, element) : element);
      if (isList(value)) return [name, value.map(object)];
      if (attr.nesting === 'single' || !isObject(value)) return [name, object(value)];
      return [name, Object.fromEntries(Object.entries(value).map(([key, element]) => [key, object(element)]))];
    }),
  );
}

function keepSpelling(attr: Attribute, before: Value, value: Value): Value {
  if (sameMeaning(attr, before, value)) return before;
  if (attr.kind === 'plain' || value === null || value === UNKNOWN) return value;
  const into = (old: Value, fresh: Value): Value => {
    if (!isObject(fresh)) return fresh;
    return Object.fromEntries(
      Object.entries(attr.attributes).map(([name, inner]) => [
        name,
        inner.writeOnly ? null : keepSpelling(inner, isObject(old) ? (old[name] ?? null) : null, fresh[name] ?? null),
      ]),
    );
  };
  if (attr.nesting === 'single') return into(before, value);
  if (isList(value)) {
    const old = isList(before) ? before : [];
    if (attr.nesting === 'list') return value.map((element, index) => into(old[index] ?? null, element));
    const pairs = pairElements(value, old, (element, planned, spelling) =>
      fulfilsPlan(attr.attributes, planned, element, spelling),
    );
    return value.map((element, index) => {
      const pair = pairs[index];
      return into(pair === undefined ? null : (old[pair] ?? null), element);
    });
  }
  if (!isObject(value)) return value;
  const old = isObject(before) ? before : {};
  return Object.fromEntries(
    Object.entries(value).map(([key, element]) => [
      key,
      into(Object.hasOwn(old, key) ? (old[key] ?? null) : null, element),
    ]),
  );
}

/** Returns the paths of unknown values. */
export function unknownPaths(value: Value, path: AttributePath = []): AttributePath[] {
  if (value === UNKNOWN) return [path];
  if (isWhollyKnown(value)) return [];
  if (isList(value)) return value.flatMap((element, index) => unknownPaths(element, [...path, index]));
  if (isObject(value)) return Object.entries(value).flatMap(([key, member]) => unknownPaths(member, [...path, key]));
  return [path];
}

/** Returns the value with null for each unknown part, because a state must be wholly known. */
export function withoutUnknown(value: Value): Value {
  if (value === UNKNOWN) return null;
  if (isWhollyKnown(value)) return value;
  if (isList(value)) return value.map(withoutUnknown);
  if (isObject(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutUnknown(member)]));
  }
  return null;
}

export function withoutUnknowns(values: Values): Values {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, withoutUnknown(value)]));
}
