/** VMs that boot from volumes, through API, scheduler and hosts. test/host/root-volume.test.ts has real guests. */
import t, { type Test } from 'tap';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';

async function rootCloud(t: Test, options: Parameters<typeof startTestCloud>[1] = {}) {
  const cloud = await startTestCloud(t, options);
  const { member, project, file } = cloud;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  file(project, 'system.img');
  const image = await member.create('images', { name: 'system', source: 'file:system.img' });
  await until('imported', async () => (await member.get('images', image.id)).status.phase === 'available');
  const interfaces = [{ network: network.id }];
  const createVm = (name: string, change: object) => member.create('vms', { name, interfaces, ...change });
  const refused = (change: object) => member.request('POST', '/v1/vms', { name: 'bad', interfaces, ...change });
  const runs = (vm: string) =>
    until(`${vm} runs`, async () => (await member.get('vms', vm)).status.phase === 'running');
  return { ...cloud, image, createVm, refused, runs };
}

const at = (pointer: string, detail: RegExp, status = 422) => ({ status, body: { errors: [{ pointer, detail }] } });

t.test('a VM boots from a volume, which outlives VM and image', async (t) => {
  const { member, project, image, createVm, runs } = await rootCloud(t, { moreHosts: 2 });
  const root = await member.create('volumes', { name: 'root', size: '3GiB', image: image.id });
  const data = await member.create('volumes', { name: 'data', size: '1GiB' });
  const vm = await createVm('one', { root_volume: root.id, volumes: [data.id] });
  t.match(vm, { image: image.id, root_volume: root.id, disk_size: '3GiB', volumes: [data.id] });
  t.notOk('boot' in vm);
  await runs(vm.id);
  const { status } = await member.get('vms', vm.id);
  t.equal((await member.get('volumes', root.id)).status.host, status.host);
  t.match((await member.expect(200, 'GET', `/v1/projects/${project}/usage`)).body, { used: { disk: '4GiB' } });
  await until('its size is known', async () => (await member.get('volumes', root.id)).status.size === '3GiB');

  const before = await member.get('vms', vm.id);
  await member.update('volumes', root.id, { size: '5GiB' });
  const after = await member.get('vms', vm.id);
  t.match(after, { disk_size: '5GiB', status: { restart_required: false, pending_changes: [] } });
  t.ok(Number(after.revision) > Number(before.revision), 'clients that wait for the VM notice it');

  await member.remove('images', image.id);
  t.match(await member.get('vms', vm.id), { image: image.id });
  await member.expect(202, 'POST', `/v1/vms/${vm.id}/reboot`, {});
  await runs(vm.id);
  await member.remove('vms', vm.id);
  await until('detached', async () => (await member.get('volumes', root.id)).status.phase === 'available');
  t.match(await member.get('volumes', root.id), { status: { size: '5GiB', host: status.host } });
  const next = await createVm('two', { root_volume: root.id });
  await runs(next.id);
  t.equal((await member.get('vms', next.id)).status.host, status.host, 'a local volume does not move');
  t.match(await member.create('snapshots', { name: 'all', vm: next.id }), {
    disks: [{ volume: root.id, image: image.id, size: '5GiB' }],
  });
});

t.test('a VM does not start before its root volume is complete', async (t) => {
  let failing = Number.POSITIVE_INFINITY;
  const { member, image, createVm, runs } = await rootCloud(t, {
    fault: (step) => {
      if (step === 'fillVolume' && failing-- > 0) throw new Error('a copy failed');
    },
    retryMs: 5,
  });
  const root = await member.create('volumes', { name: 'root', size: '3GiB', image: image.id });
  const gone = await member.create('volumes', { name: 'gone', size: '3GiB', image: image.id });
  const vm = await createVm('one', { root_volume: root.id });
  const reason = async (id: string) => (await member.get('vms', id)).status.reason;
  await until('it says why', async () => (await reason(vm.id)) === 'root_volume_not_available');
  t.match(await member.get('vms', vm.id), {
    status: { phase: 'preparing', message: /its root volume has its content/ },
  });
  failing = 0;
  await runs(vm.id);
  await member.remove('images', image.id);
  const never = await createVm('two', { root_volume: gone.id });
  await until('it says why', async () => (await reason(never.id)) === 'root_volume_not_available');
  t.match(await member.get('vms', never.id), { status: { message: /image was deleted or withdrawn before/ } });
  await member.remove('vms', never.id);
});

t.test('a root volume is not detached, taken or replaced, and bad ones are refused', async (t) => {
  const { api, member, image, createVm, refused } = await rootCloud(t);
  const root = await member.create('volumes', { name: 'root', size: '3GiB', image: image.id });
  const data = await member.create('volumes', { name: 'data', size: '1GiB' });
  const both = /exactly one of image and root_volume/;
  t.match(await refused({}), at('/image', both));
  t.match(await refused({ image: image.id, root_volume: root.id }), at('/image', both));
  t.match(await refused({ root_volume: data.id }), at('/root_volume', /must be a volume with an image/));
  t.match(await refused({ root_volume: newId('volume') }), at('/root_volume', /existing volume/));
  t.match(await refused({ root_volume: root.id, disk_size: '4GiB' }), at('/disk_size', /omitted with root_volume/));
  t.match(await refused({ root_volume: root.id, volumes: [root.id] }), at('/volumes/0', /not be the root volume/));
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  const theirs = { name: 'x', interfaces: [{ network: newId('network') }], root_volume: root.id };
  t.match(await outsider.request('POST', '/v1/vms', theirs), at('/root_volume', /existing volume of this project/));
  t.strictSame((await member.list('vms')).items, [], 'nothing is left');
  t.strictSame((await member.list('volume-attachments')).items, []);

  const [one, two] = await Promise.all(['one', 'two'].map((name) => refused({ name, root_volume: root.id })));
  t.strictSame([one?.status, two?.status].sort(), [201, 409], 'one of two requests gets it');
  const vm = String((one?.status === 201 ? one : two)?.body.id);
  t.match(await refused({ root_volume: root.id }), at('/root_volume', /is attached to vm-/, 409));
  const path = `/v1/vms/${vm}`;
  t.match(await member.request('PATCH', path, { volumes: [root.id] }), at('/volumes/0', /is attached to vm-/, 409));
  t.match(await member.request('PATCH', path, { disk_size: '9GiB' }), at('/disk_size', /omitted with root_volume/));
  t.match(await member.request('PATCH', path, { root_volume: null }), { status: 400 });
  t.match(await member.request('PATCH', path, { disk_size: null }), at('/disk_size', /omitted with root_volume/));
  t.match(await member.request('DELETE', `/v1/volumes/${root.id}`), { status: 409, body: { code: 'in_use' } });
  await member.expect(200, 'PATCH', `/v1/volumes/${root.id}`, { force_detach: true });
  const [attachment] = (await member.list('volume-attachments')).items;
  t.match(
    await member.request('DELETE', `/v1/volume-attachments/${attachment?.id}`),
    at('/volume', /is the root volume of vm-.*stays attached/, 409),
  );
  const sixteen = await Promise.all(
    Array.from({ length: 16 }, (_, index) => member.create('volumes', { name: `d-${index}`, size: '1GiB' })),
  );
  await member.expect(200, 'PATCH', path, { volumes: sixteen.map(({ id }) => id) });
  await member.remove('vms', vm);
  await until('free', async () => (await member.get('volumes', root.id)).status.phase === 'available');
  await createVm('three', { root_volume: root.id });
});

t.test('a root volume in a pool of several hosts goes to the host of its next VM', async (t) => {
  const { api, member, image, createVm, runs } = await rootCloud(t, { moreHosts: 1 });
  const pool = await api.operator.create('storage-pools', { name: 'fast', kind: 'shared', path: '/srv/ucloud' });
  await until('reached', async () => (await api.operator.get('storage-pools', pool.id)).status.phase === 'available');
  const root = await member.create('volumes', { name: 'root', size: '3GiB', image: image.id, pool: pool.id });
  const vm = await createVm('one', { root_volume: root.id });
  await runs(vm.id);
  const first = String((await member.get('vms', vm.id)).status.host);
  await member.remove('vms', vm.id);
  await until('free', async () => (await member.get('volumes', root.id)).status.phase === 'available');
  await api.operator.expect(200, 'PATCH', `/v1/hosts/${first}`, { draining: true });
  const next = await createVm('two', { root_volume: root.id });
  await runs(next.id);
  t.not((await member.get('vms', next.id)).status.host, first);
});
