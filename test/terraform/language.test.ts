/**
 * Resources with the features of Terraform's language: repetition, renaming, forced replacement, tests, several projects,
 * modules.
 */
import t, { type Test } from 'tap';
import { defaultMac, formatIpv6, parseIpv6, slaacAddress } from '../../backend/model/network/addresses.ts';
import { type LanguageFeature, languageFeatures } from '../support/acceptance.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';
import { imageAndNetwork, vmBlock } from '../support/hcl.ts';
import { testPublicKey as key } from '../support/ssh-keys.ts';
import { type TerraformDirectory, terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t);
});

const told = new Set<LanguageFeature>();
/** Registers the test of a feature, with its name in the documentation. */
function story(feature: LanguageFeature, tell: (t: Test) => Promise<void>): void {
  told.add(feature);
  t.test(languageFeatures[feature], { skip }, tell);
}

const prerequisites = (name: string) => imageAndNetwork({ name });
const vm = (block: string, name: string, more = '') => vmBlock(block, more, name);

const values = async (directory: TerraformDirectory, address: string) => {
  const found = (await directory.state()).find((one) => one.address === address);
  if (!found) throw new Error(`${address} is not in the state`);
  return found.values;
};
const managed = async (directory: TerraformDirectory, type: string) =>
  (await directory.state()).filter((one) => one.type === type && one.mode === 'managed');

story('count', async (t) => {
  const counted = (count: number) =>
    `${prerequisites('counted')}${vm('node', `"node-\${count.index}"`, `count = ${count}\n wait_for = "none"`)}`;
  const directory = cloud.configuration(t, counted(2));
  await directory.apply();
  directory.write({ 'main.tf': counted(3) });
  t.strictSame(await directory.pending(), ['ucloud_vm.node[2]: create']);
  await directory.apply();
  directory.write({ 'main.tf': counted(2) });
  t.strictSame(await directory.pending(), ['ucloud_vm.node[2]: delete']);
  await directory.apply();
  const before = (await managed(directory, 'ucloud_vm')).map((one) => one.values.id);

  const named = (...names: string[]) =>
    `${prerequisites('counted')}${vm('web', 'each.key', `for_each = toset(${JSON.stringify(names)})\n wait_for = "none"`)}`;
  const moved = [0, 1]
    .map((index) => `moved {\n from = ucloud_vm.node[${index}]\n to = ucloud_vm.web["node-${index}"]\n}`)
    .join('\n');
  directory.write({ 'main.tf': `${named('node-0', 'node-1')}\n${moved}` });
  t.strictSame(await directory.pending(), [], 'from count to for_each by moved blocks: nothing is made anew');
  await directory.apply();
  const after = await managed(directory, 'ucloud_vm');
  t.strictSame(
    after.map((one) => [one.address, one.values.id]),
    before.map((id, index) => [`ucloud_vm.web["node-${index}"]`, id]),
  );

  directory.write({ 'main.tf': named('node-1', 'node-9') });
  t.strictSame((await directory.pending()).toSorted(), [
    'ucloud_vm.web["node-0"]: delete',
    'ucloud_vm.web["node-9"]: create',
  ]);
  await directory.apply();
  t.strictSame(await directory.pending(), []);
  await directory.destroy();
});

story('lifecycle', async (t) => {
  const configuration = (
    revision: number,
    lifecycle: string,
    name = '"web"',
    more = '',
  ) => `${prerequisites('lifecycle')}
resource "terraform_data" "release" {
  input = ${revision}
}
${vm('web', name, `${more}\n lifecycle {\n ${lifecycle}\n }`)}`;

  const directory = cloud.configuration(t, configuration(1, 'replace_triggered_by = [terraform_data.release]'));
  await directory.apply();
  const first = await values(directory, 'ucloud_vm.web');

  await t.test('replace_triggered_by makes the VM anew, at the same address', async (t) => {
    directory.write({ 'main.tf': configuration(2, 'replace_triggered_by = [terraform_data.release]') });
    t.strictSame((await directory.pending()).toSorted(), [
      'terraform_data.release: update',
      'ucloud_vm.web: delete+create',
    ]);
    await directory.apply();
    const now = await values(directory, 'ucloud_vm.web');
    t.not(now.id, first.id);
    t.equal(now.address, first.address);
    t.strictSame(await directory.pending(), []);
  });

  await t.test('ignore_changes lets others change a VM', async (t) => {
    const { id } = await values(directory, 'ucloud_vm.web');
    directory.write({
      'main.tf': configuration(2, 'ignore_changes = [labels, cpus, interfaces]', '"web"', 'labels = { tier = "web" }'),
    });
    await cloud.member.update('vms', String(id), { labels: { owner: 'others' }, cpus: 2 });
    t.strictSame(await directory.pending(), []);
    directory.write({
      'main.tf': configuration(
        2,
        'ignore_changes = [labels, cpus, interfaces]',
        '"web"',
        'labels = { tier = "web" }\n description = "changed"',
      ),
    });
    await directory.apply();
    t.match(
      await cloud.member.get('vms', String(id)),
      { description: 'changed', labels: { owner: 'others' }, cpus: 2 },
      'a change of something else leaves them as others made them',
    );
    t.strictSame(await directory.pending(), []);
  });

  await t.test('create_before_destroy needs another name, and says so', async (t) => {
    const before = await values(directory, 'ucloud_vm.web');
    const replacing = 'create_before_destroy = true';
    directory.write({ 'main.tf': configuration(2, replacing, '"web"', 'user_data = "#!/bin/sh"') });
    t.strictSame(await directory.pending(), ['ucloud_vm.web: create+delete']);
    const diagnostics = await directory.diagnostics('apply');
    t.match(diagnostics, [{ summary: 'VM "web" was not created: the name is taken', code: /^name/ }]);
    t.match(
      diagnostics[0]?.detail,
      /^`name` .*\n\nNames are unique in a project\. To manage the existing VM with this configuration, import it by its id \(an `import` block, or `terraform import`\)\. With `create_before_destroy`, the old VM still has the name during the creation: change the name as well, or replace the VM without `create_before_destroy`\.$/,
    );
    t.equal((await values(directory, 'ucloud_vm.web')).id, before.id, 'the old VM is there as it was');
    t.equal((await managed(directory, 'ucloud_vm')).length, 1);

    // The message and the documentation of ucloud_vm recommend this.
    const versioned = (script: string) =>
      configuration(2, replacing, `"web-\${substr(sha256(local.user_data), 0, 8)}"`, 'user_data = local.user_data') +
      `\nlocals {\n user_data = ${JSON.stringify(script)}\n}`;
    directory.write({ 'main.tf': versioned('#!/bin/sh\n') });
    t.strictSame(await directory.pending(), ['ucloud_vm.web: create+delete']);
    await directory.apply();
    const second = await values(directory, 'ucloud_vm.web');
    directory.write({ 'main.tf': versioned('#!/bin/sh\ntrue\n') });
    await directory.apply();
    const third = await values(directory, 'ucloud_vm.web');
    t.not(third.id, second.id);
    t.not(third.address, second.address, 'another name, another MAC address, another address');
    t.strictSame(await directory.pending(), []);
    t.equal((await cloud.member.list('vms')).items.length, 1, 'the old one is gone');
  });
  await directory.destroy();
});

story('test', async (t) => {
  const directory = cloud.terraform(t, {
    'main.tf': `
variable "memory" {
  type    = string
  default = "512MiB"
}
${prerequisites('tested')}${vm('web', '"web"', 'memory = var.memory')}
output "address" {
  value = ucloud_vm.web.address
}
output "id" {
  value = ucloud_vm.web.id
}`,
    'tests/web.tftest.hcl': `
run "plan_knows_the_mac" {
  command = plan
  assert {
    condition     = startswith(ucloud_vm.web.interfaces[0].mac, "42:")
    error_message = "the MAC address is not planned"
  }
}
run "it_runs" {
  assert {
    condition     = ucloud_vm.web.status.phase == "running" && output.address == ucloud_vm.web.interfaces[0].address
    error_message = "it does not run"
  }
}
run "it_grows_in_place" {
  variables {
    memory = "1GiB"
  }
  assert {
    condition     = ucloud_vm.web.id == run.it_runs.id && ucloud_vm.web.memory == "1GiB"
    error_message = "it was made anew"
  }
}
`,
  });
  await directory.run('init', '-no-color');
  const { stdout, stderr } = await directory.try('test', '-no-color');
  t.match(stdout, /Success! .*, 0 failed/s, stdout + stderr);
  t.equal((await cloud.member.list('vms')).items.length, 0);
});

story('aliases', async (t) => {
  const other = await cloud.api.operator.create('projects', { name: 'other' });
  const otherToken = (await cloud.api.member(other.id)).token;
  const directory = cloud.terraform(t, {
    'providers.tf': `
provider "ucloud" {
  alias = "other"
  token = "${otherToken}"
}`,
    'main.tf': `
module "here" {
  source = "./site"
}
module "there" {
  source    = "./site"
  providers = { ucloud = ucloud.other }
}
resource "ucloud_ssh_key" "there" {
  provider   = ucloud.other
  name       = "alice"
  public_key = "${key}"
}
output "addresses" {
  value = [module.here.address, module.there.address]
}`,
    'site/main.tf': `
terraform {
  required_providers {
    ucloud = {
      source = "ucloud.localhost/ucloud/ucloud"
    }
  }
}
${prerequisites('site')}${vm('web', '"web"')}
output "address" {
  value = provider::ucloud::eui64_address(ucloud_network.this.cidr, ucloud_vm.web.interfaces[0].mac)
}`,
  });
  await directory.run('init', '-no-color');
  await directory.apply();
  const state = await directory.state();
  const project = (address: string) => state.find((one) => one.address === address)?.values.project;
  t.equal(project('module.here.ucloud_vm.web'), cloud.project);
  t.equal(project('module.there.ucloud_vm.web'), other.id, 'the token of the alias says the project');
  t.equal(project('ucloud_ssh_key.there'), other.id);
  const addresses = state.filter(({ type }) => type === 'ucloud_vm').map((one) => one.values.address);
  t.strictSame((await directory.outputs()).addresses, addresses);
  const network = state.find((one) => one.address === 'module.there.ucloud_network.this')?.values.cidr;
  const subnet = parseIpv6(String(network).replace(/\/64$/, '')) ?? 0n;
  t.equal(
    addresses[1],
    formatIpv6(slaacAddress(subnet, defaultMac(other.id, 'web', 0, 0))),
    'a VM of the same name in another project has an address of its own',
  );
  t.strictSame(await directory.pending(), []);
  await directory.destroy();
  t.equal((await cloud.api.operator.list('vms')).items.length, 0);
});

t.test('every feature that the documentation lists has its test', async (t) => {
  t.strictSame([...told].toSorted(), Object.keys(languageFeatures).toSorted());
});
