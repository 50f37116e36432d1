/** Snapshots through API, scheduler and hosts, with simulated guests. test/host/snapshots.test.ts has real guests. */
import t, { type Test } from 'tap';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { builtInPool } from '../../backend/model/storage/pool.ts';
import { reach } from '../support/api.ts';
import { GiB, startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';

/** A cloud with a VM that has a volume, and functions for snapshots. */
async function snapshotCloud(t: Test, options: Parameters<typeof startTestCloud>[1] = {}) {
  const cloud = await startTestCloud(t, options);
  const { member } = cloud;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  const { items } = await member.list('images', '?name=demo');
  const createVm = (name: string, change: object = {}) =>
    member.create('vms', {
      ...{ name, image: items[0]?.id, disk_size: '1GiB', interfaces: [{ network: network.id }] },
      ...change,
    });
  const volume = await member.create('volumes', { name: 'data', size: '2GiB' });
  const vm = await createVm('web', { volumes: [volume.id] });
  await until('the volume has data', async () => (await member.get('volumes', volume.id)).status.size === '2GiB');
  return { ...cloud, cloud, createVm, vm, volume };
}

t.test('a snapshot outlives its source, and a new volume gets its data', async (t) => {
  const { member, vm, volume, createVm } = await snapshotCloud(t);
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  t.match(snapshot, {
    size: '3GiB',
    disks: [
      { volume: undefined, size: '1GiB' },
      { volume: volume.id, size: '2GiB' },
    ],
  });
  const { status } = await reach(member, 'snapshots', snapshot, 'available');
  t.match(status, { taken_at: /^\d{4}-/, host: (await member.get('vms', vm.id)).status.host });

  await member.remove('vms', vm.id);
  await member.remove('volumes', volume.id);
  t.match(await member.get('snapshots', snapshot.id), { vm: vm.id, status: { phase: 'available' } });
  const from = { snapshot: snapshot.id, snapshot_disk: volume.id };
  t.match(await member.request('POST', '/v1/volumes', { name: 'small', size: '1GiB', ...from }), {
    status: 422,
    body: { errors: [{ pointer: '/size', detail: /at least 2GiB/ }] },
  });
  t.match(await member.request('POST', '/v1/volumes', { name: 'x', size: '3GiB', snapshot: snapshot.id }), {
    status: 422,
    body: { errors: [{ pointer: '/snapshot_disk', detail: /must be a disk of the snapshot: root, vol-/ }] },
  });
  const copy = await member.create('volumes', { name: 'copy', size: '3GiB', ...from });
  const next = await createVm('next', { volumes: [copy.id] });
  await until('it is attached', async () => (await member.get('volumes', copy.id)).status.size === '3GiB');
  t.equal((await member.get('vms', next.id)).status.host, status.host, 'the VM goes to the host of the snapshot');
  t.match(await member.request('PATCH', `/v1/volumes/${copy.id}`, { size: '2GiB' }), { status: 422 });
  await member.remove('snapshots', snapshot.id);
  t.match(await member.get('volumes', copy.id), { snapshot: snapshot.id, status: { phase: 'attached' } });
});

t.test(
  'the snapshot of a volume in a shared pool lies there, and data from a snapshot stays in its pool',
  async (t) => {
    const { api, member, createVm, volume } = await snapshotCloud(t);
    const { operator } = api;
    const pool = await operator.create('storage-pools', { name: 'fast', kind: 'shared', path: '/srv/ucloud' });
    await until('a host reaches the pool', async () => {
      return (await operator.get('storage-pools', pool.id)).status.phase === 'available';
    });
    await operator.expect(200, 'PATCH', '/v1/settings', { default_storage_pool: pool.id });
    const other = await member.create('volumes', { name: 'other', size: '1GiB' });
    t.equal(other.pool, pool.id);
    const third = await operator.create('storage-pools', { name: 'third', kind: 'shared', path: '/srv/third' });
    await reach(operator, 'storage-pools', third, 'available');
    const near = await member.create('volumes', { name: 'near', size: '1GiB', pool: third.id });
    await createVm('both', { volumes: [other.id, near.id] });
    await until('it has data', async () => (await member.get('volumes', other.id)).status.size === '1GiB');
    const there = await member.create('snapshots', { name: 'there', volume: other.id });
    t.equal(there.pool, pool.id);
    await reach(member, 'snapshots', there, 'available');
    t.match(await operator.get('storage-pools', pool.id), { allocated: 2 * GiB }, 'it takes space of the pool');
    t.match(await operator.request('DELETE', `/v1/storage-pools/${pool.id}`), {
      status: 409,
      body: { code: 'invalid_state' },
    });
    t.match(
      await member.request('POST', '/v1/volumes', { name: 'x', size: '1GiB', snapshot: there.id, pool: third.id }),
      {
        status: 422,
        body: { errors: [{ pointer: '/pool', detail: new RegExp(`must be ${pool.id}`) }] },
      },
    );
    const restored = await member.create('volumes', { name: 'restored', size: '1GiB', snapshot: there.id });
    t.equal((await reach(member, 'volumes', restored, 'available')).pool, pool.id);
    await member.remove('snapshots', there.id);

    const snapshot = await member.create('snapshots', { name: 'monday', volume: volume.id });
    await reach(member, 'snapshots', snapshot, 'available');
    const from = { size: '2GiB', snapshot: snapshot.id };
    t.match(await member.request('POST', '/v1/volumes', { name: 'elsewhere', ...from, pool: pool.id }), {
      status: 422,
      body: {
        code: 'rule_violated',
        errors: [{ pointer: '/pool', detail: /, the pool of the source, or be omitted/ }],
      },
    });
    const copy = await member.create('volumes', { name: 'copy', ...from });
    t.equal(copy.pool, builtInPool, 'although the default pool is another one');
    await reach(member, 'volumes', copy, 'available');
    t.equal((await member.create('volumes', { name: 'again', ...from, pool: builtInPool })).pool, builtInPool);
  },
);

t.test('a snapshot in a pool of Ceph outlives its volume and its host, and a new volume has no host yet', async (t) => {
  const { api, member, createVm, project } = await snapshotCloud(t, { moreHosts: 1 });
  const { operator } = api;
  const ceph = {
    monitors: ['[2001:db8::1]:3300'],
    user: 'ucloud',
    key_file: '/etc/ucloud/ceph.key',
    rbd_pool: 'ucloud',
  };
  const pool = await operator.create('storage-pools', { name: 'ceph', kind: 'ceph', ...ceph });
  await reach(operator, 'storage-pools', pool, 'available');
  const volume = await member.create('volumes', { name: 'far', size: '1GiB', pool: pool.id });
  const vm = await createVm('far', { volumes: [volume.id] });
  await until('it has data', async () => (await member.get('volumes', volume.id)).status.size === '1GiB');
  const snapshot = await member.create('snapshots', { name: 'far', volume: volume.id });
  t.equal(snapshot.pool, pool.id);
  await reach(member, 'snapshots', snapshot, 'available');
  t.match(await operator.get('storage-pools', pool.id), { allocated: 2 * GiB }, 'it takes space of the pool');
  t.match(await operator.request('DELETE', `/v1/storage-pools/${pool.id}`), { status: 409, body: { code: 'in_use' } });
  await member.remove('vms', vm.id);
  await member.remove('volumes', volume.id);

  const from = { snapshot: snapshot.id, size: '2GiB' };
  t.match(await member.request('POST', '/v1/volumes', { name: 'elsewhere', ...from, pool: builtInPool }), {
    status: 422,
    body: { errors: [{ pointer: '/pool', detail: new RegExp(`must be ${pool.id}`) }] },
  });
  const copies = await Promise.all(['a', 'b'].map((name) => member.create('volumes', { name, ...from })));
  for (const copy of copies) {
    t.equal(copy.pool, pool.id);
    await reach(member, 'volumes', copy, 'available');
  }
  const [first, second] = copies;
  const apart = { anti_affinity: { group: 'apart', mode: 'required' } };
  const vms = [
    await createVm('a', { volumes: [first?.id], ...apart }),
    await createVm('b', { volumes: [second?.id], ...apart }),
  ];
  const hosts = await Promise.all(vms.map(async (each) => (await reach(member, 'vms', each, 'running')).status.host));
  t.equal(new Set(hosts).size, 2, 'the data is not bound to a host');
  for (const copy of copies) await reach(member, 'volumes', copy, 'attached');
  const { items } = await member.list('volume-attachments');
  t.ok(items.length >= 2);
  for (const attachment of items) await reach(member, 'volume-attachments', attachment, 'attached');
  await member.remove('snapshots', snapshot.id);
  t.match(await operator.get('storage-pools', pool.id), { allocated: 4 * GiB }, 'and then takes no space');
  t.match((await member.expect(200, 'GET', `/v1/projects/${project}/usage`)).body, { used: { snapshots: 0 } });
});

t.test('bad snapshots are refused and leave nothing', async (t) => {
  const { api, member, vm, volume } = await snapshotCloud(t);
  const refused = (body: object) => member.request('POST', '/v1/snapshots', { name: 'bad', ...body });
  const one = { status: 422, body: { errors: [{ pointer: '/volume', detail: /exactly one of volume and vm/ }] } };
  t.match(await refused({}), one);
  t.match(await refused({ vm: vm.id, volume: volume.id }), one);
  const empty = await member.create('volumes', { name: 'empty', size: '1GiB' });
  t.match(await refused({ volume: empty.id }), {
    status: 409,
    body: { code: 'invalid_state', errors: [{ pointer: '/volume', detail: /has no data yet/ }] },
  });
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  for (const body of [{ volume: volume.id }, { vm: vm.id }, { volume: newId('volume') }, { vm: newId('vm') }]) {
    const answer = await outsider.request('POST', '/v1/snapshots', { name: 'foreign', ...body });
    t.match(answer, { status: 422, body: { code: 'invalid_reference' } });
  }
  t.strictSame((await member.list('snapshots')).items, []);
  const own = await member.create('snapshots', { name: 'own', volume: volume.id });
  await reach(member, 'snapshots', own, 'available');
  t.match(await outsider.request('POST', '/v1/volumes', { name: 'x', size: '2GiB', snapshot: own.id }), {
    status: 422,
    body: { errors: [{ pointer: '/snapshot', detail: /existing snapshot of this project/ }] },
  });
  t.match(await member.request('POST', '/v1/volumes', { name: 'x', size: '2GiB', snapshot_disk: 'root' }), {
    status: 422,
    body: { errors: [{ pointer: '/snapshot_disk', detail: /without a snapshot/ }] },
  });
});

t.test('a project learns nothing about snapshots of another project', async (t) => {
  const { api, member, volume } = await snapshotCloud(t);
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  const secret = await member.create('snapshots', { name: 'secret', volume: volume.id });
  for (const [method, body] of [
    ['GET', undefined],
    ['PATCH', { description: 'x' }],
    ['DELETE', undefined],
  ] as const) {
    const answer = await outsider.request(method, `/v1/snapshots/${secret.id}`, body);
    t.match(answer, { status: 404, body: { detail: `there is no snapshot ${secret.id}` } }, method);
  }
  t.strictSame((await outsider.list('snapshots')).items, []);
});

t.test('snapshots take space of their host and count in the quota', async (t) => {
  const capacity = { cpus: 8, memory: 64 * GiB, disk: 6 * GiB };
  const { api, member, project, volume, vm } = await snapshotCloud(t, { capacity });
  const first = await member.create('snapshots', { name: 'first', volume: volume.id });
  await reach(member, 'snapshots', first, 'available');
  const second = await member.create('snapshots', { name: 'second', vm: vm.id });
  await until(
    'it waits for space',
    async () => (await member.get('snapshots', second.id)).status.reason === 'no_space',
  );
  t.match(await member.get('snapshots', second.id), { status: { phase: 'pending', message: /not enough disk/ } });
  await member.remove('snapshots', first.id);
  await reach(member, 'snapshots', second, 'available');
  t.match((await member.expect(200, 'GET', `/v1/projects/${project}/usage`)).body, {
    used: { snapshots: 1, disk: '6GiB' },
  });
  await api.operator.update('projects', project, { quota: { snapshots: 1 } });
  t.match(await member.request('POST', '/v1/snapshots', { name: 'third', volume: volume.id }), {
    status: 403,
    body: { code: 'quota_exceeded', detail: /1 snapshot/ },
  });
  await api.operator.update('projects', project, { quota: { disk: '6GiB' } });
  t.match(await member.request('POST', '/v1/snapshots', { name: 'third', volume: volume.id }), {
    status: 403,
    body: { code: 'quota_exceeded', detail: /6GiB of disk/ },
  });
});

t.test('a copy that fails again and again ends in an error, and a repaired one does not', async (t) => {
  let failing = Number.POSITIVE_INFINITY;
  const { member, volume } = await snapshotCloud(t, {
    fault: (step) => {
      if (step === 'createSnapshot' && failing-- > 0) throw new Error('a secret path');
    },
    retryMs: 5,
  });
  const bad = await member.create('snapshots', { name: 'bad', volume: volume.id });
  const { status } = await reach(member, 'snapshots', bad, 'error');
  t.match(status, { reason: 'failed', message: /a step failed on the host/ });
  t.notMatch(status.message, /secret/);
  t.match(await member.request('POST', '/v1/volumes', { name: 'x', size: '2GiB', snapshot: bad.id }), {
    status: 409,
    body: { code: 'invalid_state', errors: [{ pointer: '/snapshot', detail: /no complete copy/ }] },
  });
  failing = 2;
  const good = await member.create('snapshots', { name: 'good', volume: volume.id });
  const { status: now } = await reach(member, 'snapshots', good, 'available');
  t.equal(now.message, undefined);
  await member.remove('snapshots', bad.id);
  await member.remove('snapshots', good.id);
});

t.test('a snapshot with consistent file systems needs a guest agent while the VM runs', async (t) => {
  const { member, vm, volume, hypervisor } = await snapshotCloud(t, { retryMs: 5 });
  const consistency = 'filesystem';
  const bad = await member.create('snapshots', { name: 'bad', volume: volume.id, consistency });
  const { status } = await reach(member, 'snapshots', bad, 'error');
  t.match(status, { reason: 'no_guest_agent', message: 'No guest agent runs in the VM.' });
  hypervisor.setGuestAgent(idFrom('vm', vm.id), true);
  const good = await member.create('snapshots', { name: 'good', vm: vm.id, consistency });
  t.match(await reach(member, 'snapshots', good, 'available'), { consistency });
  hypervisor.setGuestAgent(idFrom('vm', vm.id), false);
  await member.update('vms', vm.id, { power_state: 'stopped' });
  await reach(member, 'vms', vm, 'stopped');
  const stopped = await member.create('snapshots', { name: 'stopped', vm: vm.id, consistency });
  await reach(member, 'snapshots', stopped, 'available');
});

t.test('a protected snapshot stays', async (t) => {
  const { member, volume } = await snapshotCloud(t);
  const snapshot = await member.create('snapshots', { name: 'kept', volume: volume.id, delete_protection: true });
  const path = `/v1/snapshots/${snapshot.id}`;
  t.match(await member.request('DELETE', path), { status: 409, body: { code: 'delete_protected' } });
  await member.update('snapshots', snapshot.id, { delete_protection: false, labels: { keep: 'no' } });
  await member.remove('snapshots', snapshot.id);
  t.match(await member.request('GET', path), { status: 404 });
  await member.create('snapshots', { name: 'kept', volume: volume.id });
});
