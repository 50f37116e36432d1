/** Images of the disks of snapshots, through API, scanner and hosts. test/host/snapshots.test.ts has real guests. */
import { createHash } from 'node:crypto';
import t, { type Test } from 'tap';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { imageDeliveries } from '../../backend/model/records/index.ts';
import { read } from '../../backend/store/collection.ts';
import { reach } from '../support/api.ts';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';

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
  const one = {
    status: 422,
    body: { errors: [{ pointer: '/source', detail: /exactly one of source, snapshot and volume/ }] },
  };
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

t.test('an image of a volume needs no snapshot of the user, and outlives the volume', async (t) => {
  const copies = Promise.withResolvers<void>();
  let blocked = false;
  const { member, project, volume, vm, snapshot, file } = await cloudWithSnapshot(t, {
    fault: (step) => (step === 'createSnapshot' && blocked ? copies.promise : undefined),
  });
  t.teardown(() => copies.resolve());
  blocked = true;
  await member.remove('snapshots', snapshot.id);
  const image = await member.create('images', { name: 'golden', volume: volume.id });
  t.match(image, { volume: volume.id, status: { phase: 'pending', message: /waits for the snapshot of its volume/ } });
  t.notOk('snapshot' in image || 'snapshot_disk' in image, 'the snapshot is no part of the declaration');
  t.match((await member.list('snapshots')).items, [{ made_for: image.id, volume: volume.id, size: '2GiB' }]);
  const usage = async () => (await member.expect(200, 'GET', `/v1/projects/${project}/usage`)).body;
  t.match(await usage(), { used: { snapshots: 1, disk: '5GiB' } });
  file(project, 'own.raw');
  await reach(member, 'images', await member.create('images', { name: 'other', source: 'file:own.raw' }), 'available');
  t.match(await member.get('images', image.id), { status: { phase: 'pending' } }, 'a later import does not wait');
  copies.resolve();
  await reach(member, 'images', image, 'available');
  await until('no snapshot is left', async () => (await member.list('snapshots')).items.length === 0);
  t.match(await usage(), { used: { snapshots: 0, disk: '3GiB' } });
  await member.remove('vms', vm.id);
  await member.remove('volumes', volume.id);
  t.match(await member.get('images', image.id), { volume: volume.id, status: { phase: 'available' } });
});

t.test('the snapshot of an image of a volume goes, however the import ends', async (t) => {
  let failing = false;
  const { api, member, volume, snapshot } = await cloudWithSnapshot(t, {
    fault: (step) => {
      if (step === 'createSnapshot' && failing) throw new Error('a secret path');
      if (step === 'readSnapshot' && failing) throw new Error('a secret path');
    },
    retryMs: 5,
  });
  await member.remove('snapshots', snapshot.id);
  const none = () => until('no snapshot is left', async () => (await member.list('snapshots')).items.length === 0);
  const wrong = await member.create('images', { name: 'wrong', volume: volume.id, sha256: 'a'.repeat(64) });
  t.match(await reach(member, 'images', wrong, 'error'), { status: { message: /not the one that was declared/ } });
  await none();
  failing = true;
  const bad = await member.create('images', { name: 'bad', volume: volume.id });
  const { status } = await reach(member, 'images', bad, 'error');
  t.match(status.message, /^The snapshot of its volume could not be made\. /);
  t.notMatch(status.message, /secret/);
  await none();
  const deleted = await member.create('images', { name: 'deleted', volume: volume.id });
  await member.remove('images', deleted.id);
  await none();

  const refused = (body: object, client = member) => client.request('POST', '/v1/images', { name: 'x', ...body });
  const one = {
    status: 422,
    body: { errors: [{ pointer: '/source', detail: /exactly one of source, snapshot and vol/ }] },
  };
  t.match(await refused({ volume: volume.id, source: 'file:x' }), one);
  t.match(await refused({ volume: volume.id, snapshot: newId('snapshot') }), one);
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  for (const id of [volume.id, newId('volume')]) {
    t.match(await refused({ volume: id }, outsider), {
      status: 422,
      body: { code: 'invalid_reference', errors: [{ pointer: '/volume', detail: /existing volume of this project/ }] },
    });
  }
  await api.operator.update('projects', volume.project, { quota: { snapshots: 0 } });
  t.match(await refused({ volume: volume.id }), {
    status: 403,
    body: { code: 'quota_exceeded', errors: [{ pointer: '/volume' }] },
  });
  await none();
});
