/** Images of the disks of snapshots, through API, scanner and hosts. test/host/snapshots.test.ts has real guests. */
import { createHash } from 'node:crypto';
import t, { type Test } from 'tap';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { imageDeliveries } from '../../backend/model/records/index.ts';
import { read } from '../../backend/store/collection.ts';
import type { ApiClient, Body } from '../support/api.ts';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';

async function reach(client: ApiClient, plural: string, { id }: Body, phase: string): Promise<Body> {
  let item = await client.get(plural, id);
  await until(`${id} is ${phase}`, async () => {
    item = await client.get(plural, id);
    return item.status.phase === phase;
  });
  return item;
}

/** A cloud with a snapshot of a VM that has a volume. */
async function cloudWithSnapshot(t: Test, options: Parameters<typeof startTestCloud>[1] = {}) {
  const cloud = await startTestCloud(t, options);
  const { member } = cloud;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  const { items } = await member.list('images', '?name=demo');
  const volume = await member.create('volumes', { name: 'data', size: '2GiB' });
  const interfaces = [{ network: network.id }];
  const vm = await member.create('vms', {
    ...{ name: 'web', image: items[0]?.id, disk_size: '1GiB', interfaces, volumes: [volume.id] },
  });
  await until('the volume has data', async () => (await member.get('volumes', volume.id)).status.size === '2GiB');
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  await reach(member, 'snapshots', snapshot, 'available');
  return { ...cloud, volume, vm, snapshot, interfaces };
}

t.test('an image of a snapshot is an image like any other, and outlives the snapshot', async (t) => {
  const { api, member, snapshot, interfaces } = await cloudWithSnapshot(t);
  const from = { snapshot: snapshot.id, snapshot_disk: 'root' };
  const image = await member.create('images', { name: 'golden', ...from, family: 'golden' });
  t.match(await reach(member, 'images', image, 'available'), {
    source: undefined,
    sha256: createHash('sha256')
      .update(Buffer.alloc(1024 ** 2))
      .digest('hex'),
    size: '1MiB',
  });
  await member.remove('snapshots', snapshot.id);
  t.match(await member.get('images', image.id), { ...from, status: { phase: 'available' } });
  t.equal((await member.expect(200, 'GET', '/v1/image-families/golden')).body.id, image.id);
  const vm = await member.create('vms', { name: 'next', image: image.id, disk_size: '1GiB', interfaces });
  await reach(member, 'vms', vm, 'running');
  t.equal(await read(api.store, imageDeliveries, image.id), undefined, 'no secret stays');
});

t.test('bad images of snapshots are refused and leave nothing', async (t) => {
  const { api, member, snapshot } = await cloudWithSnapshot(t);
  const refused = (body: object) => member.request('POST', '/v1/images', { name: 'bad', ...body });
  t.match(await refused({ snapshot: snapshot.id, snapshot_disk: 'root', firmware: 'uefi' }), {
    status: 422,
    body: { errors: [{ pointer: '/firmware', detail: /must be bios/ }] },
  });
  const one = { status: 422, body: { errors: [{ pointer: '/source', detail: /exactly one of source and snapshot/ }] } };
  t.match(await refused({}), one);
  t.match(await refused({ source: 'file:x', snapshot: snapshot.id }), one);
  t.match(await refused({ source: 'file:x', snapshot_disk: 'root' }), {
    status: 422,
    body: { errors: [{ pointer: '/snapshot_disk', detail: /without a snapshot/ }] },
  });
  for (const disk of [{}, { snapshot_disk: newId('volume') }]) {
    t.match(await refused({ snapshot: snapshot.id, ...disk }), {
      status: 422,
      body: { errors: [{ pointer: '/snapshot_disk', detail: /must be a disk of the snapshot: root, vol-/ }] },
    });
  }
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  for (const id of [snapshot.id, newId('snapshot')]) {
    const answer = await outsider.request('POST', '/v1/images', { name: 'x', snapshot: id, snapshot_disk: 'root' });
    t.match(answer, { status: 422, body: { errors: [{ pointer: '/snapshot', detail: /snapshot of this project/ }] } });
  }
  const wrong = { snapshot: snapshot.id, snapshot_disk: 'root', sha256: 'a'.repeat(64) };
  const image = await member.create('images', { name: 'wrong', ...wrong });
  t.match(await reach(member, 'images', image, 'error'), { status: { message: /not the one that was declared/ } });
});

t.test('the import of a snapshot that is deleted meanwhile ends with the reason', async (t) => {
  let failing = true;
  const { member, snapshot } = await cloudWithSnapshot(t, {
    fault: (step) => {
      if (step === 'readSnapshot' && failing) throw new Error('the disk of the host does not answer');
    },
    retryMs: 5,
  });
  const from = { snapshot: snapshot.id, snapshot_disk: 'root' };
  const image = await member.create('images', { name: 'golden', ...from });
  await reach(member, 'images', image, 'importing');
  await member.remove('snapshots', snapshot.id);
  t.match(await reach(member, 'images', image, 'error'), {
    status: { message: `The snapshot ${snapshot.id} was deleted before the import had copied it.` },
  });
  failing = false;
});

t.test('a host that fails at first delivers later, also to the next image scanner', async (t) => {
  let failures = 3;
  const { member, snapshot, scanner } = await cloudWithSnapshot(t, {
    fault: (step) => {
      if (step === 'readSnapshot' && failures-- > 0) throw new Error('the disk of the host does not answer');
    },
    retryMs: 5,
  });
  const from = { snapshot: snapshot.id, snapshot_disk: 'root' };
  const first = await member.create('images', { name: 'first', ...from });
  await reach(member, 'images', first, 'available');
  failures = Number.POSITIVE_INFINITY;
  const second = await member.create('images', { name: 'second', ...from });
  await reach(member, 'images', second, 'importing');
  await scanner.stop();
  failures = 0;
  await scanner.start();
  await reach(member, 'images', second, 'available');
});
