/** Volumes with the content of an image, through API, scheduler and hosts. test/host/root-volume.test.ts has real guests. */
import t, { type Test } from 'tap';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { startTestCloud } from '../support/cloud.ts';
import { rawDisk } from '../support/disk-images.ts';
import { until } from '../support/eventually.ts';

/** A cloud with an image, and a function for VMs. */
async function imageCloud(t: Test, options: Parameters<typeof startTestCloud>[1] = {}) {
  const cloud = await startTestCloud(t, options);
  const { member, project, file } = cloud;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  const { items } = await member.list('images', '?name=demo');
  const demo = String(items[0]?.id);
  /** Creates an image of the project; its import ends unless the scanner is stopped. */
  const createImage = async (name: string, content?: Uint8Array) => {
    file(project, `${name}.img`, content);
    return member.create('images', { name, source: `file:${name}.img` });
  };
  const createVm = (name: string, change: object = {}) =>
    member.create('vms', { name, image: demo, interfaces: [{ network: network.id }], ...change });
  const statusOf = async (volume: string) => (await member.get('volumes', volume)).status;
  return { ...cloud, demo, network, createImage, createVm, statusOf };
}

t.test('a new volume has the content of its image before a guest gets it', async (t) => {
  let failing = Number.POSITIVE_INFINITY;
  const { member, hypervisor, demo, createVm, statusOf } = await imageCloud(t, {
    fault: (step) => {
      if (step === 'fillVolume' && failing-- > 0) throw new Error('a copy failed');
    },
    retryMs: 5,
  });
  const volume = await member.create('volumes', { name: 'disk', size: '3GiB', image: demo });
  t.match(volume, { image: demo, status: { phase: 'available', host: undefined } });
  t.notOk('boot' in volume);
  const vm = await createVm('web', { volumes: [volume.id] });
  await until('the VM runs', async () => (await member.get('vms', vm.id)).status.phase === 'running');
  t.match(await statusOf(volume.id), { phase: 'attached', size: undefined });
  const [attachment] = (await member.list('volume-attachments')).items;
  t.match(attachment?.status, { phase: 'pending', reason: 'restoring', message: /the data of the image/ });
  t.strictSame(hypervisor.volumesOf(idFrom('vm', vm.id)), [], 'its guest does not have the incomplete volume');
  failing = 0;
  await until('the guest has the volume', () => hypervisor.volumesOf(idFrom('vm', vm.id)).length === 1);
  await until('and its size is known', async () => (await statusOf(volume.id)).size === '3GiB');
});

t.test('an image can be deleted, and only volumes without data notice it', async (t) => {
  const { member, createImage, createVm, statusOf, scanner } = await imageCloud(t);
  const image = await createImage('debian');
  await until('available', async () => (await member.get('images', image.id)).status.phase === 'available');
  const filled = await member.create('volumes', { name: 'filled', size: '1GiB', image: image.id });
  const empty = await member.create('volumes', { name: 'empty', size: '1GiB', image: image.id });
  await createVm('one', { volumes: [filled.id] });
  await until('it has data', async () => (await statusOf(filled.id)).size === '1GiB');
  await member.remove('images', image.id);
  t.match(await member.get('volumes', filled.id), {
    image: image.id,
    status: { phase: 'attached', reason: undefined },
  });
  const gone = { reason: 'image_gone', message: /image was deleted/ };
  t.match(await statusOf(empty.id), gone);
  const two = await createVm('two', { volumes: [empty.id] });
  await until('the VM runs', async () => (await member.get('vms', two.id)).status.phase === 'running');
  t.match(await statusOf(empty.id), { phase: 'attached', size: undefined, ...gone });
  await member.expect(200, 'PATCH', `/v1/vms/${two.id}`, { power_state: 'stopped' });
  await member.expect(200, 'PATCH', `/v1/vms/${two.id}`, { volumes: [] });
  await until('detached', async () => (await statusOf(empty.id)).phase !== 'attached');
  await member.remove('volumes', empty.id);

  // The scanner has not imported this image yet.
  await scanner.stop();
  const late = await createImage('late');
  const waiting = await member.create('volumes', { name: 'waiting', size: '1GiB', image: late.id });
  t.match(await statusOf(waiting.id), { reason: 'image_not_available', message: /waits for the import/ });
  await createVm('three', { volumes: [waiting.id] });
  await scanner.start();
  await until('it has data', async () => (await statusOf(waiting.id)).size === '1GiB');
});

t.test('an image that is withdrawn gives no content to volumes that wait for it', async (t) => {
  const { api, member, createImage } = await imageCloud(t);
  const image = await createImage('shared');
  await until('available', async () => (await member.get('images', image.id)).status.phase === 'available');
  const friendId = idFrom('project', (await api.operator.create('projects', { name: 'friend' })).id);
  const friend = await api.member(friendId);
  await member.update('images', image.id, { shared_with: [friendId] });
  const [volume, own] = await Promise.all([
    friend.create('volumes', { name: 'disk', size: '1GiB', image: image.id }),
    member.create('volumes', { name: 'disk', size: '1GiB', image: image.id }),
  ]);
  t.equal((await friend.get('volumes', volume.id)).status.reason, undefined);
  await member.update('images', image.id, { shared_with: [] });
  const gone = { reason: 'image_gone', message: /image was deleted or withdrawn/ };
  t.match((await friend.get('volumes', volume.id)).status, gone);
  t.equal((await member.get('volumes', own.id)).status.reason, undefined, 'its owner may use it');

  const prefix = await friend.create('prefixes', { name: 'site', length: 60 });
  const network = await friend.create('networks', { name: 'web', prefix: prefix.id });
  const { items } = await friend.list('images', '?name=demo');
  const interfaces = [{ network: network.id }];
  const vm = await friend.create('vms', { name: 'web', image: items[0]?.id, interfaces, volumes: [volume.id] });
  await until('the VM runs', async () => (await friend.get('vms', vm.id)).status.phase === 'running');
  await until('placed', async () => (await friend.get('volumes', volume.id)).status.host !== undefined);
  t.match((await friend.get('volumes', volume.id)).status, { ...gone, size: undefined });
  await member.update('images', image.id, { shared_with: [friendId] });
  await until('it has data', async () => (await friend.get('volumes', volume.id)).status.size === '1GiB');
});

t.test('a volume from an image that does not fit is refused', async (t) => {
  const { api, member, demo, createImage } = await imageCloud(t);
  const refused = (body: object) => member.request('POST', '/v1/volumes', { name: 'bad', size: '3GiB', ...body });
  const at = (pointer: string, detail: RegExp) => ({ status: 422, body: { errors: [{ pointer, detail }] } });
  const large = await createImage('large', rawDisk(3 * 1024 ** 2));
  await until('imported', async () => (await member.get('images', large.id)).status.phase === 'available');
  t.match(await refused({ image: large.id, size: '2MiB' }), at('/size', /at least that of the image, 3MiB/));
  t.match(await refused({ image: newId('image') }), at('/image', /existing image/));
  t.match(await refused({ image: 'demo' }), { status: 400 });
  t.match(await refused({ image: demo, snapshot: newId('snapshot') }), at('/image', /omitted with a snapshot/));
  t.match(await refused({ image: demo, snapshot_disk: 'root' }), at('/snapshot_disk', /without a snapshot/));
  const own = await createImage('own');
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  const foreign = { name: 'x', size: '3GiB', image: own.id };
  t.match(await outsider.request('POST', '/v1/volumes', foreign), at('/image', /existing image of this project/));
  await outsider.create('volumes', { ...foreign, image: demo });
  t.strictSame((await member.list('volumes')).items, [], 'nothing is left');
  const volume = await member.create('volumes', { name: 'disk', size: '3GiB', image: demo });
  t.match(await member.request('PATCH', `/v1/volumes/${volume.id}`, { size: '2GiB' }), at('/size', /only grow/));
  t.match(await member.request('PATCH', `/v1/volumes/${volume.id}`, { image: own.id }), { status: 400 });
});

t.test('the root disk in a snapshot keeps its image, also for volumes from it', async (t) => {
  const { member, demo, createVm } = await imageCloud(t);
  const root = await member.create('volumes', { name: 'disk', size: '3GiB', image: demo });
  const vm = await createVm('web', { volumes: [root.id] });
  await until('it has data', async () => (await member.get('volumes', root.id)).status.size === '3GiB');
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  t.match(snapshot, { disks: [{ image: demo }, { volume: root.id, image: demo }] });
  await until('complete', async () => (await member.get('snapshots', snapshot.id)).status.phase === 'available');
  for (const [index, disk] of ['root', root.id].entries()) {
    const copy = { name: `copy-${index}`, size: '3GiB', snapshot: snapshot.id, snapshot_disk: disk };
    t.equal((await member.create('volumes', copy)).image, demo);
  }
});
