/** A plan reports faults that would fail an apply, at their attribute. Terraform destroys nothing. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { guests } from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { prerequisites, vmBlock } from '../support/hcl.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t, { readyMs: 700 });
});

t.test('a name that is known only after apply', { skip }, async (t) => {
  const directory = cloud.configuration(
    t,
    `resource "terraform_data" "suffix" {
  input = "ab12"
}
resource "ucloud_ssh_key" "k" {
  name       = "web-\${terraform_data.suffix.output}"
  public_key = "${testPublicKey}"
}`,
  );
  t.match((await directory.plan()).text, /name += \(known after apply\)[\s\S]*Plan: 2 to add/);
  await directory.apply();
  t.strictSame(await directory.pending(), []);
  await directory.destroy();
});

t.test('a key file as ssh-keygen writes it', { skip }, async (t) => {
  const directory = cloud.configuration(
    t,
    'resource "ucloud_ssh_key" "me" {\n  name = "me"\n  public_key = file("id.pub")\n}',
  );
  writeFileSync(join(directory.path, 'id.pub'), `${testPublicKey}\n`);
  await directory.apply();
  t.strictSame(await directory.pending(), [], 'no difference afterwards');
  writeFileSync(join(directory.path, 'id.pub'), `${testPublicKey}\r\n`);
  t.strictSame(await directory.pending(), [], 'nor with another line end');
  writeFileSync(join(directory.path, 'id.pub'), `${testPublicKey.slice(0, 60)}\n`);
  t.match(await directory.diagnostics('plan'), [
    { summary: 'Invalid value for "public_key"', detail: /^Must be a key that OpenSSH takes, but this one is cut off/ },
  ]);
  writeFileSync(join(directory.path, 'id.pub'), testPublicKey);
  await directory.destroy();
});

t.test('what the API would refuse of a replacement is told in the plan', { skip }, async (t) => {
  const taken = await cloud.member.create('prefixes', { name: 'taken', length: 60 });
  const outside = await cloud.member.create('prefixes', { name: 'outside', length: 60 });
  const other = await cloud.member.create('networks', { name: 'other', prefix: outside.id });
  const image = (await cloud.member.list('images', '?name=demo')).items[0];
  const holder = await cloud.member.create('vms', {
    name: 'holder',
    image: image?.id,
    interfaces: [{ network: other.id, mac: '02:00:00:00:00:99' }],
  });
  const main = (bad: boolean) => `${prerequisites}
resource "ucloud_token" "ci" {
  name       = "ci"
  expires_at = "${bad ? '2025-01-31T12:00:00Z' : '2035-01-31T12:00:00Z'}"
}
resource "ucloud_prefix" "p" {
  name = "dr"
  cidr = "${bad ? 'fd4a:71ce:9::/56' : '2001:db8:0:7000::/56'}"
}
resource "ucloud_prefix" "overlapping" {
  name = "overlapping"
  cidr = "${bad ? taken.cidr : '2001:db8:0:7100::/56'}"
}
resource "ucloud_prefix" "large" {
  name   = "large"
  length = ${bad ? 36 : 60}
}
resource "ucloud_vm" "data" {
  name       = "data"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = "${other.id}" }]
  user_data  = ${bad ? 'jsondecode("\\"#!/bin/sh\\\\u0000\\"")' : '"#!/bin/sh\\n"'}
}
resource "ucloud_vm" "mac" {
  name       = "mac"
  image      = data.ucloud_image.demo.id
  interfaces = [{ network = "${other.id}", mac = "02:00:00:00:00:${bad ? '99' : '98'}" }]
}
resource "ucloud_image" "image" {
  name   = "image"
  source = "file:${bad ? 'again' : 'image'}.raw"
  visibility = "${bad ? 'public' : 'project'}"
}`;
  cloud.file(cloud.project, 'image.raw');
  const directory = cloud.configuration(t, main(false));
  await directory.apply();
  const before = await directory.run('state', 'pull');
  directory.write({ 'main.tf': main(true) });
  // The plan first finds static faults, and then faults that only the API knows.
  const itself = await directory.diagnostics('plan');
  t.match(
    itself.map(({ severity, address, summary }) => [severity, address, summary]),
    [['error', 'ucloud_vm.data', 'Invalid value for "user_data"']],
  );
  directory.write({ 'main.tf': main(true).replace(/jsondecode\(.*\)/, '"#!/bin/sh\\n"') });
  const told = (await directory.diagnostics('plan')).filter(({ severity }) => severity === 'error');
  const all = told.map(({ address, code, detail }) => [address, code?.split(' ')[0], detail] as const);
  t.match(
    all.toSorted((a, b) => String(a[0]).localeCompare(String(b[0]))),
    [
      ['ucloud_image.image', 'visibility', /must be project/],
      ['ucloud_prefix.large', 'length', /must be at least 48/],
      ['ucloud_prefix.overlapping', 'cidr', /overlaps a prefix that is taken/],
      [
        'ucloud_prefix.p',
        'cidr',
        /lies in no prefix pool\.[\s\S]*Apply would destroy the old object before this error/,
      ],
      ['ucloud_token.ci', 'expires_at', /creates no expired token/],
    ],
  );
  // A taken MAC address is an error of the change in place, which destroys nothing.
  t.equal(all.length, 5);
  t.equal(await directory.run('state', 'pull'), before, 'nothing was destroyed');

  await t.test('but what objects of the configuration give one another is none of it', async (t) => {
    const swapped = (first: string, second: string) => `${prerequisites}
resource "ucloud_prefix" "a" {
  name = "swap-a"
  cidr = "${first}"
}
resource "ucloud_prefix" "b" {
  name = "swap-b"
  cidr = "${second}"
}`;
    const swap = cloud.configuration(
      t,
      swapped('2001:db8:0:7300::/56', '2001:db8:0:7400::/56').replace(prerequisites, ''),
    );
    await swap.apply();
    swap.write({ 'main.tf': swapped('2001:db8:0:7400::/56', '2001:db8:0:7300::/56').replace(prerequisites, '') });
    const plan = await swap.plan();
    t.match(plan.text, /Plan: 2 to add, 0 to change, 2 to destroy/);
    t.notMatch(plan.text, /Error:/);
    await swap.destroy();
  });
  directory.write({ 'main.tf': main(false) });
  await directory.destroy();
  await cloud.member.remove('vms', holder.id);
});

t.test('delete protection is told in the plan, with what to do', { skip }, async (t) => {
  const main = (protect: boolean, more = '') =>
    prerequisites +
    vmBlock('v', `delete_protection = ${protect}\n  ${more}`, '"guarded"') +
    `resource "ucloud_ssh_key" "k" {\n  name = "beside"\n  public_key = "${testPublicKey}"\n}`;
  const directory = cloud.configuration(t, main(true));
  await directory.apply();
  const before = (await directory.state()).length;
  const guarded = [
    {
      severity: 'error',
      summary: 'VM "guarded" is protected from deletion',
      detail: /set `delete_protection = false`, apply, then destroy/,
    },
  ];
  t.match(await directory.diagnostics('destroy'), guarded);
  t.equal((await directory.state()).length, before, 'nothing was destroyed, no half of it');
  directory.write({ 'main.tf': main(false) });
  t.match(await directory.diagnostics('destroy'), guarded, 'it is the object that has it, whatever is configured');
  directory.write({ 'main.tf': prerequisites });
  t.match(await directory.diagnostics('plan'), guarded, 'the same where it is taken out of the configuration');
  const replaced = [{ severity: 'error', summary: 'VM "guarded" is protected from deletion, and cannot be replaced' }];
  directory.write({ 'main.tf': main(false, 'anti_affinity = { group = "g" }') });
  t.match(await directory.diagnostics('plan'), replaced, 'and where a change replaces it');
  directory.write({ 'main.tf': main(true) });
  t.match(await directory.diagnostics('plan', '-replace=ucloud_vm.v'), replaced, 'or the user asks for it');
  t.strictSame(await directory.pending(), [], 'what is kept is as it was');
  directory.write({ 'main.tf': main(false) });
  await directory.apply();
  await directory.destroy();
});

t.test('user data that will not run is told, and line ends are no change', { skip }, async (t) => {
  const main = (data: string, more = '') => prerequisites + vmBlock('v', `user_data = ${data}\n  ${more}`, '"data"');
  const directory = cloud.configuration(t, main('"packages: [nginx]"', 'wait_for = "ready"'));
  const warned = {
    severity: 'warning',
    summary: 'This user data will not run',
    detail: /neither a script nor in a format of cloud-init/,
    code: /^user_data/,
  };
  t.match(await directory.diagnostics('plan'), [warned]);
  const applied = await directory.diagnostics('apply');
  t.match(
    applied.find(({ summary }) => summary.includes('is ready')),
    {
      severity: 'warning',
      summary: 'VM "data" is ready, but its user data did not run successfully',
      detail: /ignored the user data/,
      code: /^user_data/,
    },
    'the guest has said so',
  );
  t.strictSame(await directory.diagnostics('plan'), [], 'it is told once');
  directory.write({ 'main.tf': main('"#!/bin/sh\\r\\necho hello\\r\\n"', 'wait_for = "ready"') });
  const windows = await directory.diagnostics('plan');
  t.match(windows, [{ severity: 'warning', summary: 'This user data has Windows line ends' }]);
  t.equal(windows.length, 1, 'a replacement tells it once');
  await directory.apply();
  const id = String((await directory.resource('ucloud_vm.v')).values.id);
  t.match(await cloud.member.get('vms', id), { user_data: '#!/bin/sh\necho hello\n', status: { user_data: 'ok' } });
  t.strictSame(await directory.pending(), []);
  directory.write({ 'main.tf': main('"#!/bin/sh\\necho hello\\n"', 'wait_for = "ready"') });
  t.strictSame(await directory.pending(), [], 'a checkout with other line ends replaces nothing');
  await directory.destroy();
});

t.test('the exit code that a guest reports is told', { skip }, async (t) => {
  const main = prerequisites + vmBlock('v', 'user_data = "#!/bin/sh\\nexit 3\\n"\n  wait_for = "ready"', '"failing"');
  const directory = cloud.configuration(t, main);
  // The test writes the guest's report before the simulated host does, with another result.
  const { store } = cloud.api;
  const applying = directory.diagnostics('apply');
  const id = await cloud.appears('/v1/vms', 'failing');
  await until('the VM runs', async () => (await cloud.member.get('vms', id)).status.phase === 'running');
  const ready_at = new Date(Date.now() + 60_000).toISOString();
  await store.commit({ write: [put(guests, id, { ready_at, user_data: 'failed', exit_code: 3 })] });
  t.match(await applying, [{ severity: 'warning', detail: /ended with an error.* Its exit code is 3\./ }]);
  await directory.destroy();
});

t.test('a volume stays in its pool', { skip }, async (t) => {
  const pool = await cloud.api.operator.create('storage-pools', { name: 'other', kind: 'shared', path: '/srv/other' });
  const main = (more = '') => `resource "ucloud_volume" "data" {\n  name = "data"\n  size = "1GiB"\n  ${more}\n}\n`;
  const directory = cloud.configuration(t, main());
  await directory.apply();
  directory.write({ 'main.tf': main(`pool = "${pool.id}"`) });
  t.match(await directory.diagnostics('plan'), [
    {
      severity: 'error',
      summary: 'A volume stays in its storage pool',
      detail: new RegExp(`cannot become ${pool.id}`),
    },
  ]);
  directory.write({ 'main.tf': main() });
  await directory.destroy();
});

t.test('a volume keeps its content when its source changes', { skip }, async (t) => {
  const { items } = await cloud.api.operator.list('images', '?name=demo');
  const [demo] = items;
  const newer = await cloud.member.create('images', { name: 'newer', source: 'file:demo.qcow2' });
  const main = (more: string) => `resource "ucloud_volume" "root" {\n  name = "root"\n  size = "1GiB"\n  ${more}\n}\n`;
  const directory = cloud.configuration(t, main(`image = "${demo?.id}"`));
  await directory.apply();
  const { id } = (await directory.resource('ucloud_volume.root')).values;
  directory.write({ 'main.tf': main(`image = "${newer.id}"`) });
  t.match(await directory.diagnostics('plan'), [
    { severity: 'warning', summary: 'A volume keeps its content', detail: /`image` of volume "root" has changed/ },
  ]);
  await directory.apply();
  t.match((await directory.resource('ucloud_volume.root')).values, { id, image: demo?.id });
  await directory.destroy();
});

t.test('a disk that shrinks is refused in the plan', { skip }, async (t) => {
  const main = (size: string, more = '') => prerequisites + vmBlock('v', `disk_size = "${size}"\n  ${more}`, '"disk"');
  const directory = cloud.configuration(t, main('4GiB'));
  await directory.apply();
  directory.write({ 'main.tf': main('2048MiB') });
  t.match(await directory.diagnostics('plan'), [
    {
      severity: 'error',
      summary: 'A disk can only grow',
      detail: /is 4GiB, and cannot become 2048MiB/,
      code: /^disk_size/,
    },
  ]);
  directory.write({ 'main.tf': main('4096MiB') });
  t.strictSame(await directory.pending(), [], 'the same size in other words is the same');
  directory.write({ 'main.tf': main('2GiB', 'anti_affinity = { group = "g" }') });
  t.strictSame(await directory.pending(), ['ucloud_vm.v: delete+create'], 'a VM that is made anew may have less');
  await directory.destroy();
});

t.test('after an apply there is nothing to plan, outputs of the status included', { skip }, async (t) => {
  const outputs =
    '\noutput "status" {\n  value = ucloud_vm.v.status\n}\noutput "vm" {\n  value = ucloud_vm.v\n  sensitive = true\n}';
  const directory = cloud.configuration(
    t,
    prerequisites + vmBlock('v', 'user_data = "#!/bin/sh\\n"', '"quiet"') + outputs,
  );
  await directory.apply();
  t.strictSame(await directory.pending(), [], 'at once');
  const id = String((await directory.resource('ucloud_vm.v')).values.id);
  await until('the guest is ready', async () => (await cloud.member.get('vms', id)).status.ready);
  t.strictSame(await directory.pending(), [], 'and when the guest has got ready');
  await cloud.member.expect(202, 'POST', `/v1/vms/${id}/reboot`, {});
  const { started_at } = (await directory.resource('ucloud_vm.v')).values.status as { started_at: string };
  await until('it has been rebooted', async () => {
    const { status } = await cloud.member.get('vms', id);
    return status.ready && (status as unknown as { started_at: string }).started_at !== started_at;
  });
  t.strictSame(await directory.pending(), [], 'and when it was rebooted');
  await cloud.member.update('vms', id, { power_state: 'stopped' });
  await until('it has stopped', async () => (await cloud.member.get('vms', id)).status.phase === 'stopped');
  t.ok((await directory.pending()).includes('ucloud_vm.v: update'), 'what is otherwise than declared is told');
  await directory.destroy();
});
