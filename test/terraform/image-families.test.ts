/** Families of images and deprecated images, in the plans of the real Terraform. */
import t, { type Test } from 'tap';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { imageAndNetwork } from '../support/hcl.ts';
import { changes, terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t);
});

/** Creates an available image in the project of the provider. */
async function image(body: { readonly name: string; readonly [field: string]: unknown }) {
  cloud.file(cloud.project, 'own.raw');
  let made = await cloud.member.create('images', { source: 'file:own.raw', ...body });
  while (made.status.phase !== 'available') {
    made = await cloud.member.get('images', made.id, `?after=${made.revision}`);
  }
  return made;
}

const vm = (name: string, more = '') => `
data "ucloud_image" "family" {
  family = "debian"
}
resource "ucloud_vm" "${name}" {
  name       = "${name}"
  image      = data.ucloud_image.family.id
  interfaces = [{ network = ucloud_network.this.id }]
  ${more}
}
`;

const warningsOf = async (directory: ReturnType<TestCloud['configuration']>) =>
  (await directory.diagnostics('plan')).filter(({ severity }) => severity === 'warning');

t.test('the data source of an image finds the newest image of a family', { skip }, async (t: Test) => {
  const first = await image({ name: 'find-1', family: 'find' });
  const main = `
data "ucloud_image" "newest" {
  family = "find"
}
data "ucloud_images" "all" {
  family = "find"
}
output "found" {
  value = [data.ucloud_image.newest.id, length(data.ucloud_images.all.ids)]
}`;
  const directory = cloud.configuration(t, main);
  const found = async () => (await directory.plan()).output_changes?.found?.after;
  t.strictSame(await found(), [first.id, 1]);
  const second = await image({ name: 'find-2', family: 'find' });
  t.strictSame(await found(), [second.id, 2]);
  await cloud.member.update('images', second.id, { deprecated_at: '2026-01-01T00:00:00Z' });
  t.strictSame(await found(), [first.id, 2], 'a deprecated image is not the newest');
  await cloud.member.update('images', first.id, { deprecated_at: '2026-01-01T00:00:00Z' });
  t.match(await directory.diagnostics('plan'), [
    {
      severity: 'error',
      summary: 'There is no image for the family "find"',
      detail: /available and not deprecated/,
      line: 3,
    },
  ]);
  const wrong = cloud.configuration(
    t,
    'data "ucloud_image" "a" {}\ndata "ucloud_image" "b" {\n  name = "x"\n  family = "x"\n}\ndata "ucloud_image" "c" {\n  family = "X"\n}',
  );
  t.match((await wrong.diagnostics('validate')).map(({ summary }) => summary).toSorted(), [
    'Invalid value for "family"',
    'Set `id`, `name` or `family`',
    'Set `id`, `name` or `family`, only one of them',
  ]);
});

t.test('a newer image of a family replaces a VM only with a warning, or not at all', { skip }, async (t: Test) => {
  const network = imageAndNetwork({ name: 'families' });
  const old = await image({ name: 'debian-1', family: 'debian' });
  const directory = cloud.configuration(t, network + vm('web'));
  await directory.apply();
  t.strictSame(await directory.pending(), []);
  const next = await image({ name: 'debian-2', family: 'debian' });

  const plan = await directory.plan();
  t.strictSame(changes(plan), ['ucloud_vm.web: delete+create']);
  t.match(await warningsOf(directory), [
    {
      summary: 'Another image of the family "debian" replaces VMs',
      detail: new RegExp(`"debian-1" \\(${old.id}\\).*"debian-2" \\(${next.id}\\).*image_change = "ignore"`, 's'),
    },
  ]);

  directory.write({ 'main.tf': network + vm('web', 'image_change = "ignore"') });
  await directory.apply();
  t.strictSame(await directory.pending(), [], 'the VM keeps its image');
  const [web] = (await cloud.member.list('vms', '?name=web')).items;
  t.match(web, { image: old.id });
  directory.write({
    'main.tf': network + vm('web', 'image_change = "ignore"\n anti_affinity = { group = "g" }'),
  });
  t.strictSame(changes(await directory.plan()), ['ucloud_vm.web: delete+create']);
  await directory.apply();
  t.match((await cloud.member.list('vms', '?name=web')).items, [{ image: next.id }], 'a new VM has the new image');
  t.strictSame(await directory.pending(), []);
  await directory.destroy();
});

t.test('the plan of a new VM warns of a deprecated image', { skip }, async (t: Test) => {
  const fresh = await image({ name: 'suse-2' });
  const old = await image({ name: 'suse-1', deprecated_at: '2026-01-01T00:00:00Z', replaced_by: fresh.id });
  const late = await image({ name: 'suse-3', deprecated_at: '2999-01-01T00:00:00Z' });
  const main = (id: string, more = '') => `${imageAndNetwork({ name: 'deprecated' })}
resource "ucloud_vm" "old" {
  name       = "old"
  image      = "${id}"
  interfaces = [{ network = ucloud_network.this.id }]
  ${more}
}`;
  const directory = cloud.configuration(t, main(late.id));
  t.strictSame(await warningsOf(directory), [], 'not before its time');
  directory.write({ 'main.tf': main(old.id) });
  const warning = {
    severity: 'warning',
    summary: 'Image "suse-1" is deprecated',
    detail: new RegExp(
      `\\(${old.id}\\) is deprecated since 2026-01-01T00:00:00Z.*Use "suse-2" \\(${fresh.id}\\) instead`,
      's',
    ),
    address: 'ucloud_vm.old',
    line: 17,
  };
  t.match(await warningsOf(directory), [warning]);
  await directory.apply();
  t.strictSame(await directory.pending(), [], 'the VM exists');
  t.strictSame(await warningsOf(directory), [], 'and an existing VM gives no warning');
  directory.write({ 'main.tf': main(old.id, 'cpus = 2') });
  t.strictSame(await warningsOf(directory), [], 'nor does its change in place');
  directory.write({ 'main.tf': main(old.id, 'anti_affinity = { group = "h" }') });
  t.match(await warningsOf(directory), [warning], 'but a replacement does');
  await cloud.member.remove('images', fresh.id);
  t.match(await warningsOf(directory), [{ ...warning, detail: /Use another image/ }]);
  await directory.destroy();
});

t.test('a shared image is found by its id, or with the project of its owner', { skip }, async (t: Test) => {
  const { operator } = cloud.api;
  const owner = (await operator.create('projects', { name: 'owner' })).id;
  cloud.file(owner, 'own.raw');
  const shared_with = [cloud.project];
  let made = await operator.create('images', {
    name: 'squat',
    family: 'squat',
    project: owner,
    source: 'file:own.raw',
    shared_with,
  });
  while (made.status.phase !== 'available') made = await operator.get('images', made.id, `?after=${made.revision}`);
  const found = cloud.configuration(
    t,
    `
data "ucloud_image" "id" {
  id = "${made.id}"
}
data "ucloud_image" "name" {
  name    = "squat"
  project = "${owner}"
}
data "ucloud_image" "family" {
  family  = "squat"
  project = "${owner}"
}
output "found" {
  value = [for each in [data.ucloud_image.id, data.ucloud_image.name, data.ucloud_image.family] : each.id if each.shared]
}`,
  );
  t.strictSame((await found.plan()).output_changes?.found?.after, [made.id, made.id, made.id]);
  const chosen = cloud.configuration(
    t,
    'data "ucloud_image" "a" {\n  name = "squat"\n}\ndata "ucloud_image" "b" {\n  family = "squat"\n}',
  );
  t.match((await chosen.diagnostics('plan')).map(({ summary }) => summary).toSorted(), [
    'There is no image for the family "squat"',
    'There is no image with the name "squat"',
  ]);
  // A member cannot look up the other project, and shares with it by id all the same.
  const sharing = cloud.configuration(
    t,
    `resource "ucloud_image" "mine" {
  name        = "mine"
  source      = "file:own.raw"
  shared_with = ["${owner}"]
}`,
  );
  await sharing.apply();
  t.strictSame(await sharing.pending(), []);
  t.match((await cloud.member.list('images', '?name=mine')).items, [{ shared_with: [owner] }]);
  await sharing.destroy();
});
