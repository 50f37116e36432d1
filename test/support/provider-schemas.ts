/** Random schemas, configurations for them, and random answers of an API. */
import fc from 'fast-check';
import { type Attribute, type Attributes, attribute } from '../../provider/framework/attributes.ts';
import { attributeType, isConfigurable, isOptional } from '../../provider/framework/schema.ts';
import { Decimal, Dynamic, type Type, UNKNOWN, type Value, type Values } from '../../provider/protocol/values.ts';

type Options = Parameters<typeof attribute.string>[0];

/** The types of plain attributes. A set cannot contain a dynamic type. */
const TYPES: readonly Type[] = [
  'string',
  'number',
  'bool',
  ['list', 'string'],
  ['set', 'string'],
  ['set', 'number'],
  ['map', 'string'],
  ['object', { text: 'string', counts: ['list', 'number'] }],
  ['map', ['set', 'string']],
];

const leaves: Readonly<Record<'string' | 'number' | 'bool', fc.Arbitrary<Value>>> = {
  // For some attributes, `equal` ignores the case of letters.
  string: fc.constantFrom('a', 'b', 'A', 'B'),
  number: fc.constantFrom<Value>(0, 1.5, -3, 2n ** 70n, new Decimal('0.1234567890123456789012345')),
  bool: fc.boolean(),
};
/** Keys of maps. Terraform allows names of members that every JavaScript object has. */
const key = fc.constantFrom('k', 'l', '__proto__', 'constructor');

function dictionary(value: fc.Arbitrary<Value>): fc.Arbitrary<Value> {
  return fc.uniqueArray(fc.tuple(key, value), { maxLength: 2, selector: ([k]) => k }).map(Object.fromEntries);
}

/** Returns a text that differs for different elements of a set. Elements may contain sets, so lists are sorted too. */
function distinct(value: Value): string {
  const sorted = (v: Value): Value => {
    if (Array.isArray(v)) return (v as Value[]).map(sorted).sort((a, b) => (words(a) < words(b) ? -1 : 1));
    if (v === null || typeof v !== 'object' || v instanceof Decimal) return v;
    return Object.fromEntries(Object.entries(v as Values).map(([k, inner]) => [k, sorted(inner)]));
  };
  return words(sorted(value));
}

function words(value: Value): string {
  return JSON.stringify(value, (_k, v: unknown) => (typeof v === 'bigint' || typeof v === 'symbol' ? String(v) : v));
}

/** Returns a random value of a type. The value or its parts may be unknown. */
function valueArbitrary(type: Type, unknown: boolean): fc.Arbitrary<Value> {
  const known = (): fc.Arbitrary<Value> => {
    if (type === 'dynamic') {
      // A null with a type differs from a null without one.
      const typed = fc.constantFrom<Type>('string', ['tuple', ['bool']], ['object', { a: 'number' }]);
      return typed.chain((inner) =>
        fc
          .oneof({ arbitrary: valueArbitrary(inner, unknown), weight: 4 }, { arbitrary: fc.constant(null), weight: 1 })
          .map((value) => new Dynamic(inner, value)),
      );
    }
    if (typeof type === 'string') return leaves[type];
    if (type[0] === 'map') return dictionary(valueArbitrary(type[1], unknown));
    if (type[0] === 'list') return fc.array(valueArbitrary(type[1], unknown), { maxLength: 3 });
    if (type[0] === 'set')
      return fc.uniqueArray(valueArbitrary(type[1], unknown), { maxLength: 3, selector: distinct });
    if (type[0] === 'tuple') return fc.tuple(...type[1].map((inner) => valueArbitrary(inner, unknown)));
    return fc.record(Object.fromEntries(Object.entries(type[1]).map(([k, v]) => [k, valueArbitrary(v, unknown)])), {
      noNullPrototype: true,
    });
  };
  if (!unknown) return known();
  return fc.oneof<fc.WeightedArbitrary<Value>[]>(
    { arbitrary: known(), weight: 6 },
    { arbitrary: fc.constant<Value>(UNKNOWN), weight: 1 },
  );
}

/** The sources of an attribute's value. Attributes in sets have fewer sources. */
function options(inSet: boolean, standard: fc.Arbitrary<Value>, foldable: boolean): fc.Arbitrary<Options> {
  const base = { description: 'x' };
  return fc
    .record({
      way: fc.constantFrom('required', 'optional', 'computed', 'optional-computed', 'default', 'write-only'),
      volatile: fc.boolean(),
      replace: fc.constantFrom(undefined, true, 'if-configured' as const),
      fold: fc.boolean(),
      standard,
    })
    .map(({ way, volatile, replace, fold, standard }): Options => {
      const shared = {
        ...base,
        ...(fold && foldable && { equal: (a: unknown, b: unknown) => foldCase(a) === foldCase(b) }),
        ...(replace !== undefined && !inSet && { requiresReplace: replace }),
      };
      if (way === 'required') return { ...shared, required: true };
      if (way === 'optional' || (way === 'write-only' && inSet)) return { ...shared, optional: true };
      if (way === 'write-only') return { ...base, optional: true, writeOnly: true };
      if (way === 'default') return { ...shared, default: standard as string };
      return {
        ...shared,
        computed: true,
        ...(way === 'optional-computed' && { optional: true }),
        ...(volatile && { volatile }),
      };
    });
}

function foldCase(value: unknown): string {
  return words(value as Value).toLowerCase();
}

function attributeArbitrary(depth: number, inSet: boolean): fc.Arbitrary<Attribute> {
  const types = inSet ? TYPES : [...TYPES, 'dynamic' as const];
  const leaf = fc.constantFrom(...types).chain((type) => {
    const foldable = ['string', '["list","string"]', '["map","string"]'].includes(
      JSON.stringify(type).replace(/^"|"$/g, ''),
    );
    return options(inSet, valueArbitrary(type, false), foldable).map(
      (o): Attribute => ({ ...(o as Omit<Attribute, 'kind'>), kind: 'plain', type }) as Attribute,
    );
  });
  if (depth === 0) return leaf;
  const nested = fc.constantFrom('single', 'nestedList', 'nestedSet', 'nestedMap').chain((nesting) =>
    attributesArbitrary(depth - 1, inSet || nesting === 'nestedSet').chain((inner) => {
      const bare = attribute[nesting as 'single'](inner, { description: 'x', optional: true });
      // A default is a value that a configuration could contain.
      const standard = bare.kind === 'nested' ? nestedValue(bare, configArbitrary(inner, false)) : fc.constant(null);
      return options(inSet || nesting === 'nestedSet', standard, false).map((o): Attribute => {
        const { equal: _equal, ...usable } = o;
        return attribute[nesting as 'single'](inner, usable as object as Parameters<typeof attribute.single>[1]);
      });
    }),
  );
  return fc.oneof({ arbitrary: leaf, weight: 3 }, { arbitrary: nested, weight: 2 });
}

export function attributesArbitrary(depth: number, inSet = false): fc.Arbitrary<Attributes> {
  return fc
    .array(attributeArbitrary(depth, inSet), { minLength: 1, maxLength: 4 })
    .map((list) => Object.fromEntries(list.map((attr, index) => [`a${index}`, attr])));
}

function nestedValue(attr: Attribute & { kind: 'nested' }, object: fc.Arbitrary<Values>): fc.Arbitrary<Value> {
  if (attr.nesting === 'single') return object;
  if (attr.nesting === 'map') return dictionary(object);
  if (attr.nesting === 'list') return fc.array(object, { maxLength: 3 });
  return fc.uniqueArray(object, { maxLength: 3, selector: distinct });
}

/** Returns a configuration that Terraform accepts: required attributes are set, computed ones are not. */
export function configArbitrary(attributes: Attributes, unknown: boolean): fc.Arbitrary<Values> {
  const names = Object.keys(attributes);
  return fc
    .tuple(
      ...Object.values(attributes).map((attr): fc.Arbitrary<Value> => {
        if (!isConfigurable(attr)) return fc.constant<Value>(null);
        const value =
          attr.kind === 'plain'
            ? valueArbitrary(attr.type, unknown)
            : nestedValue(attr, configArbitrary(attr.attributes, unknown));
        return attr.required ? value : fc.option(value, { nil: null });
      }),
    )
    .map((values) => Object.fromEntries(names.map((name, index) => [name, values[index] ?? null])));
}

/** Returns a plain value in upper case, if the attribute ignores the case. */
function shout(value: Value): Value {
  if (typeof value === 'string') return value.toUpperCase();
  if (Array.isArray(value)) return (value as Value[]).map(shout);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value as Values).map(([k, inner]) => [k, shout(inner)]));
}

/** Returns an equal configuration with other spellings, for attributes with several spellings. */
export function respell(attributes: Attributes, config: Values): Values {
  const value = (attr: Attribute, v: Value): Value => {
    if (v === null || v === UNKNOWN) return v;
    if (attr.kind === 'plain') {
      if (attr.equal) return shout(v);
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

/** Returns the values of an API for a plan. The API chooses the unknown values, and `salt` changes its choices. */
export function applyPlan(attributes: Attributes, planned: Values, salt: string): Values {
  const within = (type: Type, v: Value): Value => {
    if (v === UNKNOWN) return choose(type);
    if (v === null || typeof type === 'string')
      return v instanceof Dynamic ? new Dynamic(v.type, within(v.type, v.value)) : v;
    if (type[0] === 'tuple') return type[1].map((inner, i) => within(inner, (v as Value[])[i] ?? null));
    if (Array.isArray(v)) return (v as Value[]).map((inner) => within(type[1] as Type, inner));
    const member = (name: string): Type => (type[0] === 'object' ? (type[1][name] ?? 'dynamic') : (type[1] as Type));
    return Object.fromEntries(Object.entries(v as Values).map(([name, inner]) => [name, within(member(name), inner)]));
  };
  const choose = (type: Type): Value => {
    if (type === 'string') return `chosen ${salt}`;
    if (type === 'number') return Number(salt) + 0.25;
    if (type === 'bool') return true;
    if (type === 'dynamic') return new Dynamic('string', `chosen ${salt}`);
    if (type[0] === 'map') return { chosen: choose(type[1]) };
    if (type[0] === 'tuple') return type[1].map(choose);
    if (type[0] === 'object') {
      return Object.fromEntries(Object.entries(type[1]).map(([name, inner]) => [name, choose(inner)]));
    }
    return [choose(type[1])];
  };
  const value = (attr: Attribute, v: Value): Value => {
    if (attr.writeOnly) return null;
    if (v === null) return null;
    if (attr.kind === 'plain') return within(attr.type, v);
    const object = (o: Value) => applyPlan(attr.attributes, o as Values, salt);
    const whole = v === UNKNOWN ? choose(attributeType(attr)) : v;
    if (attr.nesting === 'single') return object(whole);
    if (attr.nesting === 'map') {
      return Object.fromEntries(Object.entries(whole as Values).map(([k, o]) => [k, object(o)]));
    }
    return (whole as Value[]).map(object);
  };
  return Object.fromEntries(
    Object.entries(attributes).map(([name, attr]) => [name, value(attr, planned[name] ?? null)]),
  );
}

/** Returns the features of a schema, so that a test can check that random schemas cover all features. */
export function shapes(attributes: Attributes, within = ''): string[] {
  return Object.values(attributes).flatMap((attr): string[] => {
    const kind =
      attr.kind === 'plain' ? `plain ${typeof attr.type === 'string' ? attr.type : attr.type[0]}` : attr.nesting;
    const way = attr.writeOnly
      ? 'write-only'
      : attr.required
        ? 'required'
        : attr.default !== undefined
          ? 'default'
          : attr.computed
            ? isOptional(attr)
              ? 'optional and computed'
              : 'computed'
            : 'optional';
    const place = within && `in ${within}: `;
    return [
      `${place}${way} ${kind}`,
      ...(attr.volatile ? [`${place}volatile`] : []),
      ...(attr.equal ? [`${place}equal`] : []),
      ...(attr.requiresReplace ? [`${place}replace ${attr.requiresReplace}`] : []),
      ...(attr.kind === 'nested' ? shapes(attr.attributes, attr.nesting) : []),
    ];
  });
}
