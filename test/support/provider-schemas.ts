/** Random schemas, configurations for them, and what an API might make of a plan. */
import fc from 'fast-check';
import { type Attribute, type Attributes, attribute } from '../../provider/framework/attributes.ts';
import { isConfigurable } from '../../provider/framework/schema.ts';
import { UNKNOWN, type Value, type Values } from '../../provider/protocol/values.ts';

/** Strings that differ only in case mean the same to attributes whose `equal` says so. */
const text = fc.constantFrom('a', 'b', 'A', 'B');
const foldCase = (a: unknown, b: unknown) => JSON.stringify(a).toLowerCase() === JSON.stringify(b).toLowerCase();

type Options = Parameters<typeof attribute.string>[0];

/** How an attribute gets its value; inside sets fewer ways are allowed. */
function options(inSet: boolean): fc.Arbitrary<Options> {
  const base = { description: 'x' };
  return fc
    .record({
      way: fc.constantFrom('required', 'optional', 'computed', 'optional-computed', 'default', 'write-only'),
      volatile: fc.boolean(),
      replace: fc.constantFrom(undefined, true, 'if-configured' as const),
      fold: fc.boolean(),
    })
    .map(({ way, volatile, replace, fold }): Options => {
      const shared = {
        ...base,
        ...(fold && { equal: foldCase }),
        ...(replace !== undefined && !inSet && { requiresReplace: replace }),
      };
      if (way === 'required') return { ...shared, required: true };
      if (way === 'optional' || (way === 'write-only' && inSet)) return { ...shared, optional: true };
      if (way === 'write-only') return { ...base, optional: true, writeOnly: true };
      if (way === 'default') return { ...shared, default: 'a' };
      return {
        ...shared,
        computed: true,
        ...(way === 'optional-computed' && { optional: true }),
        ...(volatile && { volatile }),
      };
    });
}

function attributeArbitrary(depth: number, inSet: boolean): fc.Arbitrary<Attribute> {
  const leaf = options(inSet).chain((o) => {
    const { default: standard, ...rest } = o;
    if (standard !== undefined) return fc.constant<Attribute>(attribute.string(o));
    return fc.constantFrom<Attribute>(
      attribute.string(o),
      attribute.list('string', rest as object as Parameters<typeof attribute.list>[1]),
      attribute.set('string', rest as object as Parameters<typeof attribute.set>[1]),
      attribute.map('string', rest as object as Parameters<typeof attribute.map>[1]),
    );
  });
  if (depth === 0) return leaf;
  const nested = fc.constantFrom('single', 'nestedList', 'nestedSet', 'nestedMap').chain((nesting) =>
    fc
      .tuple(attributesArbitrary(depth - 1, inSet || nesting === 'nestedSet'), options(inSet))
      .map(([inner, { default: _default, writeOnly: _writeOnly, ...o }]): Attribute => {
        const usable = o.required || o.optional || o.computed ? o : { ...o, optional: true };
        return attribute[nesting as 'single'](inner, usable as object as Parameters<typeof attribute.single>[1]);
      }),
  );
  return fc.oneof({ arbitrary: leaf, weight: 3 }, { arbitrary: nested, weight: 2 });
}

export function attributesArbitrary(depth: number, inSet = false): fc.Arbitrary<Attributes> {
  return fc
    .array(attributeArbitrary(depth, inSet), { minLength: 1, maxLength: 4 })
    .map((list) => Object.fromEntries(list.map((attr, index) => [`a${index}`, attr])));
}

/** A value of a plain attribute; `unknown` may appear whole or within. */
function plainValue(attr: Attribute, unknown: boolean): fc.Arbitrary<Value> {
  const element: fc.Arbitrary<Value> = unknown
    ? fc.oneof<fc.WeightedArbitrary<Value>[]>(
        { arbitrary: text, weight: 5 },
        { arbitrary: fc.constant<Value>(UNKNOWN), weight: 1 },
      )
    : text;
  if (attr.kind === 'plain' && Array.isArray(attr.type)) {
    if (attr.type[0] === 'map') return fc.dictionary(fc.constantFrom('k', 'l'), element).map((d) => ({ ...d }));
    return attr.type[0] === 'set' ? fc.uniqueArray(element, { maxLength: 3 }) : fc.array(element, { maxLength: 3 });
  }
  return element;
}

function nestedValue(attr: Attribute & { kind: 'nested' }, object: fc.Arbitrary<Values>): fc.Arbitrary<Value> {
  if (attr.nesting === 'single') return object;
  if (attr.nesting === 'map') return fc.dictionary(fc.constantFrom('k', 'l'), object).map((d) => ({ ...d }));
  if (attr.nesting === 'list') return fc.array(object, { maxLength: 3 });
  return fc.uniqueArray(object, {
    maxLength: 3,
    selector: (o) => JSON.stringify(o, (_k, v) => (v === UNKNOWN ? '?' : v)),
  });
}

/** A configuration that Terraform would accept: required attributes are set, computed ones are not. */
export function configArbitrary(attributes: Attributes, unknown: boolean): fc.Arbitrary<Values> {
  const names = Object.keys(attributes);
  return fc
    .tuple(
      ...Object.values(attributes).map((attr): fc.Arbitrary<Value> => {
        if (!isConfigurable(attr)) return fc.constant<Value>(null);
        const value =
          attr.kind === 'plain'
            ? plainValue(attr, unknown)
            : nestedValue(attr, configArbitrary(attr.attributes, unknown));
        return attr.required ? value : fc.option(value, { nil: null });
      }),
    )
    .map((values) => Object.fromEntries(names.map((name, index) => [name, values[index] ?? null])));
}

/** The same configuration in other words, where attributes have several spellings for one meaning. */
export function respell(attributes: Attributes, config: Values): Values {
  const value = (attr: Attribute, v: Value): Value => {
    if (v === null || v === UNKNOWN) return v;
    if (attr.kind === 'plain') {
      if (attr.equal)
        return JSON.parse(JSON.stringify(v).toUpperCase().replaceAll('"K"', '"k"').replaceAll('"L"', '"l"')) as Value;
      return attr.type[0] === 'set' && Array.isArray(v) ? [...(v as Value[])].reverse() : v;
    }
    const object = (o: Value) => respell(attr.attributes, o as Values);
    if (attr.nesting === 'single') return object(v);
    if (attr.nesting === 'map') return Object.fromEntries(Object.entries(v as Values).map(([k, o]) => [k, object(o)]));
    const list = (v as Value[]).map(object);
    return attr.nesting === 'set' ? list.reverse() : list;
  };
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]) => [name, value(attr, config[name] ?? null)]),
  );
}

/** What an API returns for a plan: everything known, unknown values chosen by it. `salt` makes its choices differ. */
export function applyPlan(attributes: Attributes, planned: Values, salt: string): Values {
  const choose = (attr: Attribute): Value => {
    if (attr.kind === 'plain') {
      if (attr.type === 'string') return `chosen ${salt}`;
      return attr.type[0] === 'map' ? { chosen: salt } : [`chosen ${salt}`];
    }
    const object: Values = Object.fromEntries(
      Object.entries(attr.attributes).map(([name, inner]) => [name, inner.writeOnly ? null : choose(inner)]),
    );
    if (attr.nesting === 'single') return object;
    return attr.nesting === 'map' ? { k: object } : [object];
  };
  const within = (v: Value): Value => {
    if (v === UNKNOWN) return `resolved ${salt}`;
    if (Array.isArray(v)) return (v as Value[]).map(within);
    if (v !== null && typeof v === 'object') {
      return Object.fromEntries(Object.entries(v as Values).map(([k, inner]) => [k, within(inner)]));
    }
    return v;
  };
  const value = (attr: Attribute, v: Value): Value => {
    if (v === UNKNOWN) return choose(attr);
    if (v === null) return null;
    if (attr.kind === 'plain') return within(v);
    const object = (o: Value) => applyPlan(attr.attributes, o as Values, salt);
    if (attr.nesting === 'single') return object(v);
    if (attr.nesting === 'map') return Object.fromEntries(Object.entries(v as Values).map(([k, o]) => [k, object(o)]));
    return (v as Value[]).map(object);
  };
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]) => [name, value(attr, planned[name] ?? null)]),
  );
}
