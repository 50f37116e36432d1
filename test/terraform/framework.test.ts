/**
 * The provider framework with the real Terraform: the actions of users on an object from its creation to its deletion, and
 * the effects of errors.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { reattach } from '../../provider/framework/index.ts';
import { until } from '../support/eventually.ts';
import { changes, TerraformDirectory, terraformMissing } from '../support/terraform.ts';
import { ADDRESS, Shelf, shelfProvider } from './fixtures/shelf.ts';

const missing = terraformMissing();
if (missing) {
  t.plan(0, missing);
  process.exit();
}

const provider = await reattach(shelfProvider);
t.teardown(() => provider.close());

/** Returns a directory with a provider block, and its shelf. */
function workspace(test: Test, main: string, options: { mirror?: string } = {}) {
  const directory = new TerraformDirectory({}, options.mirror ? options : { reattach: provider.environmentValue });
  test.teardown(() => directory.remove());
  const file = path.join(directory.path, 'shelf.json');
  directory.write({
    'provider.tf': `
      terraform {
        required_providers {
          shelf = { source = "${ADDRESS}" }
        }
      }
      provider "shelf" { store = "${file}" }`,
    'main.tf': main,
  });
  return { directory, shelf: new Shelf(file), main: (text: string) => directory.write({ 'main.tf': text }) };
}

const FULL = (size: string, more = '') => `
  resource "shelf_item" "a" {
    name   = "lamp"
    size   = "${size}"
    tags   = ["z", "a", "m"]
    labels = { team = "blue" }
    weight = 12345678901234567890
    slots  = [{ label = "one" }, { label = "two" }]
    parts  = [{ kind = "leg", count = 4 }, { kind = "arm", finish = "Matte" }]
    box    = {}
    secret = "first"
    secret_version = 1
    ${more}
  }`;

t.test('an object from creation to its end', async (t) => {
  const { directory, shelf, main } = workspace(t, FULL('2GiB'));
  const plan = await directory.plan();
  const [change] = plan.resource_changes ?? [];
  t.same(change?.change.actions, ['create']);
  t.match(change?.change.after, { address: 'shelf/lamp', mode: 'open', box: { colour: 'grey' }, secret: null });
  t.same(change?.change.after_unknown.id, true, 'the id is known after apply');
  t.same(change?.change.after_unknown.slots, [{ code: true }, { code: true }], 'so is a computed attribute in a list');

  await directory.apply();
  t.match(shelf.read().items['item-1'], { mebibytes: 2048, tags: ['a', 'm', 'z'], secret: 'first', revision: 1 });
  t.match((await directory.state())[0]?.values, { size: '2GiB', secret: null, revision: 1 });
  t.same(await directory.pending(), [], 'a second plan is empty: sets in any order, a size in another spelling');

  main(FULL('2048MiB').replace('"Matte"', '"mATTE"'));
  t.same(await directory.pending(), [], 'another spelling of the same size is no change');

  main(FULL('3GiB'));
  const update = await directory.plan();
  t.same(changes(update), ['shelf_item.a: update']);
  t.same(update.resource_changes?.[0]?.change.after_unknown.revision, true, 'the revision will change with the size');
  await directory.apply();
  t.match(shelf.read().items['item-1'], { mebibytes: 3072, revision: 2, secret: 'first' });
  t.ok(shelf.read().log.includes('update item-1 made as lamp'), 'private state came back from the create');
  t.same(await directory.pending(), []);

  main(FULL('3GiB').replace('"first"', '"second"').replace('secret_version = 1', 'secret_version = 2'));
  await directory.apply();
  t.equal(shelf.read().items['item-1']?.secret, 'second', 'a write-only value arrives');
  const state = await directory.run('state', 'pull');
  t.notOk(state.includes('second'), 'and is in no state');

  main(
    FULL('3GiB')
      .replace('{ label = "two" }', '{ label = "zwei" }')
      .replace('kind = "leg"', 'kind = "wing"')
      .replace('"Matte"', '"MATTE"'),
  );
  await directory.apply();
  t.match((await directory.state())[0]?.values.parts, [{ kind: 'arm', finish: 'Matte', serial: 'item-1/arm' }, {}]);
  t.match(shelf.read().items['item-1']?.slots, [{ label: 'one' }, { label: 'zwei', code: 'item-1-zwei' }]);
  t.same(await directory.pending(), []);

  main(FULL('3GiB').replace('"lamp"', '"vase"'));
  const replacement = await directory.plan();
  t.same(changes(replacement), ['shelf_item.a: delete+create']);
  t.same(replacement.resource_changes?.[0]?.change.replace_paths, [['name']]);
  t.match(replacement.resource_changes?.[0]?.change.after, { address: 'shelf/vase' });
  await directory.apply();
  t.same(Object.keys(shelf.read().items), ['item-2']);
  t.same(await directory.pending(), []);

  await directory.destroy();
  t.same(shelf.read().items, {});
  t.same(await directory.state(), []);
});

t.test('what happens outside of Terraform', async (t) => {
  const { directory, shelf } = workspace(t, 'resource "shelf_item" "a" {\n name = "lamp"\n size = "1GiB"\n }');
  await directory.apply();
  shelf.change(({ items }) => {
    if (items['item-1']) items['item-1'].mebibytes = 5;
  });
  const drift = await directory.plan();
  t.same(changes(drift), ['shelf_item.a: update']);
  t.match(drift.resource_drift?.[0]?.change.after, { size: '5MiB' });
  await directory.apply();
  t.equal(shelf.read().items['item-1']?.mebibytes, 1024, 'a drift is put right');

  shelf.change((content) => {
    content.items = {};
  });
  t.same(await directory.pending(), ['shelf_item.a: create'], 'an object deleted outside is created again');
  await directory.apply();
  shelf.change((content) => {
    content.items = {};
  });
  await directory.destroy();
  t.same(await directory.state(), [], 'destroying what is gone already is a success');
});

t.test('import by command and by block, by id and by name, and with generated configuration', async (t) => {
  const { directory, shelf, main } = workspace(t, FULL('2GiB'));
  await directory.apply();
  await directory.run('state', 'rm', 'shelf_item.a');
  await directory.run('import', 'shelf_item.a', 'item-1');
  t.same(await directory.pending(), [], 'the plan after an import is empty');

  await directory.run('state', 'rm', 'shelf_item.a');
  main(`${FULL('2GiB')}\nimport {\n to = shelf_item.a\n id = "lamp"\n}`);
  t.match(await directory.apply(), /1 imported, 0 added, 0 changed/);
  main(FULL('2GiB'));
  t.same(await directory.pending(), []);

  const bad = await directory.try('import', 'shelf_item.b', 'nothing');
  t.not(bad.code, 0);
  await directory.run('state', 'rm', 'shelf_item.a');
  main('import {\n to = shelf_item.a\n id = "nothing"\n}\nresource "shelf_item" "a" { name = "lamp" }');
  t.match(await directory.diagnostics('plan'), [{ summary: 'There is no shelf_item "nothing"' }]);

  main('import {\n to = shelf_item.b\n id = "lamp"\n}');
  await directory.run('plan', '-generate-config-out=generated.tf');
  t.match(await directory.apply(), /1 imported, 0 added, 0 changed/);
  t.same(await directory.pending(), [], 'the generated configuration is complete');
  t.equal(Object.keys(shelf.read().items).length, 1);
});

t.test('a create that fails', async (t) => {
  const { directory, shelf, main } = workspace(
    t,
    'resource "shelf_item" "a" {\n name = "lamp"\n trouble = "before-save"\n}',
  );
  const [refused] = await directory.diagnostics('apply');
  t.match(refused, {
    summary: 'The shelf is full',
    detail: 'Make room first.',
    line: 3,
    code: 'trouble = "before-save"',
  });
  t.same(await directory.state(), [], 'nothing was made, so nothing is in the state');

  main('resource "shelf_item" "a" {\n name = "lamp"\n trouble = "after-save"\n}');
  t.match(await directory.diagnostics('apply'), [
    { severity: 'error', summary: 'Could not create shelf_item', detail: 'the item fell off the shelf' },
  ]);
  t.match(await directory.state(), [{ tainted: true, values: { id: 'item-1', name: 'lamp', mode: 'open' } }]);

  main('resource "shelf_item" "a" { name = "lamp" }');
  t.same(await directory.pending(), ['shelf_item.a: delete+create'], 'a half-made object is replaced');
  await directory.apply();
  t.same(Object.keys(shelf.read().items), ['item-2'], 'and nothing is left of it');

  main('resource "shelf_item" "a" {\n name = "lamp"\n trouble = "in-update"\n}');
  t.match(await directory.diagnostics('apply'), [{ summary: 'Could not update shelf_item' }]);
  t.match(await directory.state(), [{ values: { id: 'item-2', trouble: null, revision: 1 } }]);
  t.same(await directory.pending(), ['shelf_item.a: update'], 'a failed update is tried again');

  main('resource "shelf_item" "a" {\n name = "jar"\n trouble = "hang"\n timeouts = { create = "300ms" }\n}');
  t.match(await directory.diagnostics('apply'), [
    { summary: 'Timeout: could not create shelf_item in time', detail: /longer than 0.3 seconds.*`timeouts`/ },
  ]);
  t.match(await directory.state(), [{ tainted: true, values: { id: 'item-3' } }]);
});

t.test('Ctrl-C during a create keeps the object, and the next apply goes on', async (t) => {
  const { directory, shelf } = workspace(t, 'resource "shelf_item" "a" {\n name = "lamp"\n trouble = "hang"\n}');
  const { child, result } = directory.start('apply', '-no-color', '-auto-approve');
  await until('the create has begun', () => Object.keys(shelf.read().items).length > 0);
  if (child.pid !== undefined) process.kill(-child.pid, 'SIGINT');
  const { stdout } = await result;
  t.match(stdout, /Warning: Interrupted: could not create shelf_item/);
  t.match(await directory.state(), [{ values: { id: 'item-1', name: 'lamp' } }]);
  t.notOk((await directory.state())[0]?.tainted);
  t.match(await directory.apply(), /0 added, 0 changed, 0 destroyed/);
  t.same(Object.keys(shelf.read().items), ['item-1']);
  t.equal((await directory.state())[0]?.values.revision, 1, 'what was not known yet has been read');
});

t.test('wrong configurations are refused where they are wrong', async (t) => {
  const { directory, main } = workspace(t, '');
  const refused = async (text: string) => {
    main(text);
    const [first] = await directory.diagnostics('validate');
    return first;
  };
  t.match(await refused('resource "shelf_item" "a" {\n name = "LAMP"\n}'), {
    summary: 'Invalid value for "name"',
    detail: '"LAMP" is not made of lower-case letters.',
    line: 2,
  });
  t.match(await refused('resource "shelf_item" "a" {\n name = "a"\n size = "big"\n}'), { line: 3 });
  t.match(await refused('resource "shelf_item" "a" {\n name = "a"\n timeouts = { create = "soon" }\n}'), {
    detail: /"soon" is not a duration/,
    line: 3,
  });
  t.match(await refused('resource "shelf_item" "a" {\n name = "a"\n slots = [\n{label="x"},\n{label="UP"}\n]\n}'), {
    summary: 'Invalid value for "slots[1].label"',
    line: 5,
  });
  t.match(await refused('resource "shelf_item" "a" {\n name = "a"\n secret = "b"\n}'), {
    summary: 'secret without secret_version',
    line: 3,
  });
  t.match(await refused('resource "shelf_item" "a" {\n name = "a"\n id = "b"\n}'), { severity: 'error', line: 3 });
  t.match(await refused('data "shelf_item" "a" {}'), { severity: 'error' });
  main('data "shelf_item" "a" {\n name = "unheard"\n}');
  t.match(await directory.diagnostics('plan'), [
    { summary: 'No such item', detail: 'Nothing on the shelf is called "unheard".', line: 2 },
  ]);
  main('output "o" {\n value = provider::shelf::shout("a", -1)\n}');
  t.match(await directory.diagnostics('plan'), [{ detail: /marks cannot be negative/ }]);
});

t.test('unknown values, data sources, functions and ephemeral resources', async (t) => {
  const { directory, shelf } = workspace(
    t,
    `
    resource "shelf_item" "a" { name = "lamp" }
    resource "shelf_item" "b" {
      name   = "vase"
      labels = { beside = shelf_item.a.id, near = "x-\${shelf_item.a.id}" }
      tags   = [shelf_item.a.id, "fixed"]
      parts  = [{ kind = shelf_item.a.id }]
    }
    data "shelf_item" "a" { name = shelf_item.b.name == "" ? "" : shelf_item.a.name }
    ephemeral "shelf_ticket" "t" { reason = "testing" }
    resource "shelf_item" "c" {
      name = "jar"
      secret = ephemeral.shelf_ticket.t.token
      secret_version = 1
    }
    output "found" { value = data.shelf_item.a.id }
    output "loud" { value = provider::shelf::shout("hello", 3, "big", "world") }`,
  );
  await directory.apply();
  const byId = Object.entries(shelf.read().items);
  const items = byId.map(([, item]) => item);
  // The jar does not depend on the lamp, so Terraform may create it first.
  const lamp = byId.find(([, { name }]) => name === 'lamp')?.[0] ?? '';
  t.match(await directory.outputs(), { found: lamp, loud: 'HELLO BIG WORLD!!!' });
  t.match(
    items.find(({ name }) => name === 'vase'),
    {
      labels: { beside: lamp, near: `x-${lamp}` },
      tags: ['fixed', lamp],
      parts: [{ kind: lamp, count: 1 }],
    },
  );
  t.equal(items.find(({ name }) => name === 'jar')?.secret, 'ticket for testing');
  const { log } = shelf.read();
  t.ok(log.includes('open testing'));
  t.equal(
    log.filter((line) => line.startsWith('open')).length,
    log.filter((line) => line.startsWith('close')).length,
    'every ephemeral resource that was opened was closed',
  );
  t.same(await directory.pending(), []);
});

t.test('an object changes its type, and an old state its version', async (t) => {
  const { directory, main } = workspace(t, 'resource "shelf_thing" "a" { name = "lamp" }');
  await directory.apply();
  const moved = 'resource "shelf_item" "a" { name = "lamp" }\nmoved {\n from = shelf_thing.a\n to = shelf_item.a\n}';
  main(moved);
  t.match(await directory.apply(), /0 added, .* 0 destroyed/);
  t.match(await directory.state(), [{ address: 'shelf_item.a', values: { id: 'item-1', address: 'shelf/lamp' } }]);
  t.same(await directory.pending(), []);

  const state = JSON.parse(await directory.run('state', 'pull')) as {
    serial: number;
    resources: { instances: { schema_version: number; attributes: Record<string, unknown> }[] }[];
  };
  const [instance] = state.resources[0]?.instances ?? [];
  if (!instance) throw new Error('the state has no object');
  instance.schema_version = 0;
  instance.attributes = { id: 'item-1', title: 'lamp', mode: 'open', abandoned: true };
  state.serial++;
  directory.write({ 'old.json': JSON.stringify(state) });
  await directory.run('state', 'push', 'old.json');
  main('resource "shelf_item" "a" { name = "lamp" }');
  t.same(await directory.pending(), [], 'a state of version 0 is upgraded');

  instance.schema_version = 9;
  state.serial += 5;
  directory.write({ 'new.json': JSON.stringify(state) });
  await directory.run('state', 'push', 'new.json');
  const [refused] = await directory.diagnostics('plan');
  t.match(refused, { severity: 'error', summary: /later version|newer/ });
});

t.test('a provider whose configuration is not known yet still plans', async (t) => {
  const { directory, main } = workspace(t, '');
  directory.write({
    'provider.tf': `
      terraform {
        required_providers {
          shelf = { source = "${ADDRESS}" }
        }
      }
      resource "terraform_data" "file" { input = "${directory.path}/late.json" }
      provider "shelf" { store = terraform_data.file.output }`,
  });
  main('resource "shelf_item" "a" { name = "lamp" }');
  t.match(await directory.apply(), /2 added/);
  t.same(await directory.pending(), []);
});

t.test('two provider blocks of one process do not mix', async (t) => {
  const { directory, shelf, main } = workspace(t, '');
  const other = new Shelf(path.join(directory.path, 'other.json'));
  main(`
    provider "shelf" {
      alias = "other"
      store = "${directory.path}/other.json"
    }
    resource "shelf_item" "here" { name = "lamp" }
    resource "shelf_item" "there" {
      provider = shelf.other
      name     = "vase"
    }`);
  await directory.apply();
  t.same(
    Object.values(shelf.read().items).map(({ name }) => name),
    ['lamp'],
  );
  t.same(
    Object.values(other.read().items).map(({ name }) => name),
    ['vase'],
  );
});

t.test('an installed plugin: mutual TLS on its own socket, started and ended by Terraform', async (t) => {
  const mirror = mkdtempSync(path.join(tmpdir(), 'shelf-mirror-'));
  const temporary = mkdtempSync(path.join(tmpdir(), 'shelf-tmp-'));
  t.teardown(() => {
    for (const dir of [mirror, temporary]) rmSync(dir, { recursive: true, force: true });
  });
  const platform = `${process.platform}_${process.arch === 'x64' ? 'amd64' : process.arch}`;
  const home = path.join(mirror, ADDRESS, '0.1.0', platform);
  mkdirSync(home, { recursive: true });
  const launcher = path.join(home, 'terraform-provider-shelf_v0.1.0');
  const program = fileURLToPath(new URL('fixtures/shelf-main.ts', import.meta.url));
  writeFileSync(launcher, `#!/bin/sh\nTMPDIR='${temporary}' exec '${process.execPath}' '${program}' "$@"\n`);
  chmodSync(launcher, 0o755);

  const { directory, shelf, main } = workspace(t, FULL('2GiB'), { mirror });
  await directory.run('init', '-no-color');
  await directory.apply();
  t.same(await directory.pending(), []);
  t.match(shelf.read().items['item-1'], { name: 'lamp', secret: 'first' });

  main('resource "shelf_item" "b" {\n name = "vase"\n trouble = "hang"\n}');
  const { child, result } = directory.start('apply', '-no-color', '-auto-approve');
  await until('the create has begun', () => shelf.read().log.includes('create item-2'));
  // Like a terminal, the test sends the signal to Terraform and to the provider.
  if (child.pid !== undefined) process.kill(-child.pid, 'SIGINT');
  t.match((await result).stdout, /Interrupted: could not create/);
  t.match(await directory.state(), [{ address: 'shelf_item.b', values: { id: 'item-2' } }]);
  await directory.destroy();
  t.same(shelf.read().items, {});
  t.same(readdirSync(temporary), [], 'no socket is left behind');
  t.ok(existsSync(path.join(directory.path, '.terraform.lock.hcl')));
});
