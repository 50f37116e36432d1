/**
 * Plan rules. Terraform has these rules for a planned value:
 * - A plan contains each configured value, or the prior value if it has the same meaning.
 * - Without a configured value, only a computed attribute may have a value.
 * - After the apply, all values that the plan knew must be as planned.
 *
 * Users expect that a plan without a change in the configuration is empty. So a computed value stays as it is in an update.
 * A value that every update changes (`volatile`) becomes unknown only if another value changes. Otherwise each plan would
 * find a difference, apply it, and find it again.
 *
 * The functions here are pure; the provider's own `modifyPlan` runs between them (see server/plan.ts).
 */
import { isList, isObject } from '../protocol/types.ts';
import { isNull, isWhollyKnown, UNKNOWN, type Value, type Values } from '../protocol/values.ts';
import type { Attribute, Attributes, NestedAttribute } from './attributes.ts';
import type { AttributePath } from './diagnostics.ts';
import { equalValues, matchesConfigured, pairElements, sameMeaning } from './equality.ts';
import { attributeType, isComputed, objectType } from './schema.ts';

/** Returns the plan for an object. `prior` is null for a new object. */
export function planObject(attributes: Attributes, config: Values, prior: Values | null): Values {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]) => [
      name,
      planAttribute(attr, config[name] ?? null, prior === null ? null : (prior[name] ?? null), prior !== null),
    ]),
  );
}

function planAttribute(attr: Attribute, config: Value, prior: Value, exists: boolean): Value {
  if (attr.writeOnly) return null;
  if (isNull(config)) {
    if (attr.default !== undefined) return planValue(attr, attr.default as Value, prior);
    if (attr.computed) return exists ? prior : UNKNOWN;
    return config;
  }
  return planValue(attr, config, prior);
}

/** Returns the plan for an attribute with a configured or default value. */
function planValue(attr: Attribute, wanted: Value, prior: Value): Value {
  if (wanted === UNKNOWN || wanted === null) return wanted;
  if (prior !== null && isWhollyKnown(wanted) && sameMeaning(attr, wanted, prior)) return prior;
  if (attr.kind === 'plain') return wanted;
  return planNested(attr, wanted, prior);
}

/** Returns the value of a map at a key. Users choose the keys, which may be names of members of every JavaScript object. */
function member(map: { readonly [key: string]: Value }, key: string): Value {
  return Object.hasOwn(map, key) ? (map[key] ?? null) : null;
}

function planNested(attr: NestedAttribute, wanted: Value, prior: Value): Value {
  const element = (value: Value, before: Value): Value =>
    isObject(value) ? planObject(attr.attributes, value, isObject(before) ? before : null) : value;
  if (attr.nesting === 'single') return element(wanted, prior);
  if (attr.nesting === 'map') {
    if (!isObject(wanted)) return wanted;
    const before = isObject(prior) ? prior : {};
    return Object.fromEntries(Object.entries(wanted).map(([key, value]) => [key, element(value, member(before, key))]));
  }
  if (!isList(wanted)) return wanted;
  const before = isList(prior) ? prior : [];
  if (attr.nesting === 'list') {
    const places = keptPlaces(attr.attributes, wanted, before);
    return wanted.map((value, index) => element(value, places.has(index) ? (before[index] ?? null) : null));
  }
  // An element of a set has no name, so its configured values identify it.
  const pairs = pairElements(wanted, before, (value, candidate, spelling) =>
    matchesConfigured(attr.attributes, value, candidate, spelling),
  );
  return wanted.map((value, index) => {
    const pair = pairs[index];
    return element(value, pair === undefined ? null : (before[pair] ?? null));
  });
}

/**
 * Returns the indexes of a list at which the element is the same as before, unchanged or changed in place. After a move,
 * neither index counts: the computed values at an index may belong to the element or to the index.
 */
function keptPlaces(attributes: Attributes, wanted: readonly Value[], before: readonly Value[]): Set<number> {
  const same = (i: number, j: number) => matchesConfigured(attributes, wanted[i] ?? null, before[j] ?? null);
  const shared = [...before.keys()].slice(0, wanted.length);
  const still = new Set(shared.filter((i) => same(i, i)));
  for (const i of shared) {
    if (still.has(i)) continue;
    const came = before.some((_value, j) => !still.has(j) && same(i, j));
    const went = wanted.some((_value, j) => !still.has(j) && same(j, i));
    if (!came && !went) still.add(i);
  }
  return still;
}

/** Makes volatile attributes unknown, except those that the configuration or `modifyPlan` has set. */
export function markVolatile(attributes: Attributes, planned: Values, config: Values | null, prior: Values): Values {
  return mapVolatile(attributes, planned, config, prior, (attr, value, before) =>
    equalValues(attributeType(attr), value, before) ? UNKNOWN : value,
  );
}

/** Undoes `markVolatile`: unknown volatile attributes get their prior value again. */
export function restoreVolatile(attributes: Attributes, planned: Values, config: Values | null, prior: Values): Values {
  return mapVolatile(attributes, planned, config, prior, (_attr, value, before) =>
    value === UNKNOWN ? before : value,
  );
}

function mapVolatile(
  attributes: Attributes,
  planned: Values,
  config: Values | null,
  prior: Values,
  change: (attr: Attribute, value: Value, before: Value) => Value,
): Values {
  const into = (attr: NestedAttribute, value: Value, configured: Value, before: Value): Value =>
    isObject(value) && isObject(before)
      ? mapVolatile(attr.attributes, value, isObject(configured) ? configured : null, before, change)
      : value;
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]) => {
      const value = planned[name] ?? null;
      const before = prior[name] ?? null;
      const given = config?.[name] ?? null;
      // A default and its nested values count as configured.
      const configured = isNull(given) ? ((attr.default as Value | undefined) ?? null) : given;
      if (attr.volatile && isNull(configured)) return [name, change(attr, value, before)];
      if (attr.kind === 'plain' || value === null || value === UNKNOWN) return [name, value];
      if (attr.nesting === 'single') return [name, into(attr, value, configured, before)];
      if (attr.nesting === 'map' && isObject(value) && isObject(before)) {
        const keyed = isObject(configured) ? configured : {};
        return [
          name,
          Object.fromEntries(
            Object.entries(value).map(([key, element]) => [
              key,
              into(attr, element, member(keyed, key), member(before, key)),
            ]),
          ),
        ];
      }
      if (attr.nesting === 'list' && isList(value) && isList(before)) {
        const listed = isList(configured) ? configured : [];
        return [name, value.map((element, i) => into(attr, element, listed[i] ?? null, before[i] ?? null))];
      }
      // The values of an element identify it in a set, so an unknown value would make each element a new one.
      return [name, value];
    }),
  );
}

/** Returns the paths of attributes whose planned change replaces the object. */
export function replacementPaths(
  attributes: Attributes,
  planned: Values,
  config: Values | null,
  prior: Values,
  path: AttributePath = [],
): AttributePath[] {
  return Object.entries(attributes).flatMap(([name, attr]): AttributePath[] => {
    const value = planned[name] ?? null;
    const before = prior[name] ?? null;
    const configured = config?.[name] ?? null;
    const here = [...path, name];
    if (equalValues(attributeType(attr), value, before)) return [];
    if (attr.requiresReplace === true || (attr.requiresReplace === 'if-configured' && !isNull(configured)))
      return [here];
    if (attr.kind === 'plain') return [];
    const into = (v: Value, c: Value, b: Value, at: AttributePath): AttributePath[] =>
      isObject(v) && isObject(b) ? replacementPaths(attr.attributes, v, isObject(c) ? c : null, b, at) : [];
    if (attr.nesting === 'single') return into(value, configured, before, here);
    // A new or removed element is a change of the list or map itself. Here, only remaining elements count.
    if (attr.nesting === 'map' && isObject(value) && isObject(before)) {
      const keyed = isObject(configured) ? configured : {};
      return Object.keys(value).flatMap((key) =>
        Object.hasOwn(before, key)
          ? into(value[key] ?? null, member(keyed, key), before[key] ?? null, [...here, key])
          : [],
      );
    }
    if (attr.nesting === 'list' && isList(value) && isList(before)) {
      const listed = isList(configured) ? configured : [];
      return value.flatMap((element, i) => into(element, listed[i] ?? null, before[i] ?? null, [...here, i]));
    }
    return [];
  });
}

/** Returns the paths at which a planned object contradicts the configuration, due to mistakes in `modifyPlan`. */
export function contradictions(
  attributes: Attributes,
  planned: Values,
  config: Values,
  prior: Values | null,
  path: AttributePath = [],
): AttributePath[] {
  return Object.entries(attributes).flatMap(([name, attr]): AttributePath[] => {
    const value = planned[name] ?? null;
    const configured = config[name] ?? null;
    const before = prior?.[name] ?? null;
    const here = [...path, name];
    const type = attributeType(attr);
    if (attr.writeOnly) return value === null ? [] : [here];
    if (isNull(configured)) return isComputed(attr) || isNull(value) ? [] : [here];
    // A plain value that equals the configured one is right, unless it is write-only.
    if (configured === UNKNOWN || (attr.kind === 'plain' && equalValues(type, value, configured))) return [];
    if (before !== null && equalValues(type, value, before)) return [];
    if (attr.kind === 'plain') return [here];
    const into = (v: Value, c: Value, b: Value, at: AttributePath): AttributePath[] => {
      if (isObject(v) && isObject(c)) return contradictions(attr.attributes, v, c, isObject(b) ? b : null, at);
      return v === c || c === UNKNOWN ? [] : [at];
    };
    if (attr.nesting === 'single') return into(value, configured, before, here);
    if (attr.nesting === 'map') {
      if (!isObject(value) || !isObject(configured)) return [here];
      const keyed = isObject(before) ? before : {};
      if (Object.keys(value).length !== Object.keys(configured).length) return [here];
      return Object.keys(configured).flatMap((key) =>
        Object.hasOwn(value, key)
          ? into(value[key] ?? null, configured[key] ?? null, member(keyed, key), [...here, key])
          : [here],
      );
    }
    if (!isList(value) || !isList(configured) || value.length !== configured.length) return [here];
    // This check does not pair the elements of sets.
    if (attr.nesting === 'set') return [];
    const listed = isList(before) ? before : [];
    return configured.flatMap((c, i) => into(value[i] ?? null, c, listed[i] ?? null, [...here, i]));
  });
}

/** Returns true if two whole objects are identical. */
export function equalObjects(attributes: Attributes, a: Values, b: Values): boolean {
  return equalValues(objectType(attributes), a, b);
}
