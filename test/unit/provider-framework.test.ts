import t from 'tap';
import { parseDuration } from '../../provider/framework/duration.ts';
import { sameMeaning } from '../../provider/framework/equality.ts';
import { type Attributes, attribute, reattach } from '../../provider/framework/index.ts';
import { createLogger, wantedLevel } from '../../provider/framework/logger.ts';
import { checkAttributes } from '../../provider/framework/schema.ts';
import { frame } from '../../provider/protocol/grpc.ts';
import { RPCS } from '../../provider/protocol/messages.ts';
import { decodeValue, encodeValue } from '../../provider/protocol/msgpack.ts';
import { type Type, UNKNOWN, type Value, type Values } from '../../provider/protocol/values.ts';
import { encode } from '../../provider/protocol/wire.ts';
import { bare, known, planned, provider, SLEEPER, started, stopped, value } from '../support/bad-provider.ts';
import { until } from '../support/eventually.ts';
import { PluginClient } from '../support/plugin-client.ts';

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
      /x\.s\.a cannot require replacement inside a set/,
    ],
  ];
  wrong.push(
    [
      { n: attribute.number({ description: d, default: 'many' as unknown as number }) },
      /default that is refused: expected a number/,
    ],
    [{ n: attribute.string({ description: d, default: 'B', validate: () => 'Not B.' }) }, /x\.n has a default.*Not B/],
  );
  for (const [attributes, message] of wrong) t.throws(() => checkAttributes('resource', attributes, 'x'), { message });
  const standard = { n: attribute.number({ description: d, default: 1 }) };
  checkAttributes('resource', standard, 'x');
  t.throws(
    () => checkAttributes('data source', standard, 'x'),
    { message: /default in a data source/ },
    'nobody plans it',
  );
  t.throws(() => checkAttributes('provider', { c: attribute.string({ description: d, computed: true }) }, 'x'), {
    message: /cannot be computed/,
  });
});

t.test('handlers that fail', async (t) => {
  const client = await PluginClient.of(t, provider);
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
    errors: [{ detail: /unknown value for id/ }, {}],
  });
  t.match(await apply('wrong type'), {
    state: { id: 'x', list: null },
    errors: [{ detail: /list\.?\[?0\]?.*expected a string/ }, {}],
  });
  t.match(await apply('extra'), { state: { id: 'x' }, errors: [{ detail: /an attribute "more"/ }] });
  t.same((await apply('good')).errors, []);
  t.match(await apply('nothing'), { state: null, errors: [{ detail: /handler of create returned no state/ }] });
  for (const [name, detail] of Object.entries({
    private: /private data cannot be encoded as JSON/,
    cyclic: /wrong value for list/,
    'no identity': /identity of this bad_thing cannot be computed: bug in identity/,
  })) {
    t.match(await apply(name), { state: { name }, errors: [{ detail }] }, `${name}: the object stays in the state`);
  }
  const sorted = await client.call('ApplyResourceChange', {
    type_name,
    prior_state: value(null),
    planned_state: value({ ...planned('sort'), list: ['b', 'a'] }),
    config: value({ ...bare('sort'), list: ['b', 'a'] }),
  });
  t.same(
    [sorted.diagnostics, known(sorted.new_state)?.list],
    [[], ['b', 'a']],
    'what a handler does to its plan is its own',
  );

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
  t.match((await plan('contradict')).diagnostics, [{ detail: /planned value of name differs/ }]);
  t.match((await plan('type')).diagnostics, [
    { detail: /planned a wrong value for list: expected a list/, attribute: {} },
  ]);
  const replacing = await client.call('PlanResourceChange', {
    type_name,
    prior_state: value(null),
    proposed_new_state: value(bare('new')),
    config: value(bare('new')),
    prior_private: Buffer.from('{"made":"for the one before"}'),
  });
  t.equal(String(replacing.planned_private), '', 'data of an object does not pass to the one that replaces it');
  const removing = await client.call('PlanResourceChange', {
    type_name,
    prior_state: value(state),
    proposed_new_state: value(null),
    config: value(null),
    prior_private: Buffer.from('{"a":1}'),
  });
  t.equal(String(removing.planned_private), '{"a":1}', 'but stays with that one until it is gone');
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

t.test('a waiting handler is stopped by Terraform, and when its caller is gone', async (t) => {
  const server = await reattach(provider);
  const connect = async () => {
    const client = await PluginClient.connect(server.socketPath);
    await client.call('ConfigureProvider', {
      config: { msgpack: encodeValue(['object', { mode: 'string' }], { mode: null }) },
    });
    return client;
  };
  const [client, other] = [await connect(), await connect()];
  t.teardown(async () => {
    client.close();
    other.close();
    await server.close();
  });
  const read = (from: PluginClient, name: string) =>
    from.call('ReadResource', {
      type_name: 'bad_sleeper',
      current_state: { msgpack: encodeValue(SLEEPER, { id: '1', name }) },
    });
  const names = Array.from({ length: 50 }, (_, i) => `one ${i}`);
  const reads = names.map((name) => read(client, name));
  const elsewhere = read(other, 'elsewhere').catch(() => undefined);
  const creating = client.call('ApplyResourceChange', {
    type_name: 'bad_thing',
    prior_state: value(null),
    planned_state: value(planned('wait')),
    config: value(bare('wait')),
  });
  await until('all have begun', () => [...names, 'wait', 'elsewhere'].every((name) => started.has(name)));
  t.equal((await client.call('StopProvider', {})).Error, '');
  for (const { diagnostics } of await Promise.all(reads)) {
    if (!/^Interrupted/.test(diagnostics[0]?.summary ?? ''))
      t.fail(`a read was not interrupted: ${diagnostics[0]?.summary}`);
  }
  const { new_state, diagnostics } = await creating;
  t.match(
    [known(new_state), diagnostics],
    [{ id: 'saved' }, [{ severity: 2 }]],
    'a create that was interrupted is kept',
  );
  t.notOk(stopped.has('elsewhere'), 'another connection is another run');

  const late = read(client, 'late');
  await until('a later call runs', () => started.has('late'));
  t.notOk(stopped.has('late'), 'Stop is for what was running');
  client.close();
  await t.rejects(late);
  await until('the call of a Terraform that is gone has stopped', () => stopped.has('late'));
  const body = encode(RPCS.ReadResource.request, {
    type_name: 'bad_sleeper',
    current_state: { msgpack: encodeValue(SLEEPER, { id: '1', name: 'reset' }) },
  });
  const stream = other.session.request({
    ':method': 'POST',
    ':path': '/tfplugin6.Provider/ReadResource',
    'content-type': 'application/grpc',
  });
  stream.on('error', () => {});
  stream.end(frame(body));
  await until('the call runs', () => started.has('reset'));
  stream.close(8);
  await until('the call that was reset has stopped', () => stopped.has('reset'));
  t.notOk(stopped.has('elsewhere'), 'and no other');
  other.close();
  await elsewhere;
});

t.test('functions', async (t) => {
  const client = await PluginClient.of(t, provider);
  const call = (name: string, ...args: [Type, Value][]) =>
    client.call('CallFunction', { name, arguments: args.map(([type, v]) => ({ msgpack: encodeValue(type, v) })) });
  const list: Type = ['list', 'string'];
  const number = async (answer: ReturnType<typeof call>) =>
    decodeValue('number', (await answer).result?.msgpack ?? new Uint8Array());
  t.equal(await number(call('count', ['string', 'a'])), 1);
  t.equal(await number(call('count', ['string', 'a'], [list, ['x']], [list, null])), 3, 'null, where it is allowed');
  t.equal(
    await number(call('count', ['string', UNKNOWN])),
    UNKNOWN,
    'nothing is known of what comes from an unknown value',
  );
  t.equal(await number(call('count', ['string', 'a'], [list, [UNKNOWN]])), UNKNOWN, 'however deep it is');
  t.match((await call('count')).error, { text: 'expected at least 1 arguments, got 0', function_argument: undefined });
  t.match((await call('count', ['string', null])).error, { text: 'first must not be null', function_argument: 0 });
  t.match((await call('count', ['string', 'bad'])).error, { text: 'not this one', function_argument: 0 });
  t.match((await call('count', ['string', 'a'], [list, []], ['string', 'x'])).error, {
    text: /expected a list/,
    function_argument: 2,
  });
  t.match((await call('fail', ['string', 'a'], ['string', 'b'])).error, { text: 'expected 1 arguments, got 2' });
  t.match(
    (await call('fail', ['string', 'x'])).error,
    { text: 'bug in a function' },
    'without the full stop: Terraform adds its own',
  );
});
