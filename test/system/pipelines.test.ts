/**
 * The guide to CI/CD pipelines. The test runs its set-up and every script of its pipeline files, with a cloud that has TLS,
 * serves its provider and stores the state.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, delimiter, join, resolve } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import t, { type Test } from 'tap';
import { buildProvider } from '../../provider/build.ts';
import { packageProvider } from '../../provider/package.ts';
import { type Cloud, setUpCloud, startCloud } from '../../scripts/demo/cloud.ts';
import { asked } from '../support/cloud.ts';
import { rawDisk } from '../support/disk-images.ts';
import { makeCertificates } from '../support/etcd.ts';
import { until } from '../support/eventually.ts';
import { gpgMissing, makeSigningKey } from '../support/gpg.ts';
import { runGuide } from '../support/guide.ts';
import { githubJobs, gitlabJobs, type JobResult, type PipelineEvent, runJob } from '../support/pipelines.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = gpgMissing() ?? terraformMissing() ?? false;
const files = { github: 'docs/guides/ci-cd/github-actions.yml', gitlab: 'docs/guides/ci-cd/gitlab-ci.yml' };
type System = keyof typeof files;

let cloud: Cloud;
let authority: string;
/** The files in the repository of the configuration. */
let repository: string;
let tokens: { plan: string; apply: string; state: string };
const passphrase = 'correct horse battery staple';
const userDataSecret = 'swordfish-in-user-data';
/** An apply that creates or changes `terraform_data.hold` lasts until the file `wait` is removed. */
let hold: string;
let machine: NodeJS.ProcessEnv;

t.before(async () => {
  if (skip) return;
  const directory = temporaryDirectory(t);
  await makeCertificates(directory);
  authority = join(directory, 'ca.pem');
  const packages = join(directory, 'packages');
  const key = await makeSigningKey(t);
  await packageProvider(await buildProvider(join(directory, 'dist')), { output: packages, key: key.file });
  asked(t, { NODE_EXTRA_CA_CERTS: authority });
  const data = join(directory, 'data');
  cloud = await startCloud(data, [
    ...['--hypervisor', 'simulated', '--listen', '[::]:0', '--provider-directory', packages],
    ...['--tls-cert', join(directory, 'server.pem'), '--tls-key', join(directory, 'server-key.pem')],
  ]);
  t.teardown(() => cloud.stop());
  const image = join(directory, 'disk.raw');
  writeFileSync(image, rawDisk());
  await setUpCloud(cloud, data, image);
  hold = temporaryDirectory(t);
  repository = temporaryDirectory(t);
  machine = {
    PATH: [resolve('node_modules/.bin'), process.env.PATH].join(delimiter),
    CHECKPOINT_DISABLE: '1',
    HOLD: hold,
  };
});

const host = () => `localhost:${new URL(cloud.endpoint).port}`;
const main = (name = 'web-1') =>
  `${readFileSync(join(repository, 'main.tf.guide'), 'utf8').replace('"web-1"', `"${name}"`)}
resource "terraform_data" "hold" {
  triggers_replace = "${name}"
  provisioner "local-exec" {
    command = "touch $HOLD/begun; while [ -e $HOLD/wait ]; do sleep 0.05; done"
  }
}
`;

t.test('the set-up of the guide', { skip }, async (t) => {
  await runGuide(t, 'docs/guides/ci-cd-pipeline.md', temporaryDirectory(t), {
    directory: repository,
    environment: {
      ...machine,
      HOME: temporaryDirectory(t),
      SSL_CERT_FILE: authority,
      NODE_EXTRA_CA_CERTS: authority,
      UCLOUD_CA_FILE: authority,
      UCLOUD_CREDENTIALS: cloud.credentials,
      UCLOUD_ENDPOINT: cloud.endpoint,
    },
    adapt: (text) => text.replaceAll('cloud.example.net', host()).replaceAll('npx ucloud', 'ucloud'),
  });
  const secret = (name: string) => {
    const file = join(repository, `ci-${name}.json`);
    const { secret } = JSON.parse(readFileSync(file, 'utf8')) as { secret: string };
    rmSync(file);
    return secret;
  };
  tokens = { plan: secret('plan'), apply: secret('apply'), state: secret('state') };
  t.ok(existsSync(join(repository, '.terraform.lock.hcl')), 'the lock file can be committed');
  rmSync(join(repository, '.terraform'), { recursive: true });
  const guide = readFileSync(join(repository, 'main.tf'), 'utf8');
  writeFileSync(
    join(repository, 'main.tf.guide'),
    guide.replace(/(\n {2}interfaces = .*)/, `$1\n  user_data  = "#!/bin/sh\\n# ${userDataSecret}\\n"`),
  );
});

/** One run of the pipeline: its jobs, and the artifacts between them. */
class Run {
  readonly artifacts: string;
  readonly jobs: ReturnType<typeof githubJobs>;
  readonly #t: Test;
  readonly #repository: string;

  constructor(t: Test, system: System, event: PipelineEvent['event'], files: Readonly<Record<string, string>>) {
    this.#t = t;
    this.#repository = temporaryDirectory(t);
    this.artifacts = temporaryDirectory(t);
    for (const name of ['versions.tf', '.terraform.lock.hcl'])
      writeFileSync(join(this.#repository, name), readFileSync(join(repository, name)));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.#repository, name), text);
    this.jobs = system === 'github' ? github(event) : gitlab(event);
  }

  async run(name: string, log?: (text: string) => void): Promise<JobResult> {
    const job = this.jobs.find((each) => each.name === name);
    if (!job) throw new Error(`this event starts no job ${name}`);
    const scratch = temporaryDirectory(this.#t);
    const options = { repository: this.#repository, artifacts: this.artifacts, scratch, machine };
    const result = await runJob(job, { ...options, ...(log && { log }) });
    const { plan, apply, state } = tokens;
    for (const secret of [plan, apply, state, passphrase, userDataSecret, cloud.token]) {
      this.#t.notOk(result.log.includes(secret), `${name} prints no secret`);
      this.#t.notOk(result.summary.includes(secret), `${name} shows no secret`);
      this.#t.notOk(
        filesBelow(this.artifacts).some((file) => readFileSync(file).includes(secret)),
        'nor keeps one',
      );
    }
    return { ...result, log: stripVTControlCharacters(result.log) };
  }
}

const filesBelow = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

const github = (event: PipelineEvent['event']) =>
  githubJobs(files.github, {
    event,
    vars: { UCLOUD_ENDPOINT: `https://${host()}`, UCLOUD_CA: readFileSync(authority, 'utf8').trim() },
    secrets: { UCLOUD_PLAN_TOKEN: tokens.plan, UCLOUD_STATE_TOKEN: tokens.state, PLAN_PASSPHRASE: passphrase },
    environments: { production: { UCLOUD_APPLY_TOKEN: tokens.apply } },
  });
const gitlab = (event: PipelineEvent['event']) =>
  gitlabJobs(files.gitlab, {
    event,
    variables: {
      UCLOUD_ENDPOINT: `https://${host()}`,
      UCLOUD_CA_FILE: authority,
      UCLOUD_PLAN_TOKEN: tokens.plan,
      UCLOUD_STATE_TOKEN: tokens.state,
    },
    protected: { UCLOUD_APPLY_TOKEN: tokens.apply, PLAN_PASSPHRASE: passphrase },
  });

/** Names of the VMs that the project has. */
async function vms(): Promise<{ id: string; name: string; description: string }[]> {
  const { items } = (await cloud.ucloud('vm', 'list', '--project', 'shop')) as {
    items: { id: string; name: string; description: string }[];
  };
  return items;
}

const succeeds = (t: Test, result: JobResult, what: string) =>
  t.equal(result.code, 0, what, { log: result.log.slice(-3000) });

t.test('a token that may only plan changes nothing', { skip }, async (t) => {
  const merged = new Run(t, 'github', 'push to main', { 'main.tf': readFileSync(join(repository, 'main.tf'), 'utf8') });
  succeeds(t, await merged.run('plan'), 'it plans');
  const apply = merged.jobs.find(({ name }) => name === 'apply');
  if (!apply) throw new Error('no job apply');
  const steps = apply.steps.map((step) =>
    step.kind === 'script' ? { ...step, environment: { ...step.environment, UCLOUD_TOKEN: tokens.plan } } : step,
  );
  const options = { repository, artifacts: merged.artifacts, scratch: temporaryDirectory(t), machine };
  const { code, log } = await runJob({ ...apply, steps }, options);
  t.equal(code, 1);
  t.match(log, /forbidden|may not|403/i);
  t.strictSame(await vms(), []);
});

for (const system of ['gitlab', 'github'] as const) {
  t.test(`${system}: from a merge request to what is applied`, { skip }, async (t) => {
    const request = new Run(t, system, 'merge request', { 'main.tf': main() });
    t.strictSame(
      request.jobs.map(({ name }) => name),
      ['plan'],
    );
    const shown = await request.run('plan');
    succeeds(t, shown, 'a merge request is planned');
    const text = filesBelow(request.artifacts).find((file) => file.endsWith('plan.txt')) ?? 'no text';
    t.match(readFileSync(text, 'utf8'), /Plan: 4 to add, 0 to change, 0 to destroy\./);
    if (system === 'github') t.match(shown.summary, /Plan: 4 to add/, 'on the page of the run');
    t.strictSame(await vms(), [], 'and nothing else is done');
    t.notOk(
      filesBelow(request.artifacts).some((file) => file.includes('tfplan')),
      'the plan itself is kept nowhere',
    );

    const merged = new Run(t, system, 'push to main', { 'main.tf': main() });
    t.strictSame(
      merged.jobs.map(({ name, environment }) => [name, environment]),
      [
        ['plan', undefined],
        ['apply', 'production'],
      ],
    );
    succeeds(t, await merged.run('plan'), 'what is merged is planned');
    t.strictSame(await vms(), []);
    const kept = filesBelow(merged.artifacts);
    t.strictSame(kept.map((file) => basename(file)).toSorted(), ['plan.tfplan.gpg', 'plan.txt']);
    // A plan is a zip archive; the first bit of a message of OpenPGP is set (RFC 9580, section 4.2).
    for (const file of kept.filter((file) => file.endsWith('.gpg')))
      t.ok((readFileSync(file)[0] ?? 0) & 0x80, 'encrypted');
    const applied = await merged.run('apply');
    succeeds(t, applied, 'and applied');
    t.match(applied.log, /Apply complete! Resources: 4 added/);
    t.match(await vms(), [{ name: 'web-1' }]);
  });

  t.test(`${system}: drift`, { skip }, async (t) => {
    const nightly = () => new Run(t, system, 'schedule', { 'main.tf': main() }).run('drift');
    t.equal((await nightly()).code, 0, 'there is none');
    const [vm] = await vms();
    await cloud.ucloud('vm', 'update', String(vm?.id), '--description', 'changed by hand');
    const drifted = await nightly();
    t.equal(drifted.code, 2, 'a VM was changed by hand');
    t.match(drifted.log, /- description += "changed by hand"|description += "changed by hand" -> /);
  });

  // The other one begins from nothing again.
  if (system === 'gitlab') {
    t.test('all is taken away by a commit', { skip }, async (t) => {
      const merged = new Run(t, system, 'push to main', { 'main.tf': '' });
      succeeds(t, await merged.run('plan'), 'planned');
      succeeds(t, await merged.run('apply'), 'applied');
      t.strictSame(await vms(), []);
    });
  }
}

t.test('two pipelines at once', { skip }, twoAtOnce);

async function twoAtOnce(t: Test): Promise<void> {
  const first = new Run(t, 'github', 'push to main', { 'main.tf': main('web-2') });
  const overtaken = new Run(t, 'github', 'push to main', { 'main.tf': main('web-3') });
  succeeds(t, await first.run('plan'), 'the first is planned');
  succeeds(t, await overtaken.run('plan'), 'another too, from the same state');

  writeFileSync(join(hold, 'wait'), '');
  rmSync(join(hold, 'begun'), { force: true });
  const applying = first.run('apply');
  await until('the first apply is at work', () => existsSync(join(hold, 'begun')), 60);
  const second = new Run(t, 'github', 'merge request', { 'main.tf': main('web-2') });
  let said = '';
  const planning = second.run('plan', (text) => {
    said += text;
  });
  await until('the second waits for the lock', () => said.includes('Acquiring state lock'), 60);
  t.notMatch(said, /Plan:|No changes/);
  rmSync(join(hold, 'wait'));
  succeeds(t, await applying, 'the first ends');
  const waited = await planning;
  succeeds(t, waited, 'and then the second');
  t.match(waited.log, /No changes/, 'which sees what the first has done');
  t.match(await vms(), [{ name: 'web-2' }]);

  const stale = await overtaken.run('apply');
  t.equal(stale.code, 1, 'a plan from before is not applied any more');
  t.match(stale.log, /Saved plan is stale/);
  t.match(await vms(), [{ name: 'web-2' }]);
}
