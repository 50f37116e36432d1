/** Terraform states in ucloud, as docs/terraform-state.md describes. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { type ApiClient, startTestApi, type TestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { guideBlocks } from '../support/guide.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { TerraformDirectory, terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;
const exec = promisify(execFile);
const page = guideBlocks(readFileSync('docs/terraform-state.md', 'utf8'));
const block = (language: string, within: string): string => {
  const found = page.find((each) => each.language === language && each.text.includes(within));
  if (!found) throw new Error(`the page has no block of ${language} with ${within}`);
  return found.text;
};

let api: TestApi;
let member: ApiClient;
t.before(async () => {
  if (skip) return;
  api = await startTestApi(t);
  member = await api.member(api.project);
});

/** Returns the backend block of the page, for a state of this name. */
const backend = (name: string): string =>
  block('terraform', 'backend "http"')
    .replaceAll('https://cloud.example.net:7780', api.url)
    .replaceAll('/production', `/${name}`);

function directory(t: Test, files: Readonly<Record<string, string>>): TerraformDirectory {
  const made = new TerraformDirectory(files, {
    environment: { TF_HTTP_USERNAME: 'ucloud', TF_HTTP_PASSWORD: member.token ?? '' },
  });
  t.teardown(() => made.remove());
  return made;
}

/** An apply with changes lasts until the file `wait` is removed, and holds the lock. */
const main = `
variable "content" {
  default = "first"
}
resource "terraform_data" "a" {
  input            = var.content
  triggers_replace = var.content
  provisioner "local-exec" {
    command = "touch begun; while [ -e wait ]; do sleep 0.05; done"
  }
}
output "content" {
  value = terraform_data.a.output
}
`;

const flat = (text: string): string => text.replace(/[\s│╷╵]+/g, ' ');

interface Version {
  readonly version: number;
  readonly serial: number;
}
const versionsOf = async (name: string): Promise<readonly Version[]> =>
  (await member.list(`terraform-states/${name}/versions`)).items as unknown as readonly Version[];

const contentOf = async (name: string, version: number): Promise<unknown> => {
  const { body } = await member.expect(200, 'GET', `/v1/terraform-states/${name}/versions/${version}`);
  return (body as unknown as { outputs: Record<string, { value: unknown }> }).outputs.content?.value;
};

t.test('init, apply, apply again, destroy', { skip }, async (t) => {
  const work = directory(t, { 'main.tf': main, 'backend.tf': backend('plain') });
  await work.run('init', '-no-color');
  await work.apply();
  t.notOk(existsSync(join(work.path, 'terraform.tfstate')), 'nothing stays here');
  t.strictSame(await work.pending(), []);
  await work.apply('-var', 'content=second');
  const versions = await versionsOf('plain');
  t.ok(versions.length >= 2, 'both applies are kept');
  t.strictSame(
    versions.map(({ version, serial }) => [version, serial]),
    versions.map((_, i) => [i + 1, i + 1]),
  );
  t.equal(await contentOf('plain', 1), 'first');
  t.equal(await contentOf('plain', versions.length), 'second');
  t.match((await member.list('terraform-states?name=plain')).items, [{ version: versions.length, lock: undefined }]);

  const elsewhere = directory(t, { 'main.tf': main, 'backend.tf': backend('plain') });
  await elsewhere.run('init', '-no-color');
  t.strictSame(await elsewhere.outputs(), { content: 'second' }, 'another machine goes on from there');
  await elsewhere.destroy();
  t.strictSame(await work.state(), []);
});

t.test('two applies at once', { skip }, async (t) => {
  const files = { 'main.tf': main, 'backend.tf': backend('busy') };
  const [first, second, third] = [directory(t, files), directory(t, files), directory(t, files)];
  await Promise.all([first, second, third].map((work) => work.run('init', '-no-color')));
  first.write({ wait: '' });
  const running = first.start('apply', '-no-color', '-auto-approve');
  await until('the first apply is at work', () => existsSync(join(first.path, 'begun')));

  const [state] = (await member.list('terraform-states?name=busy')).items;
  const { lock } = state as unknown as { lock: { ID: string; Who: string; Operation: string } };
  t.equal(lock.Operation, 'OperationTypeApply');
  const refused = await second.try('apply', '-no-color', '-auto-approve', '-var', 'content=refused');
  t.equal(refused.code, 1);
  t.ok(
    flat(refused.stderr).includes(`already locked: ID=${lock.ID} (held by ${lock.Who} since`),
    'the second is told who holds the lock',
  );

  const waiting = third.start('apply', '-no-color', '-auto-approve', '-lock-timeout=120s', '-var', 'content=patient');
  rmSync(join(first.path, 'wait'));
  t.match(await running.result, { code: 0 });
  t.match(await waiting.result, { code: 0 }, 'the third has waited');
  const count = (await versionsOf('busy')).length;
  const contents = await Promise.all(Array.from({ length: count }, (_, i) => contentOf('busy', i + 1)));
  t.ok(contents.includes('first'), 'the history has what the first has written');
  t.equal(contents.at(-1), 'patient', 'and what came after it');
  t.notOk(contents.includes('refused'));
});

t.test('a Terraform that was killed leaves its lock, which can be broken', { skip }, async (t) => {
  const work = directory(t, { 'main.tf': main, 'backend.tf': backend('orphan'), wait: '' });
  await work.run('init', '-no-color');
  const { child, result } = work.start('apply', '-no-color', '-auto-approve');
  await until('it is at work', () => existsSync(join(work.path, 'begun')));
  process.kill(-(child.pid ?? 0), 'SIGKILL');
  await result;
  const refused = await work.try('plan', '-no-color');
  const id = /already locked: ID=([0-9a-f-]{36}) \(held by/.exec(flat(refused.stderr))?.[1] ?? 'no ID';
  rmSync(join(work.path, 'wait'));
  await work.run('force-unlock', '-no-color', '-force', id);
  await work.apply();
  t.strictSame(await work.outputs(), { content: 'first' });
  const events = (await member.list('events', '?limit=1000')).items;
  t.ok(events.some(({ reason, message }) => reason === 'lock_broken' && message.includes(id)));
});

t.test('local state moves over', { skip }, async (t) => {
  const work = directory(t, { 'main.tf': main });
  await work.run('init', '-no-color');
  await work.apply();
  work.write({ 'backend.tf': backend('moved') });
  await work.run('init', '-no-color', '-migrate-state', '-force-copy');
  t.match((await member.list('terraform-states?name=moved')).items, [{ version: 1, lock: undefined }]);
  t.strictSame(await work.pending(), [], 'nothing is made anew');

  const stranger = directory(t, { 'main.tf': main });
  await stranger.run('init', '-no-color');
  await stranger.apply();
  stranger.write({ 'backend.tf': backend('moved') });
  const refused = await stranger.try('init', '-no-color', '-migrate-state', '-force-copy');
  t.equal(refused.code, 1, 'the state of another configuration does not overwrite this one');
  t.match(flat(refused.stderr), /409/);
  t.strictSame(await work.pending(), []);
});

t.test('a large state', { skip }, async (t) => {
  const work = directory(t, {
    'main.tf': 'resource "terraform_data" "large" {\n  input = file("large.txt")\n}\n',
    'backend.tf': backend('large'),
    'large.txt': randomBytes(2_000_000).toString('base64'),
  });
  await work.run('init', '-no-color');
  await work.apply();
  const [state] = (await member.list('terraform-states?name=large')).items;
  t.ok(Number(state?.size) > 5_000_000, `${state?.size} bytes`);
  t.strictSame(await work.pending(), []);
});

t.test('the commands of the page', { skip }, async (t) => {
  const work = directory(t, { 'main.tf': main, 'backend.tf': backend('production') });
  await work.run('init', '-no-color');
  await work.apply();
  await work.apply('-var', 'content=second');
  await member.expect(200, 'POST', '/v1/terraform-states/other/lock', { ID: 'a', Who: 'alice@laptop' });

  const credentials = join(temporaryDirectory(t), 'credentials.json');
  writeFileSync(credentials, JSON.stringify({ endpoint: api.url, token: api.operatorToken, project: api.project }));
  const path = `${resolve('node_modules/.bin')}:${process.env.PATH}`;
  const run = async (line: string) => {
    // The command is installed. Without it, npx would look into the registry.
    const env = { PATH: path, UCLOUD_CREDENTIALS: credentials };
    const { stdout } = await exec('sh', ['-c', line.replace('npx ucloud', resolve('backend/cli/ucloud'))], {
      env,
      cwd: work.path,
    });
    return stdout;
  };
  const [list, versions, read, write, unlock, remove, ...more] = block('sh', 'npx ucloud')
    .trim()
    .split('\n')
    .map(String);
  t.equal(more.length, 0);
  t.match(await run(list ?? ''), /production .*\n.*other .*alice@laptop|other .*alice@laptop.*\n.*production /s);
  const before = (await run(versions ?? '')).trim().split('\n').length;
  await run(read ?? '');
  await run(write ?? '');
  t.equal((await run(versions ?? '')).trim().split('\n').length, before + 1);
  t.strictSame(await work.outputs(), { content: 'first' }, 'back at the first version');
  await run(unlock ?? '');
  await run(remove ?? '');
  t.strictSame(await work.outputs(), {});
});

t.test('no new state beyond the quota of the project', { skip }, async (t) => {
  t.teardown(() => api.operator.update('projects', api.project, { quota: null }));
  await api.operator.update('projects', api.project, { quota: { terraform_states: 0 } });
  const work = directory(t, { 'main.tf': main, 'backend.tf': backend('surplus') });
  await work.run('init', '-no-color');
  const refused = await work.try('apply', '-no-color', '-auto-approve');
  t.equal(refused.code, 1);
  t.match(flat(refused.stderr), /acquiring the state lock.*invalid auth/, 'the words of Terraform for every 403');
  await api.operator.update('projects', api.project, { quota: null });
  await work.apply();
  await api.operator.update('projects', api.project, { quota: { terraform_states: 0 } });
  await work.apply('-var', 'content=second');
  t.equal((await versionsOf('surplus')).length > 1, true, 'a state that is there can be written');
});
