/** What a plan says before anything is applied: references that do not exist, quotas, hosts without room. */
import type { ServerResponse } from 'node:http';
import t, { type Test } from 'tap';
import { asked, GiB, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { type Asked, answerProblem, type Fate, startGateway } from '../support/gateway.ts';
import { ground } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

const vms = (count: number, memory: string, more = '') => `${ground}
resource "ucloud_vm" "web" {
  count      = ${count}
  name       = "web-\${count.index}"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ucloud_network.this.id }]
  memory     = "${memory}"
  wait_for   = "none"
  ${more}
}`;

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t, { capacity: { cpus: 8, memory: 16 * GiB, disk: 1000 * GiB } });
});
const allow = (quota: object) => cloud.api.operator.update('projects', cloud.project, { quota });

/** Notes what is asked of the API, and answers some of it in its stead. */
async function interpose(t: Test, answer: (path: string) => number | undefined = () => undefined): Promise<string[]> {
  const seen: string[] = [];
  const decide = ({ method, path }: Asked, response: ServerResponse): Fate => {
    seen.push(`${method} ${path}`);
    const status = answer(path);
    return status === undefined ? 'pass' : answerProblem(response, status, status === 404 ? 'not_found' : 'internal');
  };
  asked(t, { UCLOUD_ENDPOINT: (await startGateway(cloud.api.url, { decide }, t)).url });
  return seen;
}

t.test('what there is no room for is told while planning, and does not stop the plan', { skip }, async (t) => {
  t.teardown(() => allow({}));
  await allow({ vms: 6 });
  const directory = cloud.configuration(t, vms(8, '3GiB'));
  const told = await directory.diagnostics('plan');
  const [quota, hosts] = ['quota', 'host'].map((word) => told.filter(({ summary }) => summary.includes(word)));
  t.equal(told.length, 3, 'two too many for the quota, and one of the others for the host');
  t.match(quota, [
    {
      severity: 'warning',
      summary: "The project's quota does not allow this VM",
      detail:
        /^The project test may have 6 VMs and has 0, and 7 more are asked for\. This counts all that was planned so far; what Terraform plans to delete after this makes room\.\n\nUnless there is room by then, apply will fail here\. Delete what is no longer needed, ask for less, or ask the operator for a higher quota\.$/,
      address: /^ucloud_vm\.web\[\d\]$/,
    },
    { severity: 'warning' },
  ]);
  t.match(hosts, [
    {
      severity: 'warning',
      summary: 'No host can run this VM',
      detail:
        /^Needs 3 GiB of memory, largest free host has 1 GiB\. This counts all that was planned so far; what Terraform plans to delete after this makes room\.\n\nIt would be made, and wait until a host has room\. Make it smaller, or ask the operator for room\.$/,
      code: 'memory     = "3GiB"',
    },
  ]);
  const { text } = await directory.plan();
  t.equal(text.match(/Warning: The project's quota/g)?.length, 1, 'Terraform shows equal warnings once');
  t.match(text, /and one more similar warning elsewhere/);

  await t.test('what has been planned is applied when there is room after all', async (t) => {
    directory.write({ 'main.tf': vms(5, '3GiB') });
    await allow({ vms: 4 });
    t.match((await directory.plan()).text, /Plan: 7 to add[\s\S]*does not allow this VM/);
    const refused = await directory.diagnostics('apply', '-parallelism=1');
    t.match(
      refused.filter(({ severity }) => severity === 'error'),
      [
        {
          summary: /^VM "web-\d" was not created: the quota of the project is used up$/,
          detail:
            '`project` exceeds the quota: the project test may have 4 VMs and has 4.\n\nDelete what is no longer needed, ask for less, or ask the operator for a higher quota.',
        },
      ],
    );
    await directory.plan();
    await allow({ vms: 5 });
    await directory.run('apply', '-no-color', 'test.tfplan');
    t.strictSame(await directory.pending(), []);
  });

  await t.test('what is replaced makes room for what replaces it', async (t) => {
    directory.write({ 'main.tf': vms(5, '3GiB', 'user_data = "#!/bin/sh"') });
    const plan = await directory.plan();
    t.match(plan.text, /Plan: 5 to add, 0 to change, 5 to destroy/);
    t.notMatch(plan.text, /Warning/);
    directory.write({ 'main.tf': vms(5, '3GiB') });
    const forced = await directory.plan(...[0, 1, 2, 3, 4].map((index) => `-replace=ucloud_vm.web[${index}]`));
    t.match(forced.text, /Plan: 5 to add, 0 to change, 5 to destroy/);
    t.notMatch(forced.text, /Warning/);
  });

  await t.test('a change in place is looked at where the VM is', async (t) => {
    directory.write({ 'main.tf': vms(5, `\${count.index == 0 ? 4 : 3}GiB`) });
    t.strictSame(await directory.diagnostics('plan'), []);
    directory.write({ 'main.tf': vms(5, `\${count.index == 0 ? 5 : 3}GiB`) });
    await allow({ vms: 5, cpus: 5 });
    t.match(await directory.diagnostics('plan'), [
      {
        severity: 'warning',
        summary: 'The host of this VM has no room for the change',
        detail: /^Its host has not enough memory left for the new size; it keeps what it has\. .*\n\nChange less, or/,
        address: 'ucloud_vm.web[0]',
        code: /^memory/,
      },
    ]);
    directory.write({ 'main.tf': vms(5, '3GiB', 'cpus = count.index == 0 ? 3 : 1') });
    t.match(await directory.diagnostics('plan'), [
      { detail: /^The project test may have 5 cpus and has 5, and 2 more are asked for\./, code: /^cpus/ },
    ]);
  });

  await t.test('VMs that must not share a host need one each', async (t) => {
    await allow({});
    const apart = `
resource "ucloud_vm" "apart" {
  count         = 2
  name          = "apart-\${count.index}"
  image         = data.ucloud_image.demo.id
  interfaces    = [{ network = ucloud_network.this.id }]
  memory        = "64MiB"
  anti_affinity = { group = "apart" }
}`;
    directory.write({ 'main.tf': vms(5, '3GiB') + apart });
    t.match(await directory.diagnostics('plan'), [
      {
        severity: 'warning',
        summary: 'No host can run this VM',
        detail:
          /^The only host with room has a VM of the group apart already\. This counts .*\n\n.* Make fewer of the group, let/s,
        code: /^anti_affinity/,
      },
    ]);
  });

  await t.test('other objects are counted, too', async (t) => {
    await allow({ networks: 2 });
    const network = (name: string) =>
      `resource "ucloud_network" "${name}" {\n name = "${name}"\n prefix = ucloud_prefix.this.id\n}`;
    directory.write({ 'main.tf': `${vms(5, '3GiB')}\n${network('a')}\n${network('b')}` });
    t.match(await directory.diagnostics('plan'), [
      {
        severity: 'warning',
        summary: "The project's quota does not allow this network",
        detail: /^The project test may have 2 networks and has 1, and 2 more are asked for\./,
      },
    ]);
  });

  await t.test('an API that cannot tell does not hold up the plan', async (t) => {
    await allow({ vms: 5 });
    directory.write({ 'main.tf': vms(9, '3GiB') });
    for (const status of [404, 500]) {
      await t.test(`${status}`, async (t) => {
        const seen = await interpose(t, (path) => (path === '/v1/capacity-checks' ? status : undefined));
        const plan = await directory.plan();
        t.match(plan.text, /Plan: 4 to add/);
        t.notMatch(plan.text, /Warning|Error/);
        t.ok(seen.includes('POST /v1/capacity-checks'), 'it was asked');
      });
    }
  });
  await directory.destroy();
});

t.test('many VMs ask little', { skip }, async (t) => {
  const seen = await interpose(t);
  const directory = cloud.configuration(t, vms(100, '64MiB'));
  await directory.plan();
  const checks = seen.filter((one) => one === 'POST /v1/capacity-checks').length;
  t.ok(checks >= 1 && checks <= 12, `${checks} capacity checks for 100 VMs`);
  t.equal(seen.filter((one) => /\/v1\/images(\/|\?ids)/.test(one)).length, 1, 'one question whether the image exists');
});

t.test('what does not exist is told at the attribute that refers to it', { skip }, async (t) => {
  const { operator } = cloud.api;
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Vb1z1Lq2k0gq8nq3m8Yk0x3o0b9wP5Q0m4l8o3c7T';
  const good = await cloud.member.create('ssh-keys', { name: 'good', public_key: key });
  const pool = (await operator.list('prefix-pools')).items[0];
  const foreign = await operator.create('prefixes', { name: 'foreign', project: cloud.api.project });
  const directory = cloud.configuration(
    t,
    `${ground}
resource "ucloud_vm" "v" {
  name       = "v"
  image      = "img-0123456789abcdef"
  interfaces = [
    { network = ucloud_network.this.id },
    { network = "net-0123456789abcdef" },
  ]
  ssh_keys = ["${good.id}", "key-0123456789abcdef"]
}
resource "ucloud_network" "n" {
  name   = "n"
  prefix = "${foreign.id}"
}
resource "ucloud_prefix" "p" {
  name = "p"
  pool = "pool-0123456789abcdef"
}
resource "ucloud_prefix" "outside" {
  name = "outside"
  pool = "${pool?.id}"
  cidr = "2001:db9::/56"
}
resource "ucloud_prefix" "large" {
  name   = "large"
  pool   = "${pool?.id}"
  length = 32
}
resource "ucloud_ssh_key" "k" {
  name       = "k"
  project    = "prj-0123456789abcdef"
  public_key = "${key}"
}`,
  );
  const told = (await directory.diagnostics('plan')).toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));
  t.match(
    told.map(({ severity, summary, code }) => [severity, summary, code]),
    [
      ['error', 'There is no image img-0123456789abcdef', 'image      = "img-0123456789abcdef"'],
      ['error', 'There is no network net-0123456789abcdef', '{ network = "net-0123456789abcdef" },'],
      ['error', 'There is no SSH key key-0123456789abcdef', /^ssh_keys/],
      ['error', `There is no prefix ${foreign.id}`, /^prefix/],
      ['error', 'There is no prefix pool pool-0123456789abcdef', /^pool/],
      ['error', 'The prefix is outside its pool', 'cidr = "2001:db9::/56"'],
      ['error', 'The prefix is larger than its pool', 'length = 32'],
      ['error', 'There is no project prj-0123456789abcdef', /^project/],
    ],
  );
  t.equal(told.length, 8);
  t.equal(told[0]?.detail, 'It does not exist, or the token of the provider may not know of it.');
  t.equal(told[5]?.detail, '2001:db9::/56 is not inside 2001:db8::/36, the pool main.');
  t.equal(told[6]?.detail, 'A /32 does not fit into 2001:db8::/36, the pool main.');

  await t.test('what the plan makes, replaces or deletes is there, or will be', async (t) => {
    const own = cloud.configuration(t, '');
    const write = (comment: string | undefined, keys: string) =>
      own.write({
        'main.tf': `${ground}
${comment === undefined ? '' : `resource "ucloud_ssh_key" "k" {\n name = "k"\n public_key = "${key} ${comment}"\n}`}
resource "ucloud_vm" "v" {
  name       = "v"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = ucloud_network.this.id }]
  ssh_keys   = ${keys}
}`,
      });
    write('one', '[ucloud_ssh_key.k.id]');
    await own.apply();
    const replaced = await own.plan('-replace=ucloud_ssh_key.k');
    t.match(replaced.text, /1 to add, 1 to change, 1 to destroy/, 'replaced: its new id is not known yet');
    const id = (await own.state()).find(({ type }) => type === 'ucloud_ssh_key')?.values.id;
    write(undefined, `["${id}", "${good.id}"]`);
    t.match((await own.plan()).text, /0 to add, 1 to change, 1 to destroy/, 'deleted: it is still there');
    write('one', `[ucloud_ssh_key.k.id, "key-0123456789abcdef"]`);
    t.match(await own.diagnostics('plan'), [
      { severity: 'error', summary: 'There is no SSH key key-0123456789abcdef', address: 'ucloud_vm.v' },
    ]);
    write('one', '[ucloud_ssh_key.k.id]');
    await own.destroy();
  });
});
