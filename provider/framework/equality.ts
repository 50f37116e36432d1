/** Comparison of values: for identity, with sets in any order, and for the meaning that attributes define. */
import { equalNumbers } from '../protocol/number.ts';
import { isList, isObject, typeOf, typeText } from '../protocol/types.ts';
import { Decimal, Dynamic, isWhollyKnown, type Type, UNKNOWN, type Value } from '../protocol/values.ts';
import type { Attribute, Attributes, NestedAttribute } from './attributes.ts';
import { attributeType, isConfigurable } from './schema.ts';

/** Returns true if two values of a type are identical. Unknown equals unknown: nothing about it has changed. */
export function equalValues(type: Type, a: Value, b: Value): boolean {
  if (a === b) return true;
  if (a === null || b === null || a === UNKNOWN || b === UNKNOWN) return false;
  if (type === 'dynamic') {
    const [x, y] = [dynamic(a), dynamic(b)];
    return typeText(x.type) === typeText(y.type) && equalValues(x.type, x.value, y.value);
  }
  if (type === 'number') return isNumber(a) && isNumber(b) && equalNumbers(a, b);
  if (typeof type === 'string') return false;
  if (type[0] === 'list') {
    return isList(a) && isList(b) && a.length === b.length && a.every((e, i) => equalValues(type[1], e, b[i] ?? null));
  }
  if (type[0] === 'tuple') {
    return isList(a) && isList(b) && type[1].every((element, i) => equalValues(element, a[i] ?? null, b[i] ?? null));
  }
  if (type[0] === 'set') {
    return isList(a) && isList(b) && sameElements(a, b, (x, y) => equalValues(type[1], x, y));
  }
  if (!isObject(a) || !isObject(b)) return false;
  if (type[0] === 'map') {
    const keys = Object.keys(a);
    return (
      keys.length === Object.keys(b).length &&
      keys.every((key) => Object.hasOwn(b, key) && equalValues(type[1], a[key] ?? null, b[key] ?? null))
    );
  }
  return Object.entries(type[1]).every(([name, member]) => equalValues(member, a[name] ?? null, b[name] ?? null));
}

function dynamic(value: Value): Dynamic {
  return value instanceof Dynamic ? value : new Dynamic(typeOf(value), value);
}

function isNumber(value: Value): value is number | bigint | Decimal {
  return typeof value === 'number' || typeof value === 'bigint' || value instanceof Decimal;
}

/** Returns true if `x` can be `y`: with the same spelling, or with any spelling of the same meaning. */
export type Compatible = (x: Value, y: Value, spelling: 'same' | 'any') => boolean;

/**
 * Pairs each element of `a` with a different, compatible element of `b`, as many as possible. Returns the indexes in `b`;
 * undefined for elements without a partner. An element that fits several others must not take the only partner of its
 * neighbour, so this is maximum bipartite matching (Kuhn's algorithm, by augmenting paths). The pairs with the same
 * spelling come first: else an element of the same meaning could take the place of such an element, and the set would
 * contain one element twice.
 */
export function pairElements(a: readonly Value[], b: readonly Value[], compatible: Compatible): (number | undefined)[] {
  const holder: (number | undefined)[] = b.map(() => undefined);
  const paired = new Set<number>();
  const fits = (i: number, j: number) => compatible(a[i] ?? null, b[j] ?? null, 'any');
  const claim = (i: number, tried: Set<number>): boolean => {
    // In most cases an element is free. Only otherwise do other pairs need to change.
    let j = holder.findIndex((current, k) => current === undefined && fits(i, k));
    if (j === -1) {
      j = holder.findIndex((current, k) => {
        if (current === undefined || tried.has(k) || !fits(i, k)) return false;
        tried.add(k);
        return claim(current, tried);
      });
    }
    if (j === -1) return false;
    holder[j] = i;
    return true;
  };
  a.forEach((element, i) => {
    const j = holder.findIndex((current, k) => current === undefined && compatible(element, b[k] ?? null, 'same'));
    if (j === -1) return;
    holder[j] = i;
    paired.add(i);
  });
  for (let i = 0; i < a.length; i++) if (!paired.has(i)) claim(i, new Set());
  const pairs: (number | undefined)[] = a.map(() => undefined);
  holder.forEach((i, j) => {
    if (i !== undefined) pairs[i] = j;
  });
  return pairs;
}

/** Returns true if two lists hold the same elements in any order. */
function sameElements(a: readonly Value[], b: readonly Value[], same: (x: Value, y: Value) => boolean): boolean {
  return (
    a.length === b.length &&
    !pairElements(a, b, (x, y, spelling) => spelling === 'any' && same(x, y)).includes(undefined)
  );
}

/** The comparisons of two values of an attribute: for identity, or for the same meaning. */
const compare = {
  same: (attr: Attribute, a: Value, b: Value) => equalValues(attributeType(attr), a, b),
  any: sameMeaning,
};

/** Returns true if two known values of an attribute mean the same, by its own `equal` and those of the attributes in it. */
export function sameMeaning(attr: Attribute, a: Value, b: Value): boolean {
  if (a === null || b === null || a === UNKNOWN || b === UNKNOWN) return a === b;
  if (equalValues(attributeType(attr), a, b)) return true;
  if (isWhollyKnown(a) && isWhollyKnown(b) && attr.equal?.(a, b)) return true;
  return attr.kind === 'nested' && sameNested(attr, a, b, (x, y) => sameObject(attr.attributes, x, y));
}

/** Compares the objects of two nested attributes: by position, by key, or in any order. */
function sameNested(attr: NestedAttribute, a: Value, b: Value, same: (x: Value, y: Value) => boolean): boolean {
  if (attr.nesting === 'single') return same(a, b);
  if (attr.nesting === 'map') {
    if (!isObject(a) || !isObject(b)) return a === b;
    const keys = Object.keys(a);
    return (
      keys.length === Object.keys(b).length &&
      keys.every((key) => Object.hasOwn(b, key) && same(a[key] ?? null, b[key] ?? null))
    );
  }
  if (!isList(a) || !isList(b)) return a === b;
  if (a.length !== b.length) return false;
  if (attr.nesting === 'list') return a.every((element, index) => same(element, b[index] ?? null));
  return sameElements(a, b, same);
}

function sameObject(attributes: Attributes, a: Value, b: Value): boolean {
  if (!isObject(a) || !isObject(b)) return a === b;
  return Object.entries(attributes).every(([name, attr]) => sameMeaning(attr, a[name] ?? null, b[name] ?? null));
}

/**
 * Returns true if an object in a configured set is the object in the state: all configured attributes have the same
 * meaning. An attribute without a configured value is the provider's if it is computed, and null otherwise.
 */
export function matchesConfigured(
  attributes: Attributes,
  configured: Value,
  prior: Value,
  spelling: 'same' | 'any' = 'any',
): boolean {
  if (!isObject(configured) || !isObject(prior)) return configured === prior;
  return Object.entries(attributes).every(([name, attr]) => {
    if (!isConfigurable(attr) || attr.writeOnly) return true;
    const before = prior[name] ?? null;
    const wanted = configured[name] ?? (attr.default as Value | undefined) ?? null;
    // The provider may choose this value. Elements with a configured value have precedence.
    if (wanted === null && attr.computed) return spelling === 'any' || before === null;
    if (compare[spelling](attr, wanted, before)) return true;
    if (attr.kind === 'plain' || wanted === null || before === null) return false;
    return sameNested(attr, wanted, before, (x, y) => matchesConfigured(attr.attributes, x, y, spelling));
  });
}

/** Returns true if an object fulfils its plan: all known planned values have the same meaning. */
export function fulfilsPlan(
  attributes: Attributes,
  planned: Value,
  actual: Value,
  spelling: 'same' | 'any' = 'any',
): boolean {
  if (!isObject(planned) || !isObject(actual)) return planned === UNKNOWN || planned === actual;
  return Object.entries(attributes).every(([name, attr]) => {
    const wanted = planned[name] ?? null;
    const given = actual[name] ?? null;
    if (attr.writeOnly || wanted === UNKNOWN || compare[spelling](attr, wanted, given)) return true;
    if (attr.kind === 'plain') return !isWhollyKnown(wanted);
    if (wanted === null || given === null || given === UNKNOWN) return false;
    return sameNested(attr, wanted, given, (x, y) => fulfilsPlan(attr.attributes, x, y, spelling));
  });
}
