/** `ucloud_file`: local files that Terraform uploads. */
import { execFileSync, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ensureOperatorToken, ensureProject } from '../../backend/api/tokens/first-operator-token.ts';
import * as records from '../../backend/model/records/index.ts';
import { readAll } from '../../backend/store/collection.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { reattach } from '../../provider/framework/index.ts';
import { provider } from '../../provider/provider.ts';
import { asked, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { until, within } from '../support/eventually.ts';
import { filesOf, sha256Of } from '../support/file-server.ts';
import { startGateway } from '../support/slow-gateway.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { changes, TerraformDirectory, terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;
let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t, { fileServer: true });
});

/** Returns a new project with a provider block for it, and a directory for local files. */
async function scene(t: Test, name: string) {
  const { id } = await cloud.api.operator.create('projects', { name });
  const local = temporaryDirectory(t);
  const write = (file: string, content: string | Uint8Array) => {
    writeFileSync(join(local, file), content);
    return join(local, file);
  };
  const block = `
terraform {
  required_providers {
    ucloud = {
      source = "ucloud.localhost/ucloud/ucloud"
    }
  }
}
provider "ucloud" {
  endpoint = "${cloud.api.url}"
  token    = "${cloud.api.operatorToken}"
  project  = "${id}"
}
`;
  const directory = cloud.terraform(t, { 'provider.tf': block });
  const declare = (body: string) => directory.write({ 'main.tf': `resource "ucloud_file" "this" {\n${body}\n}\n` });
  const files = () => filesOf(cloud.api.operator, id);
  const pathOf = (file: string) => join(cloud.filesDir, id, file);
  const values = async () => (await directory.resource('ucloud_file.this')).values;
  return { project: id, local, write, block, directory, declare, files, pathOf, values };
}

async function uploads() {
  const found = [];
  for await (const { value } of readAll(cloud.api.store, records.uploads)) found.push(value);
  return found;
}

t.test('the life of a file', { skip }, async (t) => {
  const { write, directory, declare, files, pathOf, values } = await scene(t, 'life');
  const source = write('disk.raw', 'first');
  declare(`source = "${source}"`);
  const plan = await directory.planned('ucloud_file.this');
  t.match(plan.after, { name: 'disk.raw', size: 5, sha256: sha256Of('first') }, 'the plan knows the content');
  await directory.apply();
  const created = await values();
  t.match(created, { name: 'disk.raw', sha256: sha256Of('first'), status: { phase: 'available' } });
  t.match((await files()).get('disk.raw'), { id: created.id, size: 5, server: created.server });
  t.equal(readFileSync(pathOf('disk.raw'), 'utf8'), 'first');
  t.strictSame(await directory.pending(), [], 'a second plan has nothing to do');

  await t.test('the same content under another path is no change', async (t) => {
    mkdirSync(join(source, '..', 'moved'));
    renameSync(source, join(source, '..', 'moved', 'disk.raw'));
    declare(`source = "${join(source, '..', 'moved', 'disk.raw')}"`);
    t.strictSame(await directory.pending(), []);
  });
  await t.test('another content is uploaded in place', async (t) => {
    declare(`source = "${write('disk.raw', 'second!')}"`);
    t.strictSame(await directory.pending(), ['ucloud_file.this: update']);
    await directory.apply();
    t.match(await values(), { id: created.id, size: 7, sha256: sha256Of('second!'), created_at: created.created_at });
    t.equal(readFileSync(pathOf('disk.raw'), 'utf8'), 'second!');
    t.strictSame(await directory.pending(), []);
  });
  await t.test('a content that was changed outside is uploaded again', async (t) => {
    writeFileSync(pathOf('disk.raw'), 'of somebody else');
    await until('the change is recorded', async () => (await files()).get('disk.raw')?.size === 16);
    t.strictSame(await directory.pending(), ['ucloud_file.this: update']);
    await directory.apply();
    t.match(await values(), { id: created.id, sha256: sha256Of('second!') });
    t.strictSame(await directory.pending(), []);
  });
  await t.test('a content that returns to an earlier one is uploaded, too', async (t) => {
    for (const content of ['third', 'second!']) {
      write('disk.raw', content);
      await directory.apply();
      t.match(await values(), { id: created.id, sha256: sha256Of(content) });
      t.equal(readFileSync(pathOf('disk.raw'), 'utf8'), content);
    }
  });
  await t.test('a file that was deleted outside is uploaded again', async (t) => {
    await cloud.api.operator.remove('files', String(created.id));
    t.strictSame(await directory.pending(), ['ucloud_file.this: create']);
    await directory.apply();
    t.equal(readFileSync(pathOf('disk.raw'), 'utf8'), 'second!');
  });
  await t.test('another name is another file', async (t) => {
    declare(`name = "100%25.raw"\nsource = "${source}"`);
    t.strictSame(await directory.pending(), ['ucloud_file.this: delete+create']);
    await directory.apply();
    t.strictSame([...(await files()).keys()], ['100%25.raw'], 'the name is that of the API');
    t.equal(readFileSync(pathOf('100%.raw'), 'utf8'), 'second!');
    t.strictSame(await directory.pending(), []);
  });
  await directory.destroy();
  t.equal((await files()).size, 0, 'the file is gone when destroy ends');
});

t.test('an unknown source makes the content unknown', { skip }, async (t) => {
  const { write, directory, files } = await scene(t, 'unknown');
  const source = write('late.raw', 'late');
  directory.write({
    'main.tf': `
resource "terraform_data" "path" {
  input = "${source}"
}
resource "ucloud_file" "this" {
  name   = "late.raw"
  source = terraform_data.path.output
}
`,
  });
  const { after_unknown } = await directory.planned('ucloud_file.this');
  t.match(after_unknown, { source: true, sha256: true, size: true });
  await directory.apply();
  t.equal((await files()).get('late.raw')?.sha256, sha256Of('late'));
  t.strictSame(await directory.pending(), []);
});

t.test('a source that cannot be uploaded is refused in the plan, and nothing is sent', { skip }, async (t) => {
  const { local, write, directory, declare } = await scene(t, 'bad');
  const before = (await uploads()).length;
  execFileSync('mkfifo', [join(local, 'pipe')]);
  write('.hidden', 'x');
  for (const [source, detail] of [
    ['missing.raw', /does not exist/],
    ['.', /a directory/],
    ['pipe', /not a regular file/],
    ['empty.raw', /an empty file/],
    ['empty.raw/x', /not a directory/],
    ['.hidden', /must not begin with a dot\. Set `name`/],
    ['a\\u0000b', /cannot be read/],
  ] as const) {
    write('empty.raw', '');
    declare(`source = "${local}/${source}"`);
    const told = (await directory.diagnostics('plan')).filter(({ severity }) => severity === 'error');
    t.match(told[0]?.detail, detail, source);
    t.ok(told.some(({ code }) => code?.includes('source')) || /u0000/.test(source), `${source}: at the attribute`);
  }
  const good = write('good.raw', 'x');
  for (const [name, detail] of [
    ['a/b', /must not contain a slash/],
    ['.a', /must not begin with a dot/],
    ['100%', /written as `%25`/],
    ['', /1 to 255 bytes/],
    ['a%0Ab', /control characters/],
  ] as const) {
    declare(`source = "${good}"\nname = "${name}"`);
    const told = await directory.diagnostics('validate');
    t.match(told.map((one) => one.detail).join('\n'), detail, `the name ${JSON.stringify(name)}`);
  }
  t.equal((await uploads()).length, before);
});

t.test('apply does not replace a file that Terraform does not know', { skip }, async (t) => {
  const { project, write, directory, declare, files, pathOf, values } = await scene(t, 'foreign');
  cloud.file(project, 'disk.raw', Buffer.from('of somebody else'));
  await until('the file is recorded', async () => (await files()).get('disk.raw'));
  const source = write('disk.raw', 'ours');
  declare(`source = "${source}"`);
  const [told] = await directory.diagnostics('apply');
  t.match(told, { summary: 'File "disk.raw" exists', detail: /Import it/ });
  t.equal(readFileSync(pathOf('disk.raw'), 'utf8'), 'of somebody else');
  t.equal((await uploads()).filter((one) => one.project === project).length, 0, 'no upload stays behind');

  write('disk.raw', 'of somebody else');
  await directory.apply();
  t.equal((await values()).id, (await files()).get('disk.raw')?.id, 'the same content needs no upload');
  t.equal((await uploads()).filter((one) => one.project === project).length, 0);
});

t.test('a file is imported by name and by id, without an upload', { skip }, async (t) => {
  const { project, write, directory, declare, files, values } = await scene(t, 'imported');
  cloud.file(project, 'disk.raw', Buffer.from('ours'));
  const { id } = await until('the file is recorded', async () => (await files()).get('disk.raw'));
  declare(`source = "${write('disk.raw', 'ours')}"`);
  for (const given of ['disk.raw', `imported/disk.raw`, id]) {
    await directory.run('import', '-no-color', 'ucloud_file.this', given);
    t.strictSame(changes(await directory.plan()), ['ucloud_file.this: update'], `${given}: only the source is added`);
    await directory.apply();
    t.equal((await values()).id, id);
    t.strictSame(await directory.pending(), []);
    await directory.run('state', 'rm', 'ucloud_file.this');
  }
  t.equal((await uploads()).filter((one) => one.project === project).length, 0);
});

t.test('an upload survives kill -9 of the API, Ctrl-C and the end of apply', { skip }, async (t) => {
  const home = temporaryDirectory(t);
  const [path, root] = [join(home, 'store.db'), join(home, 'files')];
  const store = await openEmbeddedStore({ path });
  const token = (await ensureOperatorToken(store))?.secret ?? '';
  const project = await ensureProject(store, 'default');
  await store.close();
  const start = async () => {
    const child = fork(join(import.meta.dirname, '..', 'support', 'upload-process.ts'), [path, root]);
    const ended = once(child, 'exit');
    const kill = async () => {
      child.kill('SIGKILL');
      await ended;
    };
    t.teardown(kill);
    const [{ url }] = (await within('the start', once(child, 'message'))) as [{ url: string }];
    return { url, kill };
  };
  let api = await start();
  const gateway = await startGateway(t, api.url);
  asked(t, {
    UCLOUD_ENDPOINT: gateway.url,
    UCLOUD_TOKEN: token,
    UCLOUD_PROJECT: project,
    UCLOUD_CREDENTIALS: join(home, 'credentials.json'),
    UCLOUD_MAX_RETRIES: '1',
  });
  const attached = await reattach(provider);
  t.teardown(() => attached.close());
  // Of the passed bytes, a broken connection loses those in the buffers of its sockets, at most 10 MB.
  const [size, passing] = [40_000_000, 16_000_000];
  const content = randomBytes(size);
  writeFileSync(join(home, 'disk.raw'), content);
  const main = `
terraform {
  required_providers {
    ucloud = {
      source = "ucloud.localhost/ucloud/ucloud"
    }
  }
}
resource "ucloud_file" "this" {
  source = "${join(home, 'disk.raw')}"
}
`;
  const directory = new TerraformDirectory({ 'main.tf': main }, { reattach: attached.environmentValue });
  t.teardown(() => directory.remove());

  gateway.passOnly(passing);
  const first = directory.start('apply', '-no-color', '-auto-approve');
  await until('the connection has broken', () => gateway.broken() > 0);
  await api.kill();
  const failed = await within('the end of the first apply', first.result);
  t.equal(failed.code, 1, failed.stdout);
  t.match(failed.stderr, /the API cannot be reached/);
  t.strictSame(await directory.state(), [], 'no file is in the state');
  const remembered = () => {
    const folder = join(home, 'terraform-uploads');
    return readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
  };
  const begun = remembered();
  t.equal(begun.length, 1);

  api = await start();
  gateway.leadTo(api.url);
  gateway.passOnly(passing);
  const seen = gateway.broken();
  const second = directory.start('apply', '-no-color', '-auto-approve');
  await until('the connection has broken again', () => gateway.broken() > seen);
  if (second.child.pid === undefined) throw new Error('terraform did not start');
  process.kill(-second.child.pid, 'SIGINT');
  t.not((await within('the end of the second apply', second.result)).code, 0);

  t.strictSame(remembered(), begun, 'the second apply continued the same upload');

  const before = gateway.passed();
  gateway.passOnly(Number.POSITIVE_INFINITY);
  await directory.apply();
  const sent = gateway.passed() - before;
  t.ok(sent < size, `the last apply sent only the rest, ${sent} bytes`);
  t.match((await directory.resource('ucloud_file.this')).values, { sha256: sha256Of(content), size });
  t.ok(readFileSync(join(root, project, 'disk.raw')).equals(content));
  t.strictSame(remembered(), [], 'no unfinished upload is remembered');

  await t.test('an apply continues by itself after a broken connection', async (t) => {
    const next = randomBytes(size);
    writeFileSync(join(home, 'disk.raw'), next);
    const seen = gateway.broken();
    gateway.passOnly(passing);
    const applying = directory.apply();
    await until('the connection has broken', () => gateway.broken() > seen);
    const before = gateway.passed();
    gateway.passOnly(Number.POSITIVE_INFINITY);
    await applying;
    t.ok(gateway.passed() - before < size, 'the rest alone was sent');
    t.ok(readFileSync(join(root, project, 'disk.raw')).equals(next));
  });
  await directory.destroy();
  rmSync(join(home, 'disk.raw'));
});
