/** Terraform's rules for plans and states, checked with random schemas and configurations. */
import fc from 'fast-check';
import t from 'tap';
import { DiagnosticList } from '../../provider/framework/diagnostics.ts';
import { equalValues, pairElements } from '../../provider/framework/equality.ts';
import { type Attribute, type Attributes, attribute } from '../../provider/framework/index.ts';
import {
  contradictions,
  equalObjects,
  markVolatile,
  planObject,
  replacementPaths,
} from '../../provider/framework/plan.ts';
import { attributeType, checkAttributes, isComputed, objectType } from '../../provider/framework/schema.ts';
import { overlay, withoutUnknowns, withoutWriteOnly } from '../../provider/framework/state.ts';
import { decodeValue, encodeValue } from '../../provider/protocol/msgpack.ts';
import {
  Dynamic,
  isNull,
  isWhollyKnown,
  type Type,
  UNKNOWN,
  type Value,
  type Values,
} from '../../provider/protocol/values.ts';
import { applyPlan, attributesArbitrary, configArbitrary, respell, shapes } from '../support/provider-schemas.ts';

/**
 * An independent copy of Terraform's rule for plans. With a configured value, the planned value is that value or the prior
 * one. Without a configured value, a computed attribute may have any planned value.
 */
function assertPlanObeys(
  attributes: Attributes,
  planned: Values,
  config: Values,
  prior: Values | null,
  where = '',
): void {
  for (const [name, attr] of Object.entries(attributes)) {
    assertValueObeys(attr, planned[name] ?? null, config[name] ?? null, prior?.[name] ?? null, `${where}.${name}`);
  }
}

/** Returns true if a known set in a value contains an element twice, because Terraform would then see a smaller set. */
function holdsOneTwice(type: Type, value: Value): boolean {
  if (type[0] !== 'set' || !Array.isArray(value) || !isWhollyKnown(value)) return false;
  const elements: readonly Value[] = value;
  return elements.some((x, i) => elements.some((y, j) => j < i && equalValues(type[1] as Type, x, y)));
}

/** A configured set with defaults, as if nothing had been there before: those may make two elements the same. */
function alone(attr: Attribute, config: Value): Value {
  const given = isNull(config) ? ((attr.default as Value | undefined) ?? null) : config;
  if (attr.kind === 'plain' || !Array.isArray(given)) return given;
  const elements: readonly Value[] = given;
  return elements.map((element) => withoutUnknowns(planObject(attr.attributes, element as Values, null)));
}

function assertValueObeys(attr: Attribute, planned: Value, config: Value, prior: Value, where: string): void {
  const type = attributeType(attr);
  if (attr.writeOnly) {
    if (planned !== null) throw new Error(`${where}: a write-only value is planned`);
    return;
  }
  if (holdsOneTwice(type, planned) && !holdsOneTwice(type, alone(attr, config)) && !holdsOneTwice(type, prior))
    throw new Error(`${where}: a set is planned that holds one element twice`);
  if (equalValues(type, planned, config)) return;
  if (isNull(config)) {
    if (!isComputed(attr)) throw new Error(`${where}: a value is planned that nobody configured`);
    return;
  }
  if (prior !== null && equalValues(type, planned, prior)) return;
  if (attr.kind === 'plain' || config === UNKNOWN)
    throw new Error(`${where}: another value is planned than configured`);
  const object = (p: Value, c: Value, b: Value, at: string) =>
    assertPlanObeys(attr.attributes, p as Values, c as Values, b as Values | null, at);
  if (attr.nesting === 'single') {
    object(planned, config, prior, where);
  } else if (attr.nesting === 'map') {
    const [p, c] = [planned as Values, config as Values];
    if (Object.keys(p).sort().join() !== Object.keys(c).sort().join()) throw new Error(`${where}: other keys`);
    for (const key of Object.keys(c)) {
      object(p[key] ?? null, c[key] ?? null, (prior as Values | null)?.[key] ?? null, `${where}.${key}`);
    }
  } else {
    const [p, c, b] = [planned as Value[], config as Value[], (prior ?? []) as Value[]];
    if (p.length !== c.length) throw new Error(`${where}: another number of elements`);
    c.forEach((element, i) => {
      // An element of a set may have come from any prior one, or from none.
      const candidates: Value[] = attr.nesting === 'list' ? [b[i] ?? null] : [null, ...b];
      const fits = candidates.some((candidate) => {
        try {
          object(p[i] ?? null, element, candidate, `${where}.${i}`);
          return true;
        } catch (error) {
          if (attr.nesting === 'list') throw error;
          return false;
        }
      });
      if (!fits) throw new Error(`${where}.${i}: an element is planned that nobody configured`);
    });
  }
}

/** Terraform's rule for the result of an apply: all values that the plan knew are as planned. */
function assertCompatible(attributes: Attributes, planned: Values, actual: Values, where: string): void {
  for (const [name, attr] of Object.entries(attributes)) {
    assertValueCompatible(attr, planned[name] ?? null, actual[name] ?? null, `${where}.${name}`);
  }
}

function assertValueCompatible(attr: Attribute, planned: Value, actual: Value, where: string): void {
  if (planned === UNKNOWN || equalValues(attributeType(attr), planned, actual)) return;
  const fail = () => new Error(`${where}: is not as planned`);
  if (planned === null || actual === null || isWhollyKnown(planned)) throw fail();
  if (attr.kind === 'plain') return; // an unknown element: which one became what is not for this test to find out
  const object = (p: Value, a: Value, at: string) => assertCompatible(attr.attributes, p as Values, a as Values, at);
  if (attr.nesting === 'single') {
    object(planned, actual, where);
  } else if (attr.nesting === 'map') {
    const [p, a] = [planned as Values, actual as Values];
    if (Object.keys(p).sort().join() !== Object.keys(a).sort().join()) throw fail();
    for (const key of Object.keys(p)) object(p[key] ?? null, a[key] ?? null, `${where}.${key}`);
  } else {
    const [p, a] = [planned as Value[], actual as Value[]];
    if (p.length !== a.length) throw fail();
    const fits = (x: Value, y: Value) => {
      try {
        object(x, y, where);
        return true;
      } catch {
        return false;
      }
    };
    // As Terraform does: each planned element must correlate with some actual one.
    if (
      attr.nesting === 'list' ? !p.every((x, i) => fits(x, a[i] ?? null)) : !p.every((x) => a.some((y) => fits(x, y)))
    ) {
      throw fail();
    }
  }
}

/** The framework's two passes without a modifyPlan. */
function plan(attributes: Attributes, config: Values, prior: Values | null): Values {
  const first = planObject(attributes, config, prior);
  if (prior === null || equalObjects(attributes, first, prior)) return first;
  return markVolatile(attributes, first, config, prior);
}

const schemaAndConfigs = (unknown: boolean) =>
  attributesArbitrary(2).chain((attributes) =>
    fc.record({
      attributes: fc.constant(attributes),
      first: configArbitrary(attributes, unknown),
      second: configArbitrary(attributes, unknown),
    }),
  );

t.test('plans for random schemas', async (t) => {
  fc.assert(
    fc.property(schemaAndConfigs(true), ({ attributes, first, second }) => {
      checkAttributes('resource', attributes, 'x');
      const created = plan(attributes, first, null);
      assertPlanObeys(attributes, created, first, null);
      const prior = applyPlan(attributes, created, '1');
      const updated = plan(attributes, second, prior);
      assertPlanObeys(attributes, updated, second, prior);
      const type = objectType(attributes);
      return equalValues(type, decodeValue(type, encodeValue(type, updated)), updated);
    }),
    { numRuns: 500 },
  );
  t.pass('what is planned is what is configured');

  fc.assert(
    fc.property(schemaAndConfigs(false), ({ attributes, first, second }) => {
      const prior = applyPlan(attributes, plan(attributes, first, null), '1');
      const same = (config: Values, state: Values) => equalObjects(attributes, plan(attributes, config, state), state);
      if (!same(first, prior)) throw new Error('the second plan is not empty');
      if (!same(respell(attributes, first), prior)) throw new Error('the plan for another spelling is not empty');
      const updated = applyPlan(attributes, plan(attributes, second, prior), '2');
      if (!same(second, updated)) throw new Error('the plan after an update is not empty');
    }),
    { numRuns: 500 },
  );
  t.pass('a plan after an apply is empty, in whatever spelling');

  fc.assert(
    fc.property(schemaAndConfigs(false), ({ attributes, first, second }) => {
      const prior = applyPlan(attributes, plan(attributes, first, null), '1');
      const updated = plan(attributes, second, prior);
      const changed = !equalObjects(attributes, updated, prior);
      for (const [name, attr] of Object.entries(attributes)) {
        if (!attr.volatile || !isNull(second[name] ?? null)) continue;
        if ((updated[name] === UNKNOWN) !== changed) throw new Error(`${name}: volatile, changed ${changed}`);
      }
      const paths = replacementPaths(attributes, updated, second, prior);
      for (const path of paths) if (path.length === 0) throw new Error('an empty path');
      if (!changed && paths.length > 0) throw new Error('replaced without a change');
      for (const [name, attr] of Object.entries(attributes)) {
        const differs = !equalValues(attributeType(attr), updated[name] ?? null, prior[name] ?? null);
        const listed = paths.some((path) => path.length === 1 && path[0] === name);
        if (attr.requiresReplace === true && differs !== listed) throw new Error(`${name}: replace ${listed}`);
      }
    }),
    { numRuns: 500 },
  );
  t.pass(
    'volatile values are unknown exactly when something changes, and replacements are demanded where they must be',
  );

  fc.assert(
    fc.property(schemaAndConfigs(false), ({ attributes, first }) => {
      // The API answers in a spelling and an order of its own.
      const planned = applyPlan(attributes, plan(attributes, first, null), '1');
      const diagnostics = new DiagnosticList();
      const state = overlay(attributes, planned, respell(attributes, planned), diagnostics);
      return diagnostics.list.length === 0 && equalObjects(attributes, state, planned);
    }),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(schemaAndConfigs(true), ({ attributes, first, second }) => {
      const created = plan(attributes, first, null);
      const prior = applyPlan(attributes, created, '1');
      const updated = plan(attributes, second, prior);
      for (const planned of [created, updated]) {
        const answer = respell(attributes, applyPlan(attributes, planned, '2'));
        assertCompatible(attributes, planned, overlay(attributes, planned, answer, new DiagnosticList()), 'state');
      }
    }),
    { numRuns: 500 },
  );
  t.pass('the state keeps the spelling of the plan');
});

t.test('random schemas have every shape that there is', async (t) => {
  const seen = new Map<string, number>();
  for (const attributes of fc.sample(attributesArbitrary(2), { numRuns: 2000, seed: 1 })) {
    for (const shape of shapes(attributes)) seen.set(shape, (seen.get(shape) ?? 0) + 1);
  }
  const ways = ['required', 'optional', 'computed', 'optional and computed', 'default', 'write-only'];
  const kinds = [
    ...['string', 'number', 'bool', 'list', 'set', 'map', 'object', 'dynamic'].map((kind) => `plain ${kind}`),
    ...['single', 'list', 'set', 'map'],
  ];
  const rules = ['volatile', 'equal', 'replace true', 'replace if-configured'];
  const wanted = ['', 'in single: ', 'in list: ', 'in map: ', 'in set: '].flatMap((place) => [
    ...ways.flatMap((way) => kinds.map((kind) => `${place}${way} ${kind}`)),
    ...rules.map((rule) => `${place}${rule}`),
  ]);
  // Terraform or the framework does not allow these inside sets.
  const forbidden = /^in set: (write-only|replace|.*dynamic)|write-only set$/;
  t.same(
    wanted.filter((shape) => !seen.has(shape) && !forbidden.test(shape)),
    [],
  );
  t.same(
    [...seen.keys()].filter((shape) => forbidden.test(shape)),
    [],
  );
});

t.test('where meanings, spellings, defaults and places meet', async (t) => {
  const d = { description: 'x' };
  const fold = (a: string, b: string) => a.toLowerCase() === b.toLowerCase();
  const inSet = {
    kind: attribute.string({ ...d, required: true, equal: fold }),
    id: attribute.string({ ...d, computed: true }),
  };
  const parts: Attributes = { parts: attribute.nestedSet(inSet, { ...d, optional: true }) };
  const one = (kind: string, id: Value = null): Values => ({ kind, id });
  t.same(
    planObject(parts, { parts: [one('A'), one('a')] }, { parts: [one('a', '1')] }),
    { parts: [one('A', UNKNOWN), one('a', '1')] },
    'an element keeps its place against another one that only means the same',
  );
  const named: Attributes = {
    s: attribute.nestedSet({ n: attribute.string({ ...d, optional: true, computed: true }) }, { ...d, optional: true }),
  };
  t.same(
    planObject(named, { s: [{ n: null }, { n: 'a' }] }, { s: [{ n: 'a' }] }),
    { s: [{ n: UNKNOWN }, { n: 'a' }] },
    'and against one that leaves the choice to the provider',
  );
  t.same(
    planObject(
      parts,
      { parts: [UNKNOWN, one('B'), { kind: UNKNOWN, id: null }] },
      { parts: [one('b', '1'), one('c', '2')] },
    ),
    { parts: [UNKNOWN, one('b', '1'), { kind: UNKNOWN, id: UNKNOWN }] },
    'elements that are not known yet take the place of none',
  );
  const answer = { parts: [one('c', '3'), one('a', '2'), one('A', '1')] };
  const state = overlay(
    parts,
    { parts: [one('A', UNKNOWN), one('a', UNKNOWN), one('C', UNKNOWN)] },
    answer,
    new DiagnosticList(),
  );
  t.same(state, { parts: [one('C', '3'), one('a', '2'), one('A', '1')] }, 'what an API answers, too');
  t.same(
    pairElements(['x', 'y'], ['y', 'x'], (x, y) => x === y),
    [1, 0],
  );

  const listed: Attributes = {
    slots: attribute.nestedList(
      {
        label: attribute.string({ ...d, required: true, equal: fold }),
        code: attribute.string({ ...d, computed: true }),
      },
      { ...d, optional: true },
    ),
  };
  const slot = (label: string, code: Value = null): Values => ({ label, code });
  const prior = { slots: [slot('a', '1'), slot('b', '2'), slot('c', '3')] };
  const planned = (...slots: Value[]) => planObject(listed, { slots }, prior).slots;
  t.same(planned(slot('A'), slot('b'), slot('c')), prior.slots);
  t.same(
    planned(slot('z'), slot('A'), slot('b'), slot('c')),
    [slot('z', UNKNOWN), slot('A', UNKNOWN), slot('b', UNKNOWN), slot('c', UNKNOWN)],
    'elements that another one was put before may have kept what they had, or not',
  );
  t.same(planned(slot('b'), slot('c')), [slot('b', UNKNOWN), slot('c', UNKNOWN)], 'and so those before which one went');
  t.same(
    planned(slot('a'), slot('x'), slot('c')),
    [slot('a', '1'), slot('x', '2'), slot('c', '3')],
    'one that is changed in its place is still itself',
  );
  t.same(planned(slot('c'), slot('b'), slot('a')), [slot('c', UNKNOWN), slot('b', '2'), slot('a', UNKNOWN)]);
  t.same(planned(slot('a'), slot('b'), slot('c'), slot('d')), [...prior.slots, slot('d', UNKNOWN)]);
  t.same(planned(UNKNOWN, slot('b')), [UNKNOWN, slot('b', '2')]);

  const keyed: Attributes = {
    m: attribute.nestedMap({ v: attribute.string({ ...d, computed: true, volatile: true }) }, { ...d, optional: true }),
  };
  const map = Object.fromEntries([['__proto__', { v: null }]]);
  const made = planObject(keyed, { m: map }, { m: {} });
  t.same(Object.entries(markVolatile(keyed, made, { m: map }, { m: {} }).m as Values), [['__proto__', { v: UNKNOWN }]]);

  const any: Attributes = {
    any: attribute.dynamic({ ...d, optional: true, computed: true }),
    only: attribute.dynamic({ ...d, optional: true }),
  };
  const nothing = new Dynamic('string', null);
  t.same(
    planObject(any, { any: nothing, only: nothing }, null),
    { any: UNKNOWN, only: nothing },
    'a null that has a type is a null',
  );
  t.ok(equalValues('dynamic', { a: 1, b: 2 }, { b: 2, a: 1 }), 'the order of members says nothing');

  const secrets: Attributes = {
    token: attribute.string({ ...d, optional: true, writeOnly: true }),
    logins: attribute.nestedMap(
      {
        secret: attribute.string({ ...d, optional: true, writeOnly: true }),
        user: attribute.string({ ...d, required: true }),
      },
      { ...d, optional: true },
    ),
    whole: attribute.single(
      { secret: attribute.string({ ...d, optional: true }) },
      { ...d, optional: true, writeOnly: true },
    ),
  };
  const open = { token: 's', logins: { k: { secret: 's', user: 'u' } }, whole: { secret: 's' } };
  const closed = { token: null, logins: { k: { secret: null, user: 'u' } }, whole: null };
  t.same(planObject(secrets, open, null), closed);
  t.same(withoutWriteOnly(secrets, open), closed);
  t.same(
    overlay(secrets, closed, open, new DiagnosticList()),
    closed,
    'a handler that returns secrets does not put them into the state',
  );
  t.same(contradictions(secrets, open, open, null), [['token'], ['logins', 'k', 'secret'], ['whole']]);
});
