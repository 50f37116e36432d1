/** A VM that boots from a volume, from Terraform: it is replaced in one apply, and volume and VM change together. */
import t from 'tap';
import { startTestCloud } from '../support/cloud.ts';
import { prerequisites } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

const main = ({ size = '1GiB', cpus = 1, group = 'a' } = {}) => `${prerequisites}
resource "ucloud_volume" "system" {
  name  = "system"
  size  = "${size}"
  image = data.ucloud_image.demo.id
}
resource "ucloud_volume" "data" {
  name = "data"
  size = "1GiB"
}
resource "ucloud_vm" "web" {
  name          = "web"
  root_volume   = ucloud_volume.system.id
  volumes       = [ucloud_volume.data.id]
  cpus          = ${cpus}
  interfaces    = [{ network = ucloud_network.this.id }]
  anti_affinity = { group = "${group}" }
}
`;

t.test('a VM with a root volume', { skip }, async (t) => {
  const cloud = await startTestCloud(t, {});
  const directory = cloud.configuration(t, main());
  await directory.apply();
  t.strictSame(await directory.pending(), [], 'a second plan is empty');
  const { id, disk_size: diskSize } = (await directory.resource('ucloud_vm.web')).values;
  t.equal(diskSize, '1GiB', 'the disk is that of the volume');

  await t.test('changes together with its volume', async (t) => {
    directory.write({ 'main.tf': main({ size: '2GiB', cpus: 2 }) });
    await directory.apply();
    t.match((await directory.resource('ucloud_vm.web')).values, { id, disk_size: '2GiB', cpus: 2 });
    t.strictSame(await directory.pending(), []);
  });

  await t.test('is replaced in one apply, and keeps its volumes', async (t) => {
    const volume = (await directory.resource('ucloud_volume.system')).values.id;
    directory.write({ 'main.tf': main({ size: '2GiB', cpus: 2, group: 'b' }) });
    await directory.apply();
    const { values } = await directory.resource('ucloud_vm.web');
    t.not(values.id, id);
    t.equal(values.root_volume, volume);
    t.strictSame(await directory.pending(), []);
  });
  await directory.destroy();
});
