/** Volumes with the data of another volume, with simulated guests. test/host/snapshots.test.ts has real guests. */
import t, { type Test } from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { newStateKeyFile, parseStateKeys } from '../../backend/api/terraform-state/keys.ts';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { volumePlacements, volumeReports } from '../../backend/model/records/index.ts';
import { builtInPool } from '../../backend/model/storage/pool.ts';
import { read } from '../../backend/store/collection.ts';
import { ApiClient, type Body, reach } from '../support/api.ts';
import { GiB, startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { silentLogger as logger } from '../support/silent-logger.ts';

/** A cloud with a VM that has a volume. */
async function copyCloud(t: Test, options: Parameters<typeof startTestCloud>[1] = {}) {
  const cloud = await startTestCloud(t, options);
  const { member } = cloud;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  const { items } = await member.list('images', '?name=demo');
  const createVm = (name: string, volumes: readonly string[], change: object = {}) =>
    member.create('vms', {
      ...{ name, image: items[0]?.id, disk_size: '1GiB', interfaces: [{ network: network.id }], volumes },
      ...change,
    });
  const source = await member.create('volumes', { name: 'data', size: '2GiB' });
  const vm = await createVm('web', [source.id]);
  await until('the volume has data', async () => (await member.get('volumes', source.id)).status.size === '2GiB');
  return { ...cloud, createVm, vm, source, image: items[0] as Body };
}

const noSnapshots = (client: ApiClient) =>
  until('no snapshot is left', async () => (await client.list('snapshots')).items.length === 0);

/** A step that waits until the test opens it. */
function gate() {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}

t.test('a volume gets the data of another one, and its snapshot is removed by itself', async (t) => {
  const copies = gate();
  const { member, project, source, createVm } = await copyCloud(t, {
    fault: (step) => (step === 'createSnapshot' ? copies.opened : undefined),
  });
  t.teardown(copies.open);
  const copy = await member.create('volumes', { name: 'copy', size: '3GiB', source_volume: source.id });
  t.match(copy, { source_volume: source.id, pool: builtInPool, status: { phase: 'restoring' } });
  t.notOk('snapshot' in copy || 'snapshot_disk' in copy, 'the snapshot is no part of the declaration');
  const { items } = await member.list('snapshots');
  t.match(items, [{ name: `for-${copy.id}`, made_for: copy.id, volume: source.id, size: '2GiB' }]);
  const usage = async () => (await member.expect(200, 'GET', `/v1/projects/${project}/usage`)).body;
  t.match(await usage(), { used: { volumes: 2, snapshots: 1, disk: '8GiB' } }, 'it counts while it takes space');
  copies.open();
  await reach(member, 'volumes', copy, 'available');
  await noSnapshots(member);
  t.match(await usage(), { used: { volumes: 2, snapshots: 0, disk: '6GiB' } });
  const vm = await createVm('next', [copy.id]);
  await reach(member, 'volumes', copy, 'attached');
  await reach(member, 'vms', vm, 'running');
  const again = await member.create('volumes', { name: 'again', size: '3GiB', source_volume: copy.id });
  await reach(member, 'volumes', again, 'available');
  await member.remove('vms', vm.id);
  await member.remove('volumes', copy.id);
  t.match(await member.get('volumes', again.id), { source_volume: copy.id, status: { phase: 'available' } });
});

t.test('a copy of a root volume can be a root volume', async (t) => {
  const { member, image, createVm } = await copyCloud(t);
  const root = await member.create('volumes', { name: 'root', size: '2GiB', image: image.id });
  const first = await createVm('first', [], { image: undefined, disk_size: undefined, root_volume: root.id });
  await reach(member, 'vms', first, 'running');
  const copy = await member.create('volumes', { name: 'root-copy', size: '2GiB', source_volume: root.id });
  t.equal(copy.image, image.id);
  const second = await createVm('second', [], { image: undefined, disk_size: undefined, root_volume: copy.id });
  await reach(member, 'vms', second, 'running');
  await noSnapshots(member);
});

t.test('a copy in a pool of Ceph lies in this pool', async (t) => {
  const { api, member, createVm } = await copyCloud(t, { moreHosts: 1 });
  const { operator } = api;
  const ceph = { monitors: ['[2001:db8::1]:3300'], user: 'u', key_file: '/etc/ucloud/ceph.key', rbd_pool: 'p' };
  const pool = await operator.create('storage-pools', { name: 'ceph', kind: 'ceph', ...ceph });
  await reach(operator, 'storage-pools', pool, 'available');
  const source = await member.create('volumes', { name: 'far', size: '1GiB', pool: pool.id });
  await createVm('far', [source.id]);
  await until('it has data', async () => (await member.get('volumes', source.id)).status.size === '1GiB');
  const copy = await member.create('volumes', { name: 'copy', size: '1GiB', source_volume: source.id });
  t.equal(copy.pool, pool.id);
  await reach(member, 'volumes', copy, 'available');
  await noSnapshots(member);
  t.match(await operator.get('storage-pools', pool.id), { allocated: 2 * GiB }, 'the snapshot takes no space');
  const elsewhere = { name: 'elsewhere', size: '1GiB', source_volume: source.id, pool: builtInPool };
  t.match(await member.request('POST', '/v1/volumes', elsewhere), {
    status: 422,
    body: { errors: [{ pointer: '/pool', detail: new RegExp(`must be ${pool.id}`) }] },
  });
  t.strictSame((await member.list('snapshots')).items, []);
});

t.test('bad copies of volumes are refused and leave nothing', async (t) => {
  const { api, member, source, image } = await copyCloud(t);
  const refused = (body: object, client = member) =>
    client.request('POST', '/v1/volumes', { name: 'bad', size: '2GiB', source_volume: source.id, ...body });
  const empty = await member.create('volumes', { name: 'empty', size: '1GiB' });
  const other = { image: image.id, snapshot: newId('snapshot'), snapshot_disk: 'root' };
  for (const [field, value] of Object.entries(other)) {
    t.match(await refused({ [field]: value }), {
      status: 422,
      body: {
        errors: [{ pointer: '/source_volume', detail: /must be omitted with image, snapshot or snapshot_disk/ }],
      },
    });
  }
  t.match(await refused({ size: '1GiB' }), {
    status: 422,
    body: { errors: [{ pointer: '/size', detail: 'must be at least 2GiB, the size of the source' }] },
  });
  t.match(await refused({ source_volume: empty.id }), {
    status: 409,
    body: { code: 'invalid_state', errors: [{ pointer: '/source_volume', detail: /has no data yet/ }] },
  });
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  const gone = newId('volume');
  for (const [id, client] of [
    [source.id, outsider],
    [gone, member],
  ] as const) {
    const detail = `must be the id of an existing volume of this project: there is no ${id}`;
    const answer = await refused({ source_volume: id }, client);
    t.match(answer, {
      status: 422,
      body: { code: 'invalid_reference', errors: [{ pointer: '/source_volume', detail }] },
    });
  }
  t.match(await refused({ name: 'data' }), {
    status: 409,
    body: { code: 'name_taken', errors: [{ pointer: '/name' }] },
  });
  t.strictSame((await member.list('snapshots')).items, []);
  t.equal((await member.list('volumes')).items.length, 2);
});

t.test('a copy counts its snapshot in the quota, and the error names the field', async (t) => {
  const { api, member, project, source } = await copyCloud(t);
  const refused = (size: string) =>
    member.request('POST', '/v1/volumes', { name: 'copy', size, source_volume: source.id });
  await api.operator.update('projects', project, { quota: { disk: '6GiB' } });
  const error = (pointer: string) => ({ status: 403, body: { code: 'quota_exceeded', errors: [{ pointer }] } });
  t.match(await refused('4GiB'), error('/size'), 'the volume alone is too large');
  t.match(await refused('2GiB'), error('/source_volume'), 'the snapshot is too much');
  await api.operator.update('projects', project, { quota: { snapshots: 0 } });
  t.match(await refused('2GiB'), error('/source_volume'));
  t.strictSame((await member.list('snapshots')).items, []);
  await api.operator.update('projects', project, { quota: { disk: '7GiB', snapshots: 1 } });
  const copy = await member.create('volumes', { name: 'copy', size: '2GiB', source_volume: source.id });
  await reach(member, 'volumes', copy, 'available');
});

t.test('a copy that waits for space says so, and goes on when there is some', async (t) => {
  const capacity = { cpus: 8, memory: 64 * GiB, disk: 6 * GiB };
  const { member, source } = await copyCloud(t, { capacity });
  const copy = await member.create('volumes', { name: 'copy', size: '2GiB', source_volume: source.id });
  await until('it waits', async () => (await member.get('volumes', copy.id)).status.reason === 'no_space');
  t.match(await member.get('volumes', copy.id), { status: { phase: 'restoring', message: /not enough disk/ } });
  await member.remove('volumes', copy.id);
  await noSnapshots(member);
});

t.test('a copy whose snapshot fails says so for ever, and only the volume stays', async (t) => {
  let failing = true;
  const copies = gate();
  t.teardown(copies.open);
  const { member, source, vm, image, createVm } = await copyCloud(t, {
    fault: async (step) => {
      if (step !== 'createSnapshot' || !failing) return;
      await copies.opened;
      throw new Error('a secret path');
    },
    retryMs: 5,
  });
  const copy = await member.create('volumes', { name: 'copy', size: '2GiB', source_volume: source.id });
  const early = await createVm('early', [copy.id]);
  copies.open();
  await until('it has failed', async () => (await member.get('volumes', copy.id)).status.reason === 'source_failed');
  await until('the attachment says so', async () => {
    const { items } = await member.list('volume-attachments');
    return items.some(({ status }) => status.reason === 'source_failed');
  });
  await member.remove('vms', early.id);
  const { status } = await reach(member, 'volumes', copy, 'error');
  t.match(status, {
    reason: 'source_failed',
    message: /^The snapshot of vol-\w+ could not be made\. .*Delete the volume/,
  });
  t.notMatch(status.message, /secret/);
  await noSnapshots(member);
  failing = false;
  t.match(await member.get('volumes', copy.id), { status: { phase: 'error', reason: 'source_failed' } });
  const network = vm.interfaces[0]?.network;
  const next = { name: 'next', interfaces: [{ network }] };
  const refused = [
    ['/v1/vms', { ...next, image: image.id, volumes: [copy.id] }, '/volumes/0'],
    ['/v1/volume-attachments', { vm: vm.id, volume: copy.id }, '/volume'],
  ] as const;
  for (const [path, body, pointer] of refused) {
    const detail = /never gets its data\. The snapshot of vol-\w+ could not be made/;
    t.match(await member.request('POST', path, body), {
      status: 409,
      body: { code: 'invalid_state', errors: [{ pointer, detail }] },
    });
  }
  await member.remove('volumes', copy.id);
  t.match(await member.get('volumes', source.id), { status: { phase: 'attached', vm: vm.id } });
});

t.test('a disk that is being copied grows after the end of the copy', async (t) => {
  const copies = gate();
  const { api, member, source } = await copyCloud(t, {
    fault: (step) => (step === 'createSnapshot' ? copies.opened : undefined),
  });
  t.teardown(copies.open);
  const snapshot = await member.create('snapshots', { name: 'before', volume: source.id });
  await reach(member, 'snapshots', snapshot, 'creating');
  await member.update('volumes', source.id, { size: '4GiB' });
  await until(
    'it is granted',
    async () => (await read(api.store, volumePlacements, source.id))?.value.size === 4 * GiB,
  );
  // The agent has seen the growth when it begins to fill a volume that was requested later.
  const later = await member.create('volumes', { name: 'later', size: '1GiB' });
  const vm = await member.get('vms', String((await member.get('volumes', source.id)).status.vm));
  await member.update('vms', vm.id, { volumes: [source.id, later.id] });
  await until('it has data', async () => (await member.get('volumes', later.id)).status.size === '1GiB');
  t.equal(
    (await member.get('volumes', source.id)).status.size,
    '2GiB',
    'the copy has space for the size at its request',
  );
  copies.open();
  await reach(member, 'snapshots', snapshot, 'available');
  await until('it grows', async () => (await member.get('volumes', source.id)).status.size === '4GiB');
});

t.test('the disk of a deleted VM stays until its snapshot is complete', async (t) => {
  const copies = gate();
  const steps: string[] = [];
  const { member, vm } = await copyCloud(t, {
    fault: (step) => {
      steps.push(step);
      return step === 'createSnapshot' ? copies.opened : undefined;
    },
  });
  t.teardown(copies.open);
  const snapshot = await member.create('snapshots', { name: 'whole', vm: vm.id });
  await until('it is being made', () => steps.includes('createSnapshot'));
  t.equal((await member.request('DELETE', `/v1/vms/${vm.id}`)).status, 202);
  await until('the guest ends', () => steps.includes('stop'));
  t.notOk(steps.includes('destroy'), 'the disk is there');
  copies.open();
  await reach(member, 'snapshots', snapshot, 'available');
  await member.gone('vms', vm.id, 1);
});

t.test('a deleted source keeps its data until its copies have it', async (t) => {
  const copies = gate();
  const { api, member, source, vm } = await copyCloud(t, {
    fault: (step) => (step === 'createSnapshot' ? copies.opened : undefined),
    retryMs: 5,
  });
  t.teardown(copies.open);
  const first = await member.create('volumes', { name: 'first', size: '2GiB', source_volume: source.id });
  const second = await member.create('volumes', { name: 'second', size: '2GiB', source_volume: source.id });
  await until('both are being made', async () => {
    const { items } = await member.list('snapshots');
    return items.length === 2 && items.every(({ status }) => status.phase === 'creating');
  });
  const { status } = await member.request('DELETE', `/v1/volumes/${first.id}`);
  t.equal(status, 202);
  await member.remove('vms', vm.id);
  t.equal((await member.request('DELETE', `/v1/volumes/${source.id}`)).status, 202);
  await member.gone('volumes', first.id, 1);
  t.match(await member.get('volumes', source.id), {
    status: { phase: 'deleting', reason: 'being_copied', message: new RegExp(`made for ${second.id}`) },
  });
  t.notOk((await read(api.store, volumeReports, source.id))?.value.phase === 'gone', 'the data is there');
  copies.open();
  await reach(member, 'volumes', second, 'available');
  await noSnapshots(member);
  await member.gone('volumes', source.id, 1);
  await member.remove('volumes', second.id);
});

t.test('a deleted volume goes when its incomplete snapshots are deleted', async (t) => {
  const { api, member, source, vm } = await copyCloud(t, { capacity: { cpus: 8, memory: 64 * GiB, disk: 3 * GiB } });
  const copy = await member.create('volumes', { name: 'copy', size: '2GiB', source_volume: source.id });
  const snapshot = await member.create('snapshots', { name: 'own', volume: source.id });
  await until(
    'it waits for space',
    async () => (await member.get('snapshots', snapshot.id)).status.reason === 'no_space',
  );
  await member.remove('vms', vm.id);
  t.equal((await member.request('DELETE', `/v1/volumes/${source.id}`)).status, 202);
  await member.remove('volumes', copy.id);
  await until('only one snapshot is left', async () => (await member.list('snapshots')).items.length === 1);
  t.equal((await read(api.store, volumeReports, source.id))?.value.phase, 'available', 'one snapshot still waits');
  await member.remove('snapshots', snapshot.id);
  await member.gone('volumes', source.id, 1);
});

t.test('users neither change nor delete the snapshot of a copy', async (t) => {
  const copies = gate();
  const { member, source } = await copyCloud(t, {
    fault: (step) => (step === 'createSnapshot' ? copies.opened : undefined),
  });
  t.teardown(copies.open);
  const copy = await member.create('volumes', { name: 'copy', size: '2GiB', source_volume: source.id });
  const { items } = await member.list('snapshots');
  const path = `/v1/snapshots/${items[0]?.id}`;
  const inUse = { status: 409, body: { code: 'in_use', users: [{ id: copy.id }] } };
  t.match(await member.request('DELETE', path), inUse);
  t.match(await member.request('PATCH', path, { delete_protection: true }), inUse);
  const forged = { name: 'forged', volume: source.id, made_for: copy.id };
  t.match(await member.request('POST', '/v1/snapshots', forged), { status: 400, body: { code: 'invalid_input' } });
  const other = { name: 'other', snapshot: items[0]?.id };
  const used = {
    status: 409,
    body: { code: 'invalid_state', detail: /was made for vol-/, errors: [{ pointer: '/snapshot' }] },
  };
  t.match(await member.request('POST', '/v1/images', other), used, 'it goes before another object has its data');
  t.match(await member.request('POST', '/v1/volumes', { ...other, size: '2GiB' }), used);
  copies.open();
  await reach(member, 'volumes', copy, 'available');
  await noSnapshots(member);
});

t.test('the next API removes the snapshot of a copy that has ended', async (t) => {
  const copies = gate();
  const { api, member, source } = await copyCloud(t, {
    fault: (step) => (step === 'createSnapshot' ? copies.opened : undefined),
  });
  t.teardown(copies.open);
  const copy = await member.create('volumes', { name: 'copy', size: '2GiB', source_volume: source.id });
  await api.api.close();
  copies.open();
  await until('it has the data', async () => (await read(api.store, volumeReports, copy.id)) !== undefined);
  const next = await startApi({
    ...{ store: api.store, listen: { host: '::1', port: 0 }, logger, stateKeys: parseStateKeys(newStateKeyFile()) },
    rateLimit: { requestsPerMinute: 1_000_000, failuresPerMinute: 1_000_000 },
  });
  t.teardown(() => next.close());
  const client = new ApiClient(next.url, member.token);
  await reach(client, 'volumes', copy, 'available');
  await noSnapshots(client);
});
