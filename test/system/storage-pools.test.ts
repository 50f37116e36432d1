/** Storage pools through API, scheduler and hosts, with simulated hosts. test/host/storage-pools.test.ts has real directories. */
import t, { type Test } from 'tap';
import type { SimulatedStep } from '../../backend/host/hypervisor/simulated.ts';
import { newId } from '../../backend/model/ids.ts';
import { hosts, imageReports, poolReports } from '../../backend/model/records/index.ts';
import { builtInPool, type PoolSpec, poolReportId } from '../../backend/model/storage/pool.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put } from '../../backend/store/collection.ts';
import { type Body, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { GiB } from '../support/cluster.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { type SimulatedHost, startSimulatedHost } from '../support/simulated-host.ts';
import { withStore } from '../support/stores.ts';

const shared = { kind: 'shared', path: '/srv/ucloud' } as const;
const reaches =
  (size = 100 * GiB) =>
  () => ({ size, free: size });
const lost = (pool: PoolSpec) => {
  if (pool.id !== builtInPool) throw new Error('no such directory');
  return { size: 100 * GiB, free: 100 * GiB };
};

/** A cloud with hosts that reach pools, or not. */
async function poolCloud(
  t: Test,
  hosts: readonly ((pool: PoolSpec) => { size: number; free: number })[],
  fault: (host: number, step: SimulatedStep) => void = () => undefined,
) {
  const store = await withStore(t);
  const cloud = await startTestApi(t, { store });
  const { operator, project } = cloud;
  const scheduler = await startScheduler({ store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  const started: SimulatedHost[] = [];
  for (const [index, pools] of hosts.entries()) {
    const simulated = { pools, fault: (step: SimulatedStep) => fault(index, step) };
    const options = { name: `host-${index}`, simulated, leaseSeconds: 2 };
    started.push(await startSimulatedHost(t, store, options));
  }
  const { network, image } = await createVmPrerequisites(cloud, project);
  await store.commit({ write: [put(imageReports, image.id, { phase: 'available', size: GiB, at: '' })] });
  const member = await cloud.member(project);
  const createVm = (name: string, fields: object): Promise<Body> =>
    member.create('vms', {
      name,
      image: image.id,
      interfaces: [{ network: network.id }],
      disk_size: '1GiB',
      ...fields,
    });
  const createPool = async (name: string, fields: object = shared, phase = 'available'): Promise<Body> => {
    const pool = await operator.create('storage-pools', { name, ...fields });
    const seen = () => operator.get('storage-pools', pool.id);
    await until('all hosts have reported', async () => (await seen()).hosts.length === hosts.length);
    t.match(await seen(), { status: { phase } });
    return pool;
  };
  return { ...cloud, hosts: started, member, createVm, createPool };
}

t.test('the built-in pool exists from the start', async (t) => {
  const { operator, member, hosts } = await poolCloud(t, [reaches()]);
  await until('the host reports it', async () => (await operator.get('storage-pools', builtInPool)).hosts.length === 1);
  const pool = await operator.get('storage-pools', builtInPool);
  t.match(pool, { name: 'local', kind: 'local', built_in: true, default: true, status: { phase: 'available' } });
  t.match(pool, { hosts: [{ host: hosts[0]?.id, reachable: true }] });
  const volume = await member.create('volumes', { name: 'data', size: '1GiB' });
  t.equal(volume.pool, builtInPool);
  t.match(await operator.request('DELETE', `/v1/storage-pools/${builtInPool}`), {
    status: 409,
    body: { code: 'invalid_state', detail: /built in/ },
  });
  t.match(await operator.request('PATCH', `/v1/storage-pools/${builtInPool}`, { monitors: ['[::1]:3300'] }), {
    status: 400,
    body: { errors: [{ pointer: '/monitors', detail: /not allowed for the kind local/ }] },
  });
  await operator.update('storage-pools', builtInPool, { name: 'disks', description: 'the disks of the hosts' });
  t.match(await operator.get('storage-pools', builtInPool), { name: 'disks' });
});

t.test('a pool has the fields of its kind', async (t) => {
  const { operator } = await startTestApi(t);
  const ceph = {
    kind: 'ceph',
    monitors: ['[2001:db8::1]:3300'],
    user: 'ucloud',
    key_file: '/etc/key',
    rbd_pool: 'vms',
  };
  const bad: readonly (readonly [object, string])[] = [
    [{ kind: 'local' }, '/path'],
    [{ kind: 'shared' }, '/path'],
    [{ kind: 'shared', path: 'srv' }, '/path'],
    [{ kind: 'shared', path: '/srv/../etc/$(x)' }, '/path'],
    [{ kind: 'shared', path: '/' }, '/path'],
    [{ kind: 'shared', path: '/srv/../etc' }, '/path'],
    [{ kind: 'local', path: '/srv/.' }, '/path'],
    [{ ...shared, user: 'x' }, '/user'],
    [{ ...ceph, path: '/srv' }, '/path'],
    [{ ...ceph, key_file: undefined }, '/key_file'],
    [{ ...ceph, monitors: [] }, '/monitors'],
    [{ ...ceph, monitors: ['x y:1'] }, '/monitors/0'],
    [{ ...ceph, user: 'a b' }, '/user'],
    [{ ...ceph, rbd_pool: '-x' }, '/rbd_pool'],
    [{ ...shared, overcommit: 0 }, '/overcommit'],
    [{ kind: 'nfs', path: '/srv' }, '/kind'],
  ];
  for (const [fields, pointer] of bad) {
    const answer = await operator.request('POST', '/v1/storage-pools', { name: 'x', ...fields });
    t.match(answer, { status: /^4/, body: { errors: [{ pointer }] } }, JSON.stringify(fields));
  }
  t.equal((await operator.list('storage-pools')).items.length, 1, 'only the built-in pool');
  const pool = await operator.create('storage-pools', { name: 'fast', ...ceph });
  t.match(await operator.request('PATCH', `/v1/storage-pools/${pool.id}`, { user: null }), {
    status: 400,
    body: { errors: [{ pointer: '/user', detail: /required/ }] },
  });
});

t.test('tenants see pools, but not where they lie', async (t) => {
  const { operator, member, createPool } = await poolCloud(t, [reaches()]);
  const pool = await createPool('fast');
  for (const seen of [
    await member.get('storage-pools', pool.id),
    (await member.list('storage-pools', '?name=fast')).items[0],
  ]) {
    t.match(seen, { name: 'fast', kind: 'shared', status: { phase: 'available' } });
    for (const field of ['path', 'hosts', 'allocated', 'key_file', 'monitors', 'user', 'rbd_pool'])
      t.notOk(seen !== undefined && field in seen, field);
  }
  t.match(await operator.get('storage-pools', pool.id), { path: '/srv/ucloud' });
  t.match(await member.request('POST', '/v1/storage-pools', { name: 'x', ...shared }), { status: 403 });
});

t.test('a pool that is in use or the default stays', async (t) => {
  const { operator, member, createPool } = await poolCloud(t, [reaches()]);
  const pool = await createPool('fast');
  await operator.expect(200, 'PATCH', '/v1/settings', { default_storage_pool: pool.id });
  const volume = await member.create('volumes', { name: 'data', size: '1GiB' });
  t.equal(volume.pool, pool.id, 'new volumes lie in the default pool');
  t.match(await operator.get('storage-pools', pool.id), { default: true, allocated: GiB });
  const remove = () => operator.request('DELETE', `/v1/storage-pools/${pool.id}`);
  t.match(await remove(), { status: 409, body: { detail: /default pool/ } });
  await operator.expect(200, 'PATCH', '/v1/settings', { default_storage_pool: null });
  t.match(await remove(), { status: 409, body: { code: 'in_use' } });
  await member.remove('volumes', volume.id);
  t.match(await remove(), { status: 204 });
  t.match(await operator.request('PATCH', '/v1/settings', { default_storage_pool: pool.id }), {
    status: 422,
    body: { code: 'invalid_reference', errors: [{ pointer: '/default_storage_pool' }] },
  });
  t.match(await member.request('POST', '/v1/volumes', { name: 'x', size: '1GiB', pool: pool.id }), {
    status: 422,
    body: { errors: [{ pointer: '/pool' }] },
  });
});

t.test('a VM goes where all its pools are reached, and its data follows it', async (t) => {
  const { member, createVm, createPool, hosts } = await poolCloud(t, [lost, reaches(), lost]);
  const pool = await createPool('shared');
  const volume = await member.create('volumes', { name: 'data', size: '1GiB', pool: pool.id });
  const placed = async (vm: Body) => {
    await until('the VM runs', async () => (await member.get('vms', vm.id)).status.phase === 'running');
    return (await member.get('vms', vm.id)).status.host;
  };
  for (const round of [1, 2, 3]) {
    const vm = await createVm(`vm-${round}`, { volumes: [volume.id] });
    t.equal(await placed(vm), hosts[1]?.id);
    await until('it has the volume', async () => (await member.get('volumes', volume.id)).status.phase === 'attached');
    await member.remove('vms', vm.id);
  }
});

t.test('a volume of a shared pool is used on one host after the other', async (t) => {
  const { operator, member, createVm, createPool, hosts } = await poolCloud(t, [reaches(), reaches()]);
  const pool = await createPool('shared');
  const volume = await member.create('volumes', { name: 'data', size: '1GiB', pool: pool.id });
  const hostsOf: (string | undefined)[] = [];
  for (const drained of hosts) {
    await operator.update('hosts', drained.id, { draining: true });
    const vm = await createVm(`beside-${drained.id}`.slice(0, 30), { volumes: [volume.id] });
    await until('the guest has it', async () => {
      const { items } = await member.list('volume-attachments');
      return items[0]?.status.phase === 'attached';
    });
    hostsOf.push((await member.get('volumes', volume.id)).status.host);
    await member.remove('vms', vm.id);
    await operator.update('hosts', drained.id, { draining: false });
  }
  t.strictSame(hostsOf, [hosts[1]?.id, hosts[0]?.id]);

  await t.test('its data is removed by another host if its host is dead', async (t) => {
    await hosts[0]?.close();
    await until('the host is dead', async () => !(await operator.get('hosts', hosts[0]?.id ?? '')).alive);
    await member.remove('volumes', volume.id);
    t.match(await member.request('GET', `/v1/volumes/${volume.id}`), { status: 404 });
  });
});

t.test('an incomplete snapshot in a shared pool follows its volume to the host of the next VM', async (t) => {
  const tries = [0, 0];
  let mayCopy = false;
  const { operator, member, createVm, createPool, hosts } = await poolCloud(t, [reaches(), reaches()], (host, step) => {
    if (step !== 'createSnapshot') return;
    tries[host] = (tries[host] ?? 0) + 1;
    // The start of a guest interrupts copies in the same way, and no number of interruptions is a failure.
    if (!(mayCopy && host === 1)) throw Object.assign(new Error('interrupted'), { name: 'CopyInterrupted' });
  });
  const pool = await createPool('shared');
  const volume = await member.create('volumes', { name: 'data', size: '1GiB', pool: pool.id });
  const attached = async () => (await member.get('volumes', volume.id)).status.phase === 'attached';
  await operator.update('hosts', hosts[1]?.id ?? '', { draining: true });
  const first = await createVm('first', { volumes: [volume.id] });
  await until('the volume has data', async () => (await member.get('volumes', volume.id)).status.size === '1GiB');
  const snapshot = await member.create('snapshots', { name: 'moving', volume: volume.id });
  await until('the first host tries', () => (tries[0] ?? 0) > 5);
  t.equal(tries[1], 0, 'only the host with the guest copies the volume');
  await member.remove('vms', first.id);
  await operator.update('hosts', hosts[1]?.id ?? '', { draining: false });
  await operator.update('hosts', hosts[0]?.id ?? '', { draining: true });
  await createVm('second', { volumes: [volume.id] });
  await until('the second guest has it', attached);
  await until('the second host tries', () => (tries[1] ?? 0) > 0);
  mayCopy = true;
  await until('it is complete', async () => (await member.get('snapshots', snapshot.id)).status.phase === 'available');
  t.equal((await member.get('snapshots', snapshot.id)).status.host, hosts[1]?.id);
});

t.test('a pool without space or reach says so', async (t) => {
  const { operator, member, createVm, createPool } = await poolCloud(t, [reaches(2 * GiB), lost]);
  const pool = await createPool('small');
  const volumes = [];
  for (const name of ['a', 'b', 'c'])
    volumes.push(await member.create('volumes', { name, size: '1GiB', pool: pool.id }));
  const ids = volumes.map(({ id }) => id);
  const vm = await createVm('greedy', { volumes: ids });
  await until('it waits', async () => (await member.get('vms', vm.id)).status.reason === 'no_host');
  t.match(await member.get('vms', vm.id), {
    status: {
      message:
        /needs 3GiB in the storage pool small, which has 2GiB left.*1 of 2 hosts is without access to the storage pool small/,
    },
  });
  await operator.update('storage-pools', pool.id, { overcommit: 2 });
  await until('overcommit helps', async () => (await member.get('vms', vm.id)).status.phase === 'running');

  await member.update('volumes', ids[0] ?? '', { size: '4GiB' });
  await until('growth waits', async () => (await member.get('volumes', ids[0] ?? '')).status.reason === 'no_space');
  t.match(await member.get('volumes', ids[0] ?? ''), {
    status: { message: /not enough space left for 3GiB more/, size: '1GiB' },
  });
  await operator.update('storage-pools', pool.id, { overcommit: 4 });
  await until('and goes on', async () => (await member.get('volumes', ids[0] ?? '')).status.size === '4GiB');
});

t.test('no volume is created in a pool that no host reaches', async (t) => {
  const { member, createPool } = await poolCloud(t, [lost]);
  const pool = await createPool('away', shared, 'unavailable');
  t.match(await member.request('POST', '/v1/volumes', { name: 'x', size: '1GiB', pool: pool.id }), {
    status: 409,
    body: { code: 'invalid_state', errors: [{ pointer: '/pool', detail: /not reached by any host/ }] },
  });
  t.strictSame((await member.list('volumes')).items, []);
});

t.test('volumes and their VMs that wait for the same pool never end the term of the scheduler', async (t) => {
  const { operator, member, createVm, createPool } = await poolCloud(t, [reaches(4 * GiB), reaches(4 * GiB)]);
  const pool = await createPool('small');
  const volume = await member.create('volumes', { name: 'grows', size: '1GiB', pool: pool.id });
  const first = await createVm('first', { volumes: [volume.id] });
  await until('it runs', async () => (await member.get('vms', first.id)).status.phase === 'running');
  await member.remove('vms', first.id);
  await member.update('volumes', volume.id, { size: '9GiB' });
  await until('growth waits', async () => (await member.get('volumes', volume.id)).status.reason === 'no_space');
  const second = await createVm('second', { volumes: [volume.id] });
  await until('the VM waits', async () => (await member.get('vms', second.id)).status.reason === 'no_host');
  await operator.update('storage-pools', pool.id, { overcommit: 4 });
  await until('both go on', async () => (await member.get('vms', second.id)).status.phase === 'running');
  const plain = await createVm('plain', {});
  await until('and others too', async () => (await member.get('vms', plain.id)).status.phase === 'running');

  await t.test('a growth that is taken back no longer holds up a VM', async () => {
    const other = await member.create('volumes', { name: 'large', size: '20GiB', pool: pool.id });
    const third = await createVm('third', { volumes: [other.id] });
    await until('it waits', async () => (await member.get('vms', third.id)).status.reason === 'no_host');
    await member.update('volumes', other.id, { size: '1GiB' });
    await until('it runs', async () => (await member.get('vms', third.id)).status.phase === 'running');
  });
});

t.test('a lost host is removed with its deleted VMs, and their shared volumes go on elsewhere', async (t) => {
  const { operator, member, createVm, createPool, hosts } = await poolCloud(t, [reaches(), reaches()]);
  const [first, second] = hosts;
  if (!first || !second) throw new Error('two hosts');
  const pool = await createPool('shared');
  const volume = await member.create('volumes', { name: 'data', size: '1GiB', pool: pool.id });
  await operator.update('hosts', second.id, { draining: true });
  const vm = await createVm('lost', { volumes: [volume.id] });
  await until(
    'it has the volume',
    async () => (await member.list('volume-attachments')).items[0]?.status.phase === 'attached',
  );
  await first.close();
  await until('the host is dead', async () => !(await operator.get('hosts', first.id)).alive);
  t.match(await operator.request('DELETE', `/v1/hosts/${first.id}`), { status: 409 }, 'the VM is not deleted yet');
  await operator.update('hosts', second.id, { draining: false });
  await member.expect(202, 'DELETE', `/v1/vms/${vm.id}`);
  await until(
    'the host can go',
    async () => (await operator.request('DELETE', `/v1/hosts/${first.id}`)).status === 204,
  );
  await until('the VM is gone', async () => (await member.request('GET', `/v1/vms/${vm.id}`)).status === 404);
  const next = await createVm('next', { volumes: [volume.id] });
  await until(
    'the next VM has the volume',
    async () => (await member.list('volume-attachments')).items[0]?.status.phase === 'attached',
  );
  t.equal((await member.get('vms', next.id)).status.host, second.id);
  await until(
    'the report of the lost host is gone',
    async () => (await operator.get('storage-pools', pool.id)).hosts.length === 1,
  );
});

t.test('a deleted volume is removed as soon as a host reaches its pool', async (t) => {
  let reachable = true;
  const pools = (pool: PoolSpec) => {
    if (pool.id !== builtInPool && !reachable) throw new Error('away');
    return reaches()();
  };
  const { operator, member, createVm, createPool, hosts } = await poolCloud(t, [reaches(), pools]);
  const pool = await createPool('shared');
  const volume = await member.create('volumes', { name: 'data', size: '1GiB', pool: pool.id });
  await operator.update('hosts', hosts[1]?.id ?? '', { draining: true });
  const vm = await createVm('one', { volumes: [volume.id] });
  await until(
    'it has the volume',
    async () => (await member.list('volume-attachments')).items[0]?.status.phase === 'attached',
  );
  await member.remove('vms', vm.id);
  reachable = false;
  const look = (description: string) => operator.update('storage-pools', pool.id, { description });
  await look('again');
  await until('one host has lost it', async () => {
    const reports = (await operator.get('storage-pools', pool.id)).hosts as readonly { readonly reachable: boolean }[];
    return reports.some((report) => !report.reachable);
  });
  await hosts[0]?.close();
  await until('the other is dead', async () => !(await operator.get('hosts', hosts[0]?.id ?? '')).alive);
  await member.expect(202, 'DELETE', `/v1/volumes/${volume.id}`);
  reachable = true;
  await look('and again');
  await until(
    'the volume is gone',
    async () => (await member.request('GET', `/v1/volumes/${volume.id}`)).status === 404,
  );
});

t.test('a pool with the reports of many hosts can be deleted, and one without statistics has no limit', async (t) => {
  const unknown = () => ({ size: 0, free: 0 });
  const { store, operator, member, createVm, createPool } = await poolCloud(t, [unknown]);
  const pool = await createPool('ceph');
  const volume = await member.create('volumes', { name: 'data', size: '1TiB', pool: pool.id });
  const vm = await createVm('one', { volumes: [volume.id] });
  await until('it runs', async () => (await member.get('vms', vm.id)).status.phase === 'running');
  await member.remove('vms', vm.id);
  await member.remove('volumes', volume.id);
  const report = { reachable: true, size: 1, free: 1, at: '2026-01-01T00:00:00.000Z' };
  for (let batch = 0; batch < 4; batch++) {
    const ids = Array.from({ length: 50 }, () => newId('host'));
    await store.commit({
      write: ids.flatMap((host) => [
        put(hosts, host, hostRecord({ id: host })),
        put(poolReports, poolReportId(pool.id, host), report),
      ]),
    });
  }
  await until('they are there', async () => (await operator.get('storage-pools', pool.id)).hosts.length === 201);
  t.match(await operator.request('DELETE', `/v1/storage-pools/${pool.id}`), { status: 204 });
  t.strictSame(
    (await store.list('pool-reports/')).entries.filter(({ key }) => key.includes(pool.id)),
    [],
  );
});
