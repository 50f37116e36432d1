/**
 * The whole life of each resource, with the real Terraform. test/support/acceptance.ts defines the resources and the steps.
 * Each step is one run of Terraform for all resources. The name of each test contains its resource and its step.
 */

import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import { resources } from '../../provider/resources/index.ts';
import { creatable, type Noun, schemaOf } from '../../provider/schema/resources.gen.ts';
import {
  type AcceptanceCase,
  type AcceptanceStep,
  acceptanceCases,
  acceptanceSteps,
  bareBody,
  notApplicable,
  settledBody,
} from '../support/acceptance.ts';
import type { Body } from '../support/api.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { testPublicKey as key } from '../support/ssh-keys.ts';
import { changes, type StateResource, type TerraformDirectory, terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;
const cases = Object.entries(acceptanceCases) as [Noun, AcceptanceCase][];
const slowCases = cases.flatMap(([noun, { slow }]) => (slow ? [{ noun, slow }] : []));

const block = (noun: string, name: string, body: string) => `resource "ucloud_${noun}" "${name}" {\n ${body}\n}\n`;
const demo =
  'data "ucloud_image" "demo" {\n name = "demo"\n}\ndata "ucloud_volume" "spare" {\n name = "spare"\n}\ndata "ucloud_snapshot" "spare" {\n name = "spare"\n}\ndata "ucloud_vm" "spare" {\n name = "spare"\n}\ndata "ucloud_product" "spare" {\n name = "spare"\n}\n';
const configuration = (of: (life: AcceptanceCase) => string) =>
  demo + cases.map(([noun, life]) => block(noun, 'this', of(life))).join('');

const find = (state: readonly StateResource[], noun: Noun, name = 'this'): StateResource => {
  const found = state.find(({ address }) => address === `ucloud_${noun}.${name}`);
  if (!found) throw new Error(`no ucloud_${noun}.${name} in the state`);
  return found;
};
const fieldsOf = (noun: Noun) => Object.entries(schemaOf(noun).fields);
const updatable = (noun: Noun): string[] =>
  fieldsOf(noun).flatMap(([name, { create, update }]) => (create && update ? [name] : []));
const immutable = (noun: Noun): string[] =>
  fieldsOf(noun).flatMap(([name, { create, update }]) => (create && !update ? [name] : []));

/** Returns the value as the API shows it: it leaves out what Terraform shows as null. */
const withoutNulls = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value), (_name, each: unknown) => (each === null ? undefined : each));

async function seen(cloud: TestCloud, noun: Noun, id: unknown): Promise<Body | undefined> {
  const answer = await cloud.api.operator.request('GET', `${schemaOf(noun).path}/${String(id)}`);
  return answer.status === 404 ? undefined : answer.body;
}

/** Returns a provider block for an operator, with the project of its objects. */
const operatorBlock = (cloud: TestCloud): string => `
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
  project  = "${cloud.project}"
}`;

/** Creates a snapshot of a VM, with everything that the VM needs. */
async function createSnapshot({ member }: TestCloud, name: string): Promise<void> {
  const prefix = await member.create('prefixes', { name, length: 60 });
  const network = await member.create('networks', { name, prefix: prefix.id });
  const { items } = await member.list('images', '?name=demo');
  const vm = await member.create('vms', { name, image: items[0]?.id, interfaces: [{ network: network.id }] });
  await until('the VM runs', async () => (await member.get('vms', vm.id)).status.phase === 'running');
  await member.create('snapshots', { name, vm: vm.id });
}

/** The completed tests, as `noun step`. */
const done = new Set<string>();

/** Registers a test for each resource with this step. */
async function each(
  t: Test,
  step: AcceptanceStep,
  check: (t: Test, noun: Noun, life: AcceptanceCase) => Promise<void> | void,
): Promise<void> {
  for (const [noun, life] of cases) {
    if (notApplicable(step, life) !== undefined) continue;
    await t.test(`ucloud_${noun}: ${acceptanceSteps[step].says}`, async (t) => check(t, noun, life));
    done.add(`${noun} ${step}`);
  }
}

t.test('every resource of openapi.yaml has a case', async (t) => {
  t.strictSame(Object.keys(acceptanceCases).toSorted(), [...creatable].toSorted());
  // The API cannot create a file, so the common steps do not fit. file.test.ts takes it through its life.
  t.strictSame(Object.keys(resources).toSorted(), [...creatable, 'file'].toSorted());
});

t.test('each resource, through its life', { skip }, async (t) => {
  const cloud = await startTestCloud(t);
  await cloud.api.operator.expect(200, 'PATCH', '/v1/settings', { selectable_host_labels: ['gpu'] });
  cloud.file(cloud.project, 'own.raw');
  await cloud.member.create('volumes', { name: 'spare', size: '1GiB' });
  await createSnapshot(cloud, 'spare');
  const { operator } = cloud.api;
  await operator.create('products', { name: 'spare', meter: 'booked' });
  const party = {
    ...{ name: 'payer', legal_name: 'Payer AG', email: 'a@example.com' },
    address: { street: 'Weg 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  };
  const entity = await operator.create('legal-entities', { ...party, number_series: 'P-' });
  const payer = await operator.create('billing-accounts', { ...party, currency: 'CHF', legal_entity: entity.id });
  await operator.update('projects', cloud.project, { billing_account: payer.id });
  const provider = operatorBlock(cloud);
  const start = (main: string) => cloud.terraform(t, { 'provider.tf': provider, 'main.tf': main });
  const directory = start(configuration(({ create }) => create));
  let state: StateResource[] = [];
  const values = (noun: Noun) => find(state, noun).values;

  /** Checks that the API and the state agree, except for volatile values and other spellings. */
  const agrees = async (t: Test, noun: Noun, { spelled = [] }: AcceptanceCase) => {
    const body = (await seen(cloud, noun, values(noun).id)) as unknown as Record<string, unknown>;
    for (const [name, field] of fieldsOf(noun)) {
      if (!field.always || field.volatile || spelled.includes(name)) continue;
      t.same(body[name], withoutNulls(values(noun)[name]), name);
    }
  };
  /** Plans once for all resources. The plan names the resources with changes. */
  const nothingPending = async (t: Test, step: AcceptanceStep, of: TerraformDirectory = directory) => {
    const pending = await of.pending();
    await each(t, step, (t, noun) => {
      t.strictSame(
        pending.filter((change) => change.startsWith(`ucloud_${noun}.`)),
        [],
      );
    });
    t.strictSame(pending, []);
  };

  await t.test('create', async (t) => {
    await directory.apply();
    state = await directory.state();
    await each(t, 'create', agrees);
    await nothingPending(t, 'createdPlan');
    t.equal(values('vm').memory, '1024MiB', 'the spelling of the configuration stays');
    t.match(values('vm').status, { phase: 'running' }, 'apply has waited until the VM runs');
    t.match(values('image').status, { phase: 'available' }, 'and until the image can be used');
    t.match(values('token').secret, /./, 'the secret of a token is shown once, and kept');
  });

  await t.test('update', async (t) => {
    const before = state;
    directory.write({ 'main.tf': configuration(({ update }) => update) });
    const planned = await directory.pending();
    t.strictSame(planned.toSorted(), cases.map(([noun]) => `ucloud_${noun}.this: update`).toSorted(), 'all in place');
    await directory.apply();
    state = await directory.state();
    await each(t, 'update', async (t, noun, life) => {
      const old = find(before, noun).values;
      for (const name of updatable(noun)) t.notSame(values(noun)[name], old[name], `${name} has changed`);
      t.equal(values(noun).id, old.id, 'it is the same object');
      await agrees(t, noun, life);
    });
    await nothingPending(t, 'updatedPlan');
    t.equal(values('token').secret, find(before, 'token').values.secret, 'the secret stays in the state');
  });

  await t.test('taken out', async (t) => {
    const before = state;
    const bare = cases.map(([noun, life]) => {
      const kept = fieldsOf(noun).flatMap(([name, { create, update }]) =>
        create === 'required' || !update || life.bound?.includes(name) ? [name] : [],
      );
      return block(noun, 'this', bareBody(life, new Set(kept)));
    });
    directory.write({ 'main.tf': demo + bare.join('') });
    await directory.apply();
    state = await directory.state();
    await each(t, 'takenOut', async (t, noun, life) => {
      const old = find(before, noun).values;
      t.equal(values(noun).id, old.id, 'it is the same object');
      for (const [name, field] of fieldsOf(noun)) {
        if (!field.update || field.create === 'required' || life.bound?.includes(name)) continue;
        if (field.fields && 'default' in field)
          t.same(
            Object.values(values(noun)[name] ?? {}).filter((one) => one !== null),
            [],
            name,
          );
        else {
          const stays = field.always || field.serverChosen || field.sensitive;
          t.same(values(noun)[name], 'default' in field ? field.default : stays ? old[name] : null, name);
        }
      }
      await agrees(t, noun, life);
    });
    await nothingPending(t, 'takenOutPlan');
  });

  const settled = configuration(settledBody);
  directory.write({ 'main.tf': settled });
  await directory.apply();
  state = await directory.state();

  await t.test('replace', async (t) => {
    directory.write({ 'main.tf': configuration(({ replace, update }) => replace ?? update) });
    const plan = await directory.plan();
    await each(t, 'replace', (t, noun, { replacedWith = [] }) => {
      const found = plan.resource_changes?.find(({ address }) => address === `ucloud_${noun}.this`)?.change;
      t.strictSame(found?.actions, ['delete', 'create']);
      const paths = new Set((found?.replace_paths ?? []).map(([name]) => String(name)));
      t.strictSame([...paths].toSorted(), [...immutable(noun), ...replacedWith].toSorted());
    });
    directory.write({ 'main.tf': settled });
  });

  await t.test('import', async (t) => {
    const imports = (by: 'id' | 'name') =>
      cases
        .map(([noun, { unnamed }]) => {
          const id = values(noun)[unnamed ? 'id' : by];
          return `import {\n to = ucloud_${noun}.this\n id = "${id}"\n}`;
        })
        .join('\n');
    for (const [by, step] of [
      ['id', 'importById'],
      ['name', 'importByName'],
    ] as const) {
      const other = start(settled);
      other.write({ 'import.tf': imports(by) });
      t.strictSame(changes(await other.plan()), [], 'the plan only imports');
      await other.apply();
      const imported = await other.state();
      await each(t, step, (t, noun, { spelled = [] }) => {
        const { secret: _shownOnce, ...expected } = values(noun);
        for (const name of spelled) delete expected[name];
        t.match(find(imported, noun).values, expected);
      });
      t.strictSame(await other.pending(), []);
    }
    const generating = start(imports('id'));
    await generating.run('plan', '-no-color', '-generate-config-out=generated.tf');
    t.match(await generating.apply(), `${cases.length} imported, 0 added, 0 changed, 0 destroyed`);
    await nothingPending(t, 'generated', generating);

    const missing = start(settled);
    missing.write({ 'import.tf': 'import {\n to = ucloud_vm.this\n id = "nowhere"\n}' });
    t.match(await missing.diagnostics('plan'), [{ severity: 'error', summary: 'There is no ucloud_vm "nowhere"' }]);

    // The provider has another project, which also contains a network of this name.
    const [other, name] = [cloud.api.project, String(values('network').name)];
    const namesake = await cloud.api.operator.create('prefixes', { name, project: other });
    await cloud.api.operator.create('networks', { name, project: other, prefix: namesake.id });
    for (const owner of ['test', cloud.project]) {
      const scoped = start('');
      scoped.write({
        'provider.tf': provider.replace(`"${cloud.project}"`, `"${other}"`),
        'import.tf': `import {\n to = ucloud_network.this\n id = "${owner}/${name}"\n}`,
      });
      await scoped.run('plan', '-no-color', '-out=test.tfplan', '-generate-config-out=generated.tf');
      await scoped.run('apply', '-no-color', 'test.tfplan');
      t.equal((await scoped.resource('ucloud_network.this')).values.id, values('network').id, `${owner}/${name}`);
    }
    missing.write({ 'import.tf': 'import {\n to = ucloud_vm.this\n id = "nobody/this"\n}' });
    t.match(await missing.diagnostics('plan'), [{ severity: 'error', summary: 'There is no project nobody' }]);
  });

  await t.test('deleted outside', async (t) => {
    const before = state;
    for (const [noun] of cases.toReversed()) {
      await cloud.api.operator.remove(schemaOf(noun).path.replace('/v1/', ''), String(values(noun).id));
    }
    const planned = await directory.pending();
    await directory.apply();
    state = await directory.state();
    await each(t, 'deletedOutside', async (t, noun, life) => {
      t.ok(planned.includes(`ucloud_${noun}.this: create`), 'the plan makes it anew');
      t.not(values(noun).id, find(before, noun).values.id);
      await agrees(t, noun, life);
    });
    t.strictSame(await directory.pending(), []);
  });

  await t.test('a create that fails', async (t) => {
    const slowBlocks = (body: 'fails' | 'goesOn') => slowCases.map(({ noun, slow }) => block(noun, 'slow', slow[body]));
    directory.write({ 'main.tf': settled + slowBlocks('fails').join('') });
    const told = await directory.diagnostics('apply');
    const failed = await directory.state();
    const planned = await directory.pending();
    directory.write({ 'main.tf': settled + slowBlocks('goesOn').join('') });
    await directory.apply();
    const mended = await directory.state();
    await each(t, 'tainted', async (t, noun, { slow }) => {
      const { tainted, values } = find(failed, noun, 'slow');
      const error = told.find(({ severity, address }) => severity === 'error' && address === `ucloud_${noun}.slow`);
      t.match(error?.summary, slow?.error);
      t.equal(tainted, true);
      t.match(values.id, /./);
      t.ok(planned.includes(`ucloud_${noun}.slow: delete+create`), 'the next plan replaces it');
      t.notOk(find(mended, noun, 'slow').tainted);
      t.not(find(mended, noun, 'slow').values.id, values.id);
      t.equal(await seen(cloud, noun, values.id), undefined, 'nothing is left of the first');
    });
    directory.write({ 'main.tf': settled });
    await directory.apply();
    t.strictSame(await directory.pending(), []);
  });

  await t.test('an interrupted create', async (t) => {
    const slowBlocks = (body: 'waits' | 'goesOn') => slowCases.map(({ noun, slow }) => block(noun, 'slow', slow[body]));
    await cloud.scanner.stop(); // so that an image is not imported before it can be interrupted
    directory.write({ 'main.tf': settled + slowBlocks('waits').join('') });
    const { child, result } = directory.start('apply', '-no-color', '-auto-approve');
    const ids = new Map<Noun, string>();
    for (const { noun } of slowCases) ids.set(noun, await cloud.appears(schemaOf(noun).path, 'late'));
    if (child.pid === undefined) throw new Error('terraform did not start');
    process.kill(-child.pid, 'SIGINT');
    const { stdout, stderr } = await result;
    t.match(stdout + stderr, /Interrupt/);
    const interrupted = await directory.state();
    await cloud.scanner.start();
    // Terraform does not wait for an existing image.
    await until('the image is imported', async () => {
      const { status } = await cloud.api.operator.get('images', ids.get('image') ?? '');
      return (status as { phase: string }).phase === 'available';
    });
    directory.write({ 'main.tf': settled + slowBlocks('goesOn').join('') });
    await directory.apply();
    const after = await directory.state();
    await each(t, 'interrupted', (t, noun) => {
      const then = find(interrupted, noun, 'slow');
      t.equal(then.values.id, ids.get(noun), 'the state knows it');
      t.notOk(then.tainted, 'nothing is wrong with it');
      t.equal(find(after, noun, 'slow').values.id, ids.get(noun));
      t.match(find(after, noun, 'slow').values.status, { phase: /^(running|available)$/ });
    });
    t.strictSame(await directory.pending(), []);
  });

  await t.test('destroy', async (t) => {
    await directory.destroy();
    await each(t, 'destroy', async (t, noun) => {
      t.equal(await seen(cloud, noun, values(noun).id), undefined);
    });
    t.strictSame(await directory.state(), []);
  });

  const all = cases.flatMap(([noun, life]) =>
    (Object.keys(acceptanceSteps) as AcceptanceStep[])
      .filter((step) => notApplicable(step, life) === undefined)
      .map((step) => `${noun} ${step}`),
  );
  t.strictSame([...done].toSorted(), all.toSorted(), 'every step of the table has been taken');
});

t.test('data sources find by id and by name', { skip: terraformMissing() ?? false }, async (t) => {
  const cloud = await startTestCloud(t);
  const { member } = cloud;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  await member.create('ssh-keys', { name: 'alice', public_key: `${key} alice` });
  const directory = cloud.configuration(
    t,
    `
data "ucloud_image" "public" { name = "demo" }
data "ucloud_prefix" "by_id" { id = "${prefix.id}" }
data "ucloud_network" "by_name" { name = "web" }
data "ucloud_ssh_key" "alice" { name = "alice" }
output "found" {
  value = [data.ucloud_image.public.status.phase, data.ucloud_prefix.by_id.name, data.ucloud_network.by_name.cidr, data.ucloud_ssh_key.alice.name]
}`,
  );
  await directory.apply();
  t.strictSame(await directory.outputs(), { found: ['available', 'site', network.cidr, 'alice'] });

  await t.test('the own object comes before a public one of the same name', async (t) => {
    cloud.file(cloud.project, 'own.raw');
    const own = await member.create('images', { name: 'demo', source: 'file:own.raw' });
    await directory.apply();
    const [image] = (await directory.state()).filter(({ type }) => type === 'ucloud_image');
    t.equal(image?.values.id, own.id);
  });

  await t.test('the own object is found among namesakes, however many there are', async (t) => {
    const { operator } = cloud.api;
    const own = await member.create('ssh-keys', { name: 'deploy', public_key: key });
    const projects = await Promise.all(
      Array.from({ length: 11 }, (_, index) => operator.create('projects', { name: `other-${index}` })),
    );
    for (const { id } of projects) await operator.create('ssh-keys', { name: 'deploy', project: id, public_key: key });
    const asked = (project: Id<'project'>, more = '') =>
      cloud.terraform(t, {
        'provider.tf': operatorBlock({ ...cloud, project }),
        'main.tf': `data "ucloud_ssh_key" "deploy" {\n name = "deploy"\n ${more}\n}`,
      });
    const found = asked(cloud.project);
    await found.apply();
    t.equal((await found.resource('data.ucloud_ssh_key.deploy')).values.id, own.id);
    t.match(await asked(cloud.api.project).diagnostics('plan'), [
      {
        summary: 'Several SSH keys are named "deploy"',
        detail: /^key-\w+ in project prj-\w+, .* and 2 more\. Use `id` or `project` instead\.$/,
        code: 'name = "deploy"',
      },
    ]);
    t.match(await asked(cloud.project, `project = "${cloud.api.project}"`).diagnostics('plan'), [
      {
        summary: 'There is no SSH key with the name "deploy"',
        detail: `It does not exist in project ${cloud.api.project}, or the token of the provider may not see it.`,
      },
    ]);
  });

  await t.test('what is not there is told, at the attribute that asks for it', async (t) => {
    const nowhere = cloud.configuration(
      t,
      'data "ucloud_network" "a" {\n  name = "nowhere"\n}\ndata "ucloud_network" "b" {\n  id = "net-0123456789abcdef"\n}',
    );
    t.match(
      (await nowhere.diagnostics('plan')).toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0)),
      [
        { summary: 'There is no network with the name "nowhere"', line: 2 },
        { summary: 'There is no network with the id net-0123456789abcdef', line: 5 },
      ],
    );
    const both = cloud.configuration(
      t,
      'data "ucloud_network" "a" {}\ndata "ucloud_network" "b" {\n  id = "net-0123456789abcdef"\n name = "x"\n}',
    );
    t.match((await both.diagnostics('validate')).map(({ summary }) => summary).toSorted(), [
      'Set `id` or `name`',
      'Set `id` or `name`, not both',
    ]);
  });
});
