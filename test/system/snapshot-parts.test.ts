/** Snapshots of VMs with volumes in several pools, with simulated guests. test/host/ceph.test.ts has real guests. */
import t, { type Test } from 'tap';
import { builtInPool, type PoolSpec } from '../../backend/model/storage/pool.ts';
import { type ApiClient, type Body, reach } from '../support/api.ts';
import { GiB, startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';

const ceph = {
  ...{ kind: 'ceph', monitors: ['[2001:db8::1]:3300'], user: 'ucloud' },
  ...{ key_file: '/etc/ucloud/ceph.key', rbd_pool: 'ucloud' },
};

/** A cloud with a VM that has a volume in each kind of pool. */
async function partsCloud(t: Test, options: Parameters<typeof startTestCloud>[1] = {}) {
  const cloud = await startTestCloud(t, options);
  const { member, api } = cloud;
  const { operator } = api;
  const pools = [
    await operator.create('storage-pools', { name: 'ceph', ...ceph }),
    await operator.create('storage-pools', { name: 'shared', kind: 'shared', path: '/srv/shared' }),
  ];
  for (const pool of pools) await reach(operator, 'storage-pools', pool, 'available');
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  const { items } = await member.list('images', '?name=demo');
  const createVm = (name: string, volumes: readonly string[]) =>
    member.create('vms', {
      ...{ name, image: items[0]?.id, disk_size: '1GiB', interfaces: [{ network: network.id }], volumes },
    });
  const create = (name: string, pool: string) => member.create('volumes', { name, size: '2GiB', pool });
  const volumes = [
    await create('far', pools[0]?.id ?? ''),
    await create('near', pools[1]?.id ?? ''),
    await create('here', builtInPool),
  ];
  const ids = volumes.map(({ id }) => id);
  const vm = await createVm('web', ids);
  for (const id of ids) {
    await until('the volume has data', async () => (await member.get('volumes', id)).status.size === '2GiB');
  }
  const usage = async () =>
    ((await member.expect(200, 'GET', `/v1/projects/${cloud.project}/usage`)).body as unknown as { used: object }).used;
  return { ...cloud, operator, vm, ids, pools, createVm, usage };
}

/** Returns the parts of the snapshot. */
const partsOf = async (client: ApiClient, snapshot: Body): Promise<Body[]> =>
  (await client.list('snapshots')).items.filter(({ made_for }) => made_for === snapshot.id);

t.test('a snapshot of a VM has a part in each pool of its volumes', async (t) => {
  const { member, operator, vm, ids, pools, usage } = await partsCloud(t);
  const [far, near, here] = ids;
  const before = await usage();
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  const disks = [{ size: '1GiB' }, { volume: far }, { volume: near }, { volume: here }];
  t.match(snapshot, { size: '7GiB', pool: builtInPool, disks });
  const placesOf = (list: readonly { readonly pool?: string }[]) => list.map(({ pool }) => pool);
  t.strictSame(placesOf(snapshot.disks), [undefined, pools[0]?.id, pools[1]?.id, undefined]);
  const { status } = await reach(member, 'snapshots', snapshot, 'available');
  const parts = await partsOf(member, snapshot);
  t.equal(parts.length, 2);
  for (const part of parts) {
    t.match(part, { name: `of-${snapshot.id}-${part.volume}`, size: '2GiB', vm: undefined });
    t.match(part.status, { phase: 'available', taken_at: status.taken_at }, 'at the same instant');
    t.match(await member.request('DELETE', `/v1/snapshots/${part.id}`), { status: 409, body: { code: 'in_use' } });
    const body = { name: 'x', size: '2GiB', snapshot: part.id };
    t.match(await member.request('POST', '/v1/volumes', body), { status: 409, body: { code: 'invalid_state' } });
  }
  t.match(await usage(), { snapshots: 1, disk: '14GiB' }, 'a part is no further snapshot, and takes space');
  for (const pool of pools) t.match(await operator.get('storage-pools', pool.id), { allocated: 4 * GiB });
  await member.remove('snapshots', snapshot.id);
  await until('the parts are gone', async () => (await member.list('snapshots')).items.length === 0);
  t.strictSame(await usage(), before);
  for (const pool of pools) t.match(await operator.get('storage-pools', pool.id), { allocated: 2 * GiB });
});

t.test('a new volume has the data of a part, also after the deletion of the snapshot', async (t) => {
  let fills = Promise.withResolvers<void>();
  const { member, vm, ids, pools, createVm } = await partsCloud(t, {
    fault: (step) => (step === 'fillVolume' ? fills.promise : undefined),
  });
  t.teardown(() => fills.resolve());
  const [far, near] = ids;
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  await reach(member, 'snapshots', snapshot, 'available');
  const copy = (name: string, disk: string | undefined, more: object = {}) =>
    member.request('POST', '/v1/volumes', { name, size: '3GiB', snapshot: snapshot.id, snapshot_disk: disk, ...more });
  t.match(await copy('bad', far, { pool: builtInPool }), {
    status: 422,
    body: { errors: [{ pointer: '/pool', detail: new RegExp(`must be ${pools[0]?.id}`) }] },
  });
  const made = (await copy('near-copy', near)).body as Body;
  t.match(made, { snapshot: snapshot.id, snapshot_disk: near, pool: pools[1]?.id, status: { phase: 'restoring' } });
  t.notOk('snapshot_part' in made);
  t.match(await member.request('DELETE', `/v1/snapshots/${snapshot.id}`), { status: 202 });
  await until(
    'the snapshot is gone',
    async () => (await member.request('GET', `/v1/snapshots/${snapshot.id}`)).status === 404,
  );
  await until('one part stays', async () => (await partsOf(member, snapshot)).length === 1);
  t.match(await partsOf(member, snapshot), [{ volume: near, status: { phase: 'deleting' } }], 'the volume needs it');
  fills.resolve();
  await reach(member, 'volumes', made, 'available');
  await until('the part is gone', async () => (await member.list('snapshots')).items.length === 0);
  fills = Promise.withResolvers();
  await reach(member, 'vms', await createVm('next', [made.id]), 'running');
  await reach(member, 'volumes', made, 'attached');
});

t.test('a stopped VM gets back the content of its volumes in all pools', async (t) => {
  let restored = 0;
  const { member, vm, ids, createVm } = await partsCloud(t, {
    fault: (step) => void (step === 'restoreDisks' && restored++),
  });
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  const alone = await member.create('snapshots', { name: 'alone', volume: ids[0] });
  for (const each of [snapshot, alone]) await reach(member, 'snapshots', each, 'available');
  await member.update('vms', vm.id, { power_state: 'stopped' });
  await reach(member, 'vms', vm, 'stopped');
  for (const { id } of [snapshot, alone]) {
    const { body } = await member.expect(202, 'POST', `/v1/vms/${vm.id}/restore`, { snapshot: id });
    await reach(member, 'operations', body as Body, 'succeeded');
  }
  t.equal(restored, 5, 'the disk of the VM and three volumes, and then one volume');
  await member.remove('vms', vm.id);
  await reach(member, 'vms', await createVm('next', ids), 'running');
});

t.test('a part without space holds back its snapshot, and the snapshot says so', async (t) => {
  let size = 3 * GiB;
  const usage = ({ id }: PoolSpec) =>
    id === builtInPool ? { size: 100 * GiB, free: 100 * GiB } : { size, free: size };
  const { member, vm } = await partsCloud(t, { pools: usage });
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  const status = async () => (await member.get('snapshots', snapshot.id)).status;
  await until('it waits', async () => (await status()).reason === 'no_space');
  t.match(await status(), { phase: 'pending', message: /not enough space left/ });
  size = 100 * GiB;
  await reach(member, 'snapshots', snapshot, 'available');
});

t.test('the parts of a snapshot that cannot be made go by themselves', async (t) => {
  const { member, vm, usage } = await partsCloud(t, {
    retryMs: 5,
    fault: (step) => {
      if (step === 'createSnapshot') throw new Error('the disk is broken');
    },
  });
  const before = await usage();
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  await reach(member, 'snapshots', snapshot, 'error');
  await until('the parts are gone', async () => (await partsOf(member, snapshot)).length === 0);
  await member.remove('snapshots', snapshot.id);
  t.strictSame(await usage(), before);
});

t.test('an image has the content of a disk in any pool', async (t) => {
  const { member, vm, ids } = await partsCloud(t);
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  await reach(member, 'snapshots', snapshot, 'available');
  for (const disk of ['root', ...ids]) {
    const from = { snapshot: snapshot.id, snapshot_disk: disk };
    const image = await member.create('images', { name: `of-${disk}`, ...from });
    t.match(await reach(member, 'images', image, 'available'), { ...from, size: '1MiB' });
    t.notOk('snapshot_part' in image);
  }
  const image = await member.create('images', { name: 'of-volume', volume: ids[0] });
  await reach(member, 'images', image, 'available');
  await member.remove('snapshots', snapshot.id);
  await until('no snapshot is left', async () => (await member.list('snapshots')).items.length === 0);
});

t.test('a deleted snapshot no longer holds back its volumes, whatever its host does', async (t) => {
  const copies = Promise.withResolvers<void>();
  const { member, vm, ids } = await partsCloud(t, {
    fault: (step) => (step === 'createSnapshot' ? copies.promise : undefined),
  });
  t.teardown(() => copies.resolve());
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  await until('it has its space', async () => (await member.get('snapshots', snapshot.id)).status.phase === 'creating');
  const [far = ''] = ids;
  await member.update('volumes', far, { size: '3GiB' });
  t.match(await member.request('DELETE', `/v1/snapshots/${snapshot.id}`), { status: 202 });
  await until('the volume grows', async () => (await member.get('volumes', far)).status.size === '3GiB');
});
