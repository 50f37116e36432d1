/** A VM that an operator has moved to another host shows no change in a plan. */
import t from 'tap';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { imageAndNetwork } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

t.test('a moved VM has no drift', { skip: terraformMissing() ?? false }, async (t) => {
  const cloud = await startTestCloud(t, { moreHosts: 1 });
  const { member, api } = cloud;
  const pool = await api.operator.create('storage-pools', { name: 'fast', kind: 'shared', path: '/srv/fast' });
  await until('both hosts reach the pool', async () => {
    const { entries } = await api.store.list(`pool-reports/${pool.id}/`);
    return entries.length === 2;
  });
  const directory = cloud.configuration(
    t,
    `${imageAndNetwork({ network: 'web' })}
resource "ucloud_volume" "system" {
  name  = "system"
  size  = "2GiB"
  image = data.ucloud_image.demo.id
  pool  = "${pool.id}"
}
resource "ucloud_vm" "db" {
  name        = "db"
  root_volume = ucloud_volume.system.id
  power_state = "stopped"
  interfaces  = [{ network = ucloud_network.this.id }]
}`,
  );
  await directory.apply();
  const id = String((await directory.resource('ucloud_vm.db')).values.id);
  await until('stopped', async () => (await member.get('vms', id)).status.phase === 'stopped');
  const before = (await member.get('vms', id)).status.host;
  const { body } = await api.operator.expect(202, 'POST', `/v1/vms/${id}/move`, {});
  await until('moved', async () => (await api.operator.get('operations', String(body.id))).state === 'succeeded');
  t.not((await member.get('vms', id)).status.host, before);
  t.strictSame(await directory.pending(), []);
});
