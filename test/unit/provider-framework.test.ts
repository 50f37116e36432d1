/** Plan rules for random schemas, and calls that go wrong in every way: the answer is a diagnostic, and the state stays. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { DiagnosticList } from '../../provider/framework/diagnostics.ts';
import { parseDuration } from '../../provider/framework/duration.ts';
import { equalValues, sameMeaning } from '../../provider/framework/equality.ts';
import {
  type Attribute,
  type Attributes,
  attribute,
  DiagnosticError,
  defineResource,
  type ProviderDefinition,
  reattach,
} from '../../provider/framework/index.ts';
import { createLogger, wantedLevel } from '../../provider/framework/logger.ts';
import { equalObjects, markVolatile, planObject, replacementPaths } from '../../provider/framework/plan.ts';
import { attributeType, checkAttributes, isComputed, objectType } from '../../provider/framework/schema.ts';
import { overlay } from '../../provider/framework/state.ts';
import { frame } from '../../provider/protocol/grpc.ts';
import { RPCS, type Rpc } from '../../provider/protocol/messages.ts';
import { decodeValue, encodeValue } from '../../provider/protocol/msgpack.ts';
import { isWhollyKnown, UNKNOWN, type Value, type Values } from '../../provider/protocol/values.ts';
import { encode, type Fields, type MessageType } from '../../provider/protocol/wire.ts';
import { CallFailed, PluginClient } from '../support/plugin-client.ts';
import { applyPlan, attributesArbitrary, configArbitrary, respell } from '../support/provider-schemas.ts';
import { Shelf, type StoredItem, shelfProvider } from '../terraform/fixtures/shelf.ts';

/**
 * Terraform's own rule for plans, written down independently: a planned value is the configured one, or the prior one
 * where something is configured, or anything where nothing is configured and the attribute is computed.
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

function assertValueObeys(attr: Attribute, planned: Value, config: Value, prior: Value, where: string): void {
  const type = attributeType(attr);
  if (attr.writeOnly) {
    if (planned !== null) throw new Error(`${where}: a write-only value is planned`);
    return;
  }
  if (equalValues(type, planned, config)) return;
  if (config === null) {
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

/** Terraform's own rule for what apply returns: all that was known in the plan is as it was planned. */
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
        if (!attr.volatile || (second[name] ?? null) !== null) continue;
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

t.test('equality, durations, logs and definitions', async (t) => {
  const names = attribute.set('string', { description: 'x', optional: true });
  t.ok(sameMeaning(names, ['a', 'b'], ['b', 'a']));
  t.notOk(sameMeaning(names, ['a', 'a'], ['a', 'b']), 'each element counts once');
  t.notOk(sameMeaning(names, [], null));

  for (const [text, ms] of Object.entries({ '90s': 90_000, '1h30m': 5_400_000, '250ms': 250, '1.5m': 90_000 })) {
    t.equal(parseDuration(text), ms, text);
  }
  for (const text of ['', '10', 's', '-5s', '0s', '1d', '5 m', '9999h', '1h-1m'])
    t.equal(parseDuration(text), undefined, text);

  const lines: string[] = [];
  const log = createLogger('test', wantedLevel({ TF_LOG: 'INFO' }), (line) => lines.push(line));
  log.debug('not wanted');
  log.warn('wanted', { n: 1n });
  t.equal(lines.length, 1);
  t.match(JSON.parse(lines[0] ?? ''), { '@level': 'warn', '@message': 'wanted', '@module': 'test', n: '1' });
  t.match(JSON.parse(lines[0] ?? '')['@timestamp'], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  t.equal(wantedLevel({}), undefined);

  const d = 'x';
  const wrong: [Attributes, RegExp][] = [
    [{ Upper: attribute.string({ description: d, optional: true }) }, /lower-case/],
    [{ a: attribute.string({ description: d }) }, /required, optional or computed/],
    [{ a: attribute.string({ description: d, required: true, default: 'b' }) }, /required/],
    [{ a: attribute.string({ description: d, computed: true, writeOnly: true }) }, /write-only and computed/],
    [{ a: attribute.string({ description: d, optional: true, volatile: true }) }, /volatile/],
    [
      {
        s: attribute.nestedSet(
          { a: attribute.string({ description: d, optional: true, requiresReplace: true }) },
          { description: d, optional: true },
        ),
      },
      /x\.s\.a can not require replacement inside a set/,
    ],
  ];
  for (const [attributes, message] of wrong) t.throws(() => checkAttributes('resource', attributes, 'x'), { message });
});

// --- A provider whose handlers do what handlers must not do ---------------------------------------------------------

interface Thing {
  id: string;
  name: string;
  list: string[] | null;
}

const thing = defineResource<Thing, { log: string[] }>({
  description: 'A thing.',
  attributes: {
    id: attribute.string({ description: 'Id.', computed: true }),
    name: attribute.string({ description: 'Name.', required: true }),
    list: attribute.list('string', { description: 'List.', optional: true, computed: true }),
  },
  validate({ config }) {
    if (config.name === 'validate') throw new Error('bug in validate');
  },
  modifyPlan({ planned, config }) {
    if (config.name === 'plan') throw new Error('bug in modifyPlan');
    if (config.name === 'contradict') planned.name = 'something else';
    if (config.name === 'type') Object.assign(planned, { list: 'not a list' });
  },
  async create({ planned, save }) {
    if (planned.name === 'early') throw new Error('bug in create');
    if (planned.name === 'forgotten') return { name: 'forgotten' };
    if (planned.name === 'wrong type') return { id: 'x', list: [1] as unknown as string[] };
    if (planned.name === 'extra') return { id: 'x', list: [], more: 1 } as Partial<Thing>;
    save({ id: 'saved' });
    if (planned.name === 'late') throw new DiagnosticError('It broke', 'Badly.', ['name']);
    if (planned.name === 'half a surrogate') throw new Error('\ud800');
    if (planned.name === 'odd') throw 'a string';
    return { id: 'x', list: [] };
  },
  async read({ state }) {
    if (state.name === 'read') throw new Error('bug in read');
    return state.name === 'gone' ? undefined : {};
  },
  async delete({ state }) {
    if (state.name === 'delete') throw new Error('bug in delete');
  },
});

const provider: ProviderDefinition<{ log: string[] }> = {
  name: 'bad',
  address: 'bad.localhost/test/bad',
  version: '0.0.1',
  description: 'x',
  attributes: { mode: attribute.string({ description: 'x', optional: true }) },
  async configure({ config }) {
    if (config.mode === 'throw') throw new Error('bug in configure');
    return isWhollyKnown(config) ? { log: [] } : undefined;
  },
  resources: {
    thing,
    broken: async () => {
      throw new Error('this file does not load');
    },
    misdefined: { ...thing, attributes: { Bad: attribute.string({ description: 'x' }) } },
  },
  functions: {
    fail: {
      summary: 'x',
      description: 'x',
      parameters: [{ name: 'a', type: 'string', description: 'x' }],
      returns: 'string',
      run: () => {
        throw new Error('bug in a function.');
      },
    },
  },
};

const TYPE = objectType(thing.attributes);
const value = (v: Values | null) => ({ msgpack: encodeValue(TYPE, v) });
const known = (message: { msgpack: Uint8Array } | undefined) => message && decodeValue(TYPE, message.msgpack);
const bare = (name: string): Values => ({ id: null, name, list: null });
const planned = (name: string): Values => ({ id: UNKNOWN, name, list: UNKNOWN });

t.test('handlers that fail', async (t) => {
  const server = await reattach(provider);
  const client = await PluginClient.connect(server.socketPath);
  t.teardown(async () => {
    client.close();
    await server.close();
  });
  const type_name = 'bad_thing';
  const configure = (mode: Value) =>
    client.call('ConfigureProvider', { config: { msgpack: encodeValue(['object', { mode: 'string' }], { mode }) } });
  t.match((await configure('throw')).diagnostics, [
    { summary: 'Could not configure the provider', detail: 'bug in configure' },
  ]);
  const state: Values = { id: '1', name: 'read', list: ['kept'] };
  const unready = await client.call('ReadResource', { type_name, current_state: value(state) });
  t.match(unready.diagnostics, [{ summary: 'The provider is not configured' }]);

  t.same((await configure(UNKNOWN)).diagnostics, []);
  const unasked = await client.call('ReadResource', {
    type_name,
    current_state: value(state),
    private: Buffer.from('{"a":1}'),
  });
  t.same([unasked.diagnostics, known(unasked.new_state), String(unasked.private)], [[], state, '{"a":1}']);
  t.equal(unasked.deferred, undefined, 'nothing is deferred unless Terraform allows it');
  const deferred = await client.call('ReadResource', {
    type_name,
    current_state: value(state),
    client_capabilities: { deferral_allowed: true },
  });
  t.equal(deferred.deferred?.reason, 2);
  t.same((await configure(null)).diagnostics, []);

  const read = await client.call('ReadResource', { type_name, current_state: value(state) });
  t.match(read.diagnostics, [{ summary: 'Could not read bad_thing', detail: 'bug in read' }]);
  t.same(known(read.new_state), state, 'a failed read keeps the state');
  const gone = await client.call('ReadResource', { type_name, current_state: value({ ...state, name: 'gone' }) });
  t.same([gone.diagnostics, known(gone.new_state)], [[], null]);

  const apply = async (name: string) => {
    const answer = await client.call('ApplyResourceChange', {
      type_name,
      prior_state: value(null),
      planned_state: value(planned(name)),
      config: value(bare(name)),
    });
    return { state: known(answer.new_state), errors: answer.diagnostics };
  };
  t.match(await apply('early'), { state: null, errors: [{ detail: 'bug in create' }] });
  t.match(await apply('late'), {
    state: { id: 'saved', name: 'late', list: null },
    errors: [{ summary: 'It broke', attribute: { steps: [{ attribute_name: 'name' }] } }],
  });
  t.match(await apply('odd'), { state: { id: 'saved' }, errors: [{ detail: 'a string' }] });
  t.match(await apply('half a surrogate'), { state: { id: 'saved' }, errors: [{ detail: '\ufffd' }] });
  t.match(await apply('forgotten'), {
    state: { name: 'forgotten', id: null },
    errors: [{ detail: /left id unknown/ }, {}],
  });
  t.match(await apply('wrong type'), {
    state: { id: 'x', list: null },
    errors: [{ detail: /list\.?\[?0\]?.*expected a string/ }, {}],
  });
  t.match(await apply('extra'), { state: { id: 'x' }, errors: [{ detail: /an attribute "more"/ }] });
  t.same((await apply('good')).errors, []);

  const remove = await client.call('ApplyResourceChange', {
    type_name,
    prior_state: value({ ...state, name: 'delete' }),
    planned_state: value(null),
    config: value(null),
  });
  t.match(remove.diagnostics, [{ summary: 'Could not delete bad_thing' }]);
  t.match(known(remove.new_state), { id: '1' }, 'what could not be deleted stays in the state');

  const plan = (name: string) =>
    client.call('PlanResourceChange', {
      type_name,
      prior_state: value(null),
      proposed_new_state: value(bare(name)),
      config: value(bare(name)),
    });
  t.match((await plan('plan')).diagnostics, [{ summary: 'Could not plan bad_thing', detail: 'bug in modifyPlan' }]);
  t.match((await plan('contradict')).diagnostics, [{ detail: /planned a value for name/ }]);
  t.match((await plan('type')).diagnostics, [{ severity: 1 }]);
  const validate = await client.call('ValidateResourceConfig', { type_name, config: value(bare('validate')) });
  t.match(validate.diagnostics, [{ detail: /bug in validate/ }]);

  for (const wrong of ['bad_broken', 'bad_misdefined', 'bad_none', '']) {
    const answer = await client.call('ReadResource', { type_name: wrong, current_state: value(state) });
    t.match(answer.diagnostics, [{ severity: 1 }], `type "${wrong}"`);
    t.same(known(answer.new_state), state);
  }
  t.match(
    (await client.call('CallFunction', { name: 'fail', arguments: [{ msgpack: encodeValue('string', 'x') }] })).error,
    {
      // Without the full stop: Terraform adds its own.
      text: 'bug in a function',
    },
  );
  t.match((await client.call('CallFunction', { name: 'fail', arguments: [] })).error, { text: /expected 1/ });
  t.match((await client.call('CallFunction', { name: 'none' })).error, { text: /no function/ });
  const schema = await client.call('GetProviderSchema', {});
  t.match(schema.diagnostics, [{ detail: /does not load/ }], 'a broken definition is reported, not hidden');
});

t.test('what only newer Terraforms ask for: identity, renewal, metadata', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'shelf-'));
  const server = await reattach(shelfProvider);
  const client = await PluginClient.connect(server.socketPath);
  t.teardown(async () => {
    client.close();
    await server.close();
    rmSync(directory, { recursive: true });
  });
  const shelf = new Shelf(path.join(directory, 'shelf.json'));
  const store = encodeValue(['object', { store: 'string' }], { store: path.join(directory, 'shelf.json') });
  await client.call('ConfigureProvider', { terraform_version: '1.12.0', config: { msgpack: store } });

  const { identity_schemas } = await client.call('GetResourceIdentitySchemas', {});
  t.match(identity_schemas, {
    shelf_item: { version: 0, identity_attributes: [{ name: 'id', required_for_import: true }] },
  });
  t.notOk('shelf_thing' in identity_schemas);
  const identityType = ['object', { id: 'string' }] as const;
  const identity = { identity_data: { msgpack: encodeValue(identityType, { id: 'item-7' }) } };
  const type_name = 'shelf_item';
  t.match((await client.call('ImportResourceState', { type_name, identity })).diagnostics, [
    { summary: /There is no/ },
  ]);
  shelf.change(({ items }) => {
    items['item-7'] = { id: 'item-7', name: 'lamp' } as StoredItem;
  });
  const [imported] = (await client.call('ImportResourceState', { type_name, identity })).imported_resources;
  t.same(decodeValue(identityType, imported?.identity?.identity_data?.msgpack ?? new Uint8Array()), { id: 'item-7' });
  const raw_identity = { json: Buffer.from('{"id":"item-7"}') };
  const upgraded = await client.call('UpgradeResourceIdentity', { type_name, raw_identity });
  t.same(decodeValue(identityType, upgraded.upgraded_identity?.identity_data?.msgpack ?? new Uint8Array()), {
    id: 'item-7',
  });
  t.match((await client.call('UpgradeResourceIdentity', { type_name, raw_identity, version: 5 })).diagnostics, [{}]);
  t.match((await client.call('ImportResourceState', { type_name: 'shelf_thing', id: 'x' })).diagnostics, [
    { summary: 'shelf_thing can not be imported' },
  ]);

  const config = {
    msgpack: encodeValue(['object', { reason: 'string', token: 'string' }], { reason: 'a', token: null }),
  };
  const opened = await client.call('OpenEphemeralResource', { type_name: 'shelf_ticket', config });
  const kept = opened.private ?? new Uint8Array();
  const renewed = await client.call('RenewEphemeralResource', { type_name: 'shelf_ticket', private: kept });
  t.same(renewed.renew_at, { seconds: Date.parse('2030-01-01') / 1000, nanos: 500_000_000 });
  await client.call('CloseEphemeralResource', { type_name: 'shelf_ticket', private: renewed.private ?? kept });
  t.same(shelf.read().log, ['open a', 'renew a', 'close a']);

  const metadata = await client.call('GetMetadata', {});
  t.match(metadata, { functions: [{ name: 'shout' }], ephemeral_resources: [{ type_name: 'shelf_ticket' }] });
  t.same(Object.keys((await client.call('GetFunctions', {})).functions), ['shout']);
});

t.test('fuzzed calls: each gets an answer, and the server lives', async (t) => {
  const server = await reattach(provider);
  const client = await PluginClient.connect(server.socketPath);
  t.teardown(async () => {
    client.close();
    await server.close();
  });
  const rpcs = Object.keys(RPCS) as Rpc[];
  const noise = fc.uint8Array({ maxLength: 40 });
  const broken = fc.record({ msgpack: noise, json: fc.oneof(fc.constant(new Uint8Array()), noise) });
  /** A request of the right shape with wrong content. */
  const shaped = fc.constantFrom(...rpcs).chain((rpc) => {
    const fields: Fields = RPCS[rpc].request.fields;
    const content = Object.fromEntries(
      Object.entries(fields).map(([name, { kind, cardinality }]): [string, fc.Arbitrary<unknown>] => {
        const one: fc.Arbitrary<unknown> =
          name === 'type_name' || name === 'target_type_name'
            ? fc.constantFrom('bad_thing', 'bad_none', 'bad_broken')
            : kind === 'string'
              ? fc.string()
              : kind === 'bytes'
                ? noise
                : kind === 'bool'
                  ? fc.boolean()
                  : kind === 'int'
                    ? fc.integer()
                    : kind.name === 'DynamicValue'
                      ? fc.oneof(broken, fc.constantFrom(value(null), value(bare('x')), value(planned('y'))))
                      : kind.name === 'RawState'
                        ? fc.record({
                            json: fc.oneof(
                              noise,
                              fc.json().map((text) => Buffer.from(text)),
                            ),
                          })
                        : fc.constant({});
        if (cardinality === 'repeated') return [name, fc.array(one, { maxLength: 3 })];
        if (cardinality === 'map') return [name, fc.constant({})];
        return [name, fc.option(one, { nil: undefined })];
      }),
    );
    return fc.record(content).map((request) => ({
      rpc,
      bytes: encode(RPCS[rpc].request as MessageType<Fields>, request as Record<string, never>),
    }));
  });
  const raw = fc.record({ rpc: fc.constantFrom(...rpcs), bytes: noise });
  let answered = 0;
  await fc.assert(
    fc.asyncProperty(fc.oneof(shaped, shaped, raw), async ({ rpc, bytes }) => {
      try {
        await client.raw(`/tfplugin6.Provider/${rpc}`, frame(bytes));
        answered++;
      } catch (error) {
        // Only bytes that are no message at all are refused at this level.
        if (!(error instanceof CallFailed) || error.status !== 3) throw error;
      }
    }),
    { numRuns: 1000 },
  );
  t.ok(answered > 300, `${answered} of 1000 calls were answered`);
  const { resources } = await client.call('GetMetadata', {});
  t.equal(resources.length, 3);
});
