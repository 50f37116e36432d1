/**
 * Each resource through its life, with the real Terraform: created, planned again, changed, imported, deleted behind
 * Terraform's back, made anew, destroyed. All resources go together, since each step is a run of Terraform; what is
 * asserted, is asserted of each.
 */
import t, { type Test } from 'tap';
import { resources } from '../../provider/resources/index.ts';
import type { Body } from '../support/api.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { changes, type StateResource, terraformMissing } from '../support/terraform.ts';

interface Life {
  readonly plural: string;
  /** The block's body. */
  readonly create: string;
  readonly update: string;
  /** What the API must show after each. */
  readonly created: object;
  readonly updated: object;
  /** Attributes that the configuration spells otherwise than the API does. */
  readonly spelled?: readonly string[];
}

const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T';
const lives: Readonly<Record<string, Life>> = {
  project: {
    plural: 'projects',
    create: 'name = "side"',
    update: 'name = "side-2"\n description = "another"\n labels = { tier = "x" }',
    created: { name: 'side', description: '', labels: {}, delete_protection: false },
    updated: { name: 'side-2', description: 'another', labels: { tier: 'x' } },
  },
  token: {
    plural: 'tokens',
    create: 'name = "ci"\n role = "viewer"\n expires_at = "2099-01-01T00:00:00Z"',
    update: 'name = "ci-main"\n role = "viewer"\n expires_at = "2099-01-01T00:00:00Z"',
    created: { name: 'ci', role: 'viewer' },
    updated: { name: 'ci-main', role: 'viewer' },
    spelled: ['expires_at'],
  },
  prefix_pool: {
    plural: 'prefix-pools',
    create: 'name = "spare"\n cidr = "2001:DB8:F000::/36"',
    update: 'name = "spare"\n cidr = "2001:db8:f000:0::/36"\n default_length = 60',
    created: { cidr: '2001:db8:f000::/36', default_length: 56 },
    updated: { cidr: '2001:db8:f000::/36', default_length: 60 },
    spelled: ['cidr'],
  },
  ssh_key: {
    plural: 'ssh-keys',
    create: `name = "alice"\n public_key = "${key} alice"`,
    update: `name = "alice-2"\n public_key = "${key} alice"\n labels = { team = "web" }`,
    created: { name: 'alice', labels: {} },
    updated: { name: 'alice-2', labels: { team: 'web' } },
  },
  image: {
    plural: 'images',
    create: 'name = "own"\n source = "file:own.raw"',
    update: 'name = "own"\n source = "file:own.raw"\n description = "ours"\n delete_protection = false',
    created: { description: '', architecture: 'x86_64' },
    updated: { description: 'ours' },
  },
  prefix: {
    plural: 'prefixes',
    create: 'name = "site"\n length = 60',
    update: 'name = "site-a"\n length = 60\n labels = { site = "a" }',
    created: { name: 'site', length: 60, labels: {} },
    updated: { name: 'site-a', labels: { site: 'a' } },
  },
  network: {
    plural: 'networks',
    create: 'name = "web"\n prefix = ucloud_prefix.this.id\n dns_servers = ["2001:DB8:0:0::53"]',
    update: 'name = "web"\n prefix = ucloud_prefix.this.id\n dns_servers = ["2001:db8::54", "2001:db8::53"]',
    created: { dns_servers: ['2001:db8::53'], mtu: 1430 },
    updated: { dns_servers: ['2001:db8::54', '2001:db8::53'] },
  },
  vm: {
    plural: 'vms',
    create: `name = "web-1"
      image = ucloud_image.this.id
      interfaces = [{ network = ucloud_network.this.id }]
      memory = "1024MiB"
      user_data = "#!/bin/sh"
      timeouts = { create = "1m" }`,
    update: `name = "web-1"
      image = ucloud_image.this.id
      interfaces = [{ network = ucloud_network.this.id }]
      memory = "1GiB"
      cpus = 2
      disk_size = "8GiB"
      ssh_keys = [ucloud_ssh_key.this.id]
      user_data = "#!/bin/sh"
      labels = { tier = "web" }`,
    created: { memory: '1GiB', cpus: 1, ssh_keys: [] },
    updated: { memory: '1GiB', cpus: 2, disk_size: '8GiB', labels: { tier: 'web' } },
    spelled: ['memory'],
  },
};
const nouns = Object.keys(lives);
const configuration = (step: 'create' | 'update') =>
  nouns.map((noun) => `resource "ucloud_${noun}" "this" {\n ${lives[noun]?.[step]}\n}`).join('\n');

const valuesOf = (state: readonly StateResource[], noun: string): Record<string, unknown> => {
  const found = state.find(({ type, mode }) => type === `ucloud_${noun}` && mode === 'managed');
  if (!found) throw new Error(`no ucloud_${noun} in the state`);
  return found.values;
};

async function seen(cloud: TestCloud, noun: string, id: unknown): Promise<Body | undefined> {
  const answer = await cloud.api.operator.request('GET', `/v1/${lives[noun]?.plural}/${String(id)}`);
  return answer.status === 404 ? undefined : answer.body;
}

/** A provider block for an operator, whose objects go to the project. */
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

t.test('each resource, through its life', { skip: terraformMissing() ?? false }, async (t) => {
  const cloud = await startTestCloud(t);
  cloud.file(cloud.project, 'own.raw');
  const provider = operatorBlock(cloud);
  const directory = cloud.terraform(t, { 'provider.tf': provider, 'main.tf': configuration('create') });
  let state: StateResource[] = [];

  const agrees = async (t: Test, step: 'created' | 'updated') => {
    for (const noun of nouns) {
      const body = await seen(cloud, noun, valuesOf(state, noun).id);
      t.match(body, lives[noun]?.[step] ?? {}, `${noun}: the API shows what was ${step}`);
    }
  };

  t.strictSame(nouns.toSorted(), Object.keys(resources).toSorted(), 'no resource is forgotten here');

  await t.test('create, then nothing is left to do', async (t) => {
    await directory.apply();
    state = await directory.state();
    await agrees(t, 'created');
    t.strictSame(await directory.pending(), []);
    t.equal(valuesOf(state, 'vm').memory, '1024MiB', 'the spelling of the configuration stays');
    t.match(valuesOf(state, 'vm').status, { phase: 'running' }, 'apply has waited until the VM runs');
    t.match(valuesOf(state, 'image').status, { phase: 'available' }, 'and until the image can be used');
    t.match(valuesOf(state, 'token').secret, /./, 'the secret of a token is shown once, and kept');
  });

  await t.test('update in place, then nothing is left to do', async (t) => {
    const ids = nouns.map((noun) => valuesOf(state, noun).id);
    directory.write({ 'main.tf': configuration('update') });
    const planned = await directory.pending();
    t.strictSame(
      planned.toSorted(),
      nouns.map((noun) => `ucloud_${noun}.this: update`).toSorted(),
      'every change is made in place',
    );
    const secret = valuesOf(state, 'token').secret;
    await directory.apply();
    state = await directory.state();
    await agrees(t, 'updated');
    t.strictSame(
      nouns.map((noun) => valuesOf(state, noun).id),
      ids,
    );
    t.equal(valuesOf(state, 'token').secret, secret, 'the secret stays in the state');
    t.strictSame(await directory.pending(), []);
  });

  await t.test('import by id and by name, then nothing is left to do', async (t) => {
    const importing = (by: 'id' | 'name') =>
      cloud.terraform(t, {
        'provider.tf': provider,
        'main.tf': configuration('update'),
        'import.tf': nouns
          .map((noun) => `import {\n to = ucloud_${noun}.this\n id = "${valuesOf(state, noun)[by]}"\n}`)
          .join('\n'),
      });
    for (const by of ['id', 'name'] as const) {
      const other = importing(by);
      t.strictSame(changes(await other.plan()), [], `by ${by}: the plan only imports`);
      await other.apply();
      const imported = await other.state();
      for (const noun of nouns) {
        const { secret: _shownOnce, ...expected } = valuesOf(state, noun);
        for (const name of lives[noun]?.spelled ?? []) delete expected[name];
        t.match(valuesOf(imported, noun), expected, `${noun}: by ${by}, as it was in the state`);
        t.match(valuesOf(imported, noun), lives[noun]?.updated ?? {}, `${noun}: by ${by}, as the API shows it`);
      }
      t.strictSame(await other.pending(), []);
    }
    const missing = importing('id');
    missing.write({ 'import.tf': 'import {\n to = ucloud_vm.this\n id = "nowhere"\n}' });
    t.match(await missing.diagnostics('plan'), [{ severity: 'error', summary: 'There is no ucloud_vm "nowhere"' }]);
  });

  await t.test('deleted by somebody else: found out, and made anew', async (t) => {
    for (const noun of nouns.toReversed()) {
      await cloud.api.operator.remove(lives[noun]?.plural ?? '', String(valuesOf(state, noun).id));
    }
    t.strictSame((await directory.pending()).toSorted(), nouns.map((noun) => `ucloud_${noun}.this: create`).toSorted());
    await directory.apply();
    state = await directory.state();
    await agrees(t, 'updated');
    t.strictSame(await directory.pending(), []);
  });

  await t.test('destroy: the API knows none of them any more', async (t) => {
    await directory.destroy();
    for (const noun of nouns) t.equal(await seen(cloud, noun, valuesOf(state, noun).id), undefined, noun);
    t.strictSame(await directory.state(), []);
  });
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
