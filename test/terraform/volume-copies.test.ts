/** Copies of volumes from Terraform: an apply waits until a copy has its data. */
import t from 'tap';
import { startTestCloud } from '../support/cloud.ts';
import { prerequisites } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

const source = `${prerequisites}
resource "ucloud_volume" "data" {
  name = "data"
  size = "1GiB"
}
resource "ucloud_vm" "web" {
  name       = "web"
  image      = data.ucloud_image.demo.id
  volumes    = [ucloud_volume.data.id]
  interfaces = [{ network = ucloud_network.this.id }]
}
`;

const copies = `${source}
resource "ucloud_volume" "copy" {
  name          = "copy"
  size          = "1GiB"
  source_volume = ucloud_volume.data.id
  depends_on    = [ucloud_vm.web]
}
resource "ucloud_volume" "again" {
  name          = "again"
  size          = "1GiB"
  source_volume = ucloud_volume.copy.id
}
resource "ucloud_volume" "unused" {
  name  = "unused"
  size  = "1GiB"
  image = data.ucloud_image.demo.id
}
`;

t.test('a copy, and a copy of it, are made in one apply', { skip }, async (t) => {
  const cloud = await startTestCloud(t, {});
  const directory = cloud.configuration(t, copies);
  await directory.apply();
  t.match((await directory.resource('ucloud_volume.again')).values.status, { phase: 'available', size: '1GiB' });
  t.strictSame(await directory.pending(), []);
  await directory.destroy();
});

t.test('a copy that fails is tainted, and the next apply replaces it', { skip }, async (t) => {
  let failing = true;
  const fault = (step: string) => {
    if (step === 'createSnapshot' && failing) throw new Error('no copy');
  };
  const cloud = await startTestCloud(t, { fault, retryMs: 5 });
  const directory = cloud.configuration(t, copies);
  await t.rejects(directory.apply(), /Volume "copy" has no data/);
  failing = false;
  await directory.apply();
  t.match((await directory.resource('ucloud_volume.again')).values.status, { phase: 'available' });
});
