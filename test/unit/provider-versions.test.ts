import path from 'node:path';
import t from 'tap';
import { decodeValue, encodeValue } from '../../provider/protocol/msgpack.ts';
import { UNKNOWN, type Value } from '../../provider/protocol/values.ts';
import { known, provider, TYPE, value } from '../support/bad-provider.ts';
import { PluginClient } from '../support/plugin-client.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { Shelf, type StoredItem, shelfProvider } from '../terraform/fixtures/shelf.ts';

t.test('states and identities of other versions, types and providers', async (t) => {
  const client = await PluginClient.of(t, provider);
  const type_name = 'bad_thing';
  const json = (v: unknown) => ({ json: Buffer.from(JSON.stringify(v)) });
  const identity = { id: 'string', name: 'string' } as const;
  const upgrade = async (version: number, stored: unknown) => {
    const { upgraded_identity, diagnostics } = await client.call('UpgradeResourceIdentity', {
      type_name,
      version,
      raw_identity: json(stored),
    });
    const bytes = upgraded_identity?.identity_data?.msgpack;
    return bytes ? decodeValue(['object', identity], bytes) : diagnostics;
  };
  t.same(await upgrade(0, { key: 'k' }), { id: 'k', name: 'named k' }, 'step by step');
  t.same(await upgrade(1, { id: 'k' }), { id: 'k', name: 'named k' });
  t.same(await upgrade(2, { id: 'k', name: 'n' }), { id: 'k', name: 'n' });
  t.match(await upgrade(1, { id: 'odd' }), [
    { summary: /identity of bad_thing cannot be upgraded/, detail: /bug in upgrade/ },
  ]);
  t.match(await upgrade(3, {}), [{ summary: /identity of bad_thing was written by a later version/ }]);
  t.match(await upgrade(2, 'text'), [{ summary: /identity of bad_thing cannot be read/, detail: /not a JSON object/ }]);
  const incomplete = await client.call('ImportResourceState', {
    type_name,
    identity: { identity_data: { msgpack: encodeValue(['object', identity], { id: 'i', name: 'n' }) } },
  });
  t.same(incomplete.diagnostics, []);
  const [byIdentity] = incomplete.imported_resources;
  t.same(
    byIdentity?.identity?.identity_data && decodeValue(['object', identity], byIdentity.identity.identity_data.msgpack),
    { id: 'i', name: 'n' },
    'what the user gave stands, where an import does not know it all',
  );
  const [byId] = (await client.call('ImportResourceState', { type_name, id: 'i' })).imported_resources;
  t.equal(byId?.identity, undefined, 'half an identity is none');

  const state = async (version: number, raw_state: object) => {
    const { upgraded_state, diagnostics } = await client.call('UpgradeResourceState', {
      type_name,
      version,
      raw_state,
    });
    return upgraded_state ? known(upgraded_state) : diagnostics;
  };
  t.same(
    await state(0, json({ id: '1', name: 'n', gone: true })),
    { id: '1', name: 'n', list: null },
    'the same version',
  );
  t.match(await state(0, { flatmap: { id: '1' } }), [{ summary: /cannot be read/, detail: /Terraform 0.11/ }]);
  t.match(await state(-1, json({ id: '1' })), [{ summary: /cannot be upgraded/ }]);
  t.match(await state(1, json({ id: '1' })), [{ summary: /later version/ }]);
  t.match(await state(0, json({ id: [] })), [{ severity: 1, detail: /expected a string/ }]);

  const move = (source_type_name: string, more: object = {}) =>
    client.call('MoveResourceState', {
      source_provider_address: 'elsewhere.example/a/old',
      source_type_name,
      source_state: json({ id: '7', title: 'moved' }),
      target_type_name: type_name,
      ...more,
    });
  const moved = await move('old_thing', { source_private: Buffer.from('{"since":"2020"}') });
  t.same(
    [known(moved.target_state), String(moved.target_private)],
    [{ id: '7', name: 'moved', list: null }, '{"since":"2020"}'],
  );
  t.same(moved.diagnostics, []);
  t.match(decodeValue(['object', identity], moved.target_identity?.identity_data?.msgpack ?? new Uint8Array()), {
    id: '7',
  });
  t.match(
    (await move('old_thing', { source_private: Buffer.from([0xff]) })).diagnostics,
    [],
    'what is not ours to read is left',
  );
  t.match((await move('old_other')).diagnostics, [{ summary: 'A old_other cannot become a bad_thing' }]);
  t.match((await move('old_broken')).diagnostics, [
    { summary: 'Could not move a old_broken to a bad_thing', detail: 'bug in moveFrom' },
  ]);
  t.match((await move('old_thing', { source_state: {} })).diagnostics, [
    { summary: /state of old_thing cannot be read/ },
  ]);

  const deferring = { client_capabilities: { deferral_allowed: true } };
  const configure = (mode: Value) =>
    client.call('ConfigureProvider', { config: { msgpack: encodeValue(['object', { mode: 'string' }], { mode }) } });
  await configure(UNKNOWN);
  const waiting = await client.call('ImportResourceState', { type_name, id: 'i', ...deferring });
  t.equal(waiting.deferred?.reason, 2, 'an import waits for the configuration of the provider');
  t.equal(decodeValue(TYPE, waiting.imported_resources[0]?.state?.msgpack ?? new Uint8Array()), UNKNOWN);
  const going = {
    type_name,
    prior_state: value({ id: '1', name: 'n', list: null }),
    proposed_new_state: value(null),
    config: value(null),
  };
  t.equal((await client.call('PlanResourceChange', { ...going, ...deferring })).deferred?.reason, 2);
  t.equal((await client.call('PlanResourceChange', going)).deferred, undefined);
  t.equal((await client.call('ImportResourceState', { type_name, id: 'i' })).deferred, undefined);
});

t.test('the calls of newer Terraforms: identity, renewal, metadata', async (t) => {
  const directory = temporaryDirectory(t);
  const client = await PluginClient.of(t, shelfProvider);
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
  t.match((await client.call('ImportResourceState', { type_name, id: '' })).diagnostics, [
    { summary: 'The import id is empty', detail: 'Write the id of the shelf_item after its address.' },
  ]);
  t.match((await client.call('ImportResourceState', { type_name: 'shelf_thing', id: 'x' })).diagnostics, [
    { summary: 'shelf_thing cannot be imported' },
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
