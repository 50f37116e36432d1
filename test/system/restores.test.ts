/** Restores of stopped VMs through API, scheduler and hosts, with simulated guests. test/host/snapshots.test.ts has real guests. */
import t, { type Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import type { SimulatedStep } from '../../backend/host/hypervisor/simulated.ts';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { latestOperations, operations, reports } from '../../backend/model/records/index.ts';
import { put, read } from '../../backend/store/collection.ts';
import { type Body, reach } from '../support/api.ts';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { withStore } from '../support/stores.ts';

type Fault = (step: SimulatedStep, vm?: Id<'vm'>) => void | Promise<void>;

/** A restore that waits until the test lets it go on. */
function gate() {
  const entered = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const fault: Fault = (step) => {
    if (step !== 'restoreDisks') return;
    entered.resolve();
    return opened.promise;
  };
  return { fault, entered: entered.promise, open: () => opened.resolve() };
}

/** A cloud with a VM that has a volume, and a snapshot of both. */
async function restoreCloud(t: Test, fault?: Fault) {
  const store = await withStore(t);
  const cloud = await startTestCloud(t, { store, ...(fault && { fault }), retryMs: 5 });
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
  await reach(member, 'vms', vm, 'running');
  const snapshot = await member.create('snapshots', { name: 'monday', vm: vm.id });
  await reach(member, 'snapshots', snapshot, 'available');
  const path = `/v1/vms/${vm.id}/restore`;
  const stop = async () => {
    await member.update('vms', vm.id, { power_state: 'stopped' });
    await reach(member, 'vms', vm, 'stopped');
  };
  const restore = async (body: object = { snapshot: snapshot.id }) =>
    (await member.expect(202, 'POST', path, body)).body as Body;
  return { ...cloud, store, createVm, volume, vm, snapshot, path, stop, restore };
}

t.test('a stopped VM gets back the content of its disks', async (t) => {
  const restored: (string | undefined)[] = [];
  const { member, vm, snapshot, volume, stop, restore, path } = await restoreCloud(t, (step, id) => {
    if (step === 'restoreDisks') restored.push(id);
  });
  t.match(await member.request('POST', path, { snapshot: snapshot.id }), {
    status: 409,
    body: { code: 'invalid_state', detail: /must be stopped: its power_state is running/ },
  });
  await stop();
  const operation = await restore();
  t.match(operation, { kind: 'vm_restore', target: vm.id });
  t.match(await reach(member, 'operations', operation, 'succeeded'), { progress: 100 });
  t.strictSame(restored, [vm.id, undefined], 'the disk of the VM, and the volume');
  await reach(member, 'operations', await restore({ snapshot: snapshot.id, disks: [volume.id] }), 'succeeded');
  t.strictSame(restored, [vm.id, undefined, undefined], 'only the volume');
  const reasons = (await member.list('events', `?target=${vm.id}`)).items.map(({ reason }) => reason);
  t.ok(reasons.includes('restore_requested') && reasons.includes('restored'), reasons.join());
  await member.update('vms', vm.id, { power_state: 'running' });
  await reach(member, 'vms', vm, 'running');
});

t.test('while a VM is restored, it does not start, keeps its volumes and has no second operation', async (t) => {
  const { fault, entered, open } = gate();
  const cloud = await restoreCloud(t, fault);
  const { member, vm, volume, snapshot, stop, restore, createVm, hypervisor } = cloud;
  await stop();
  const operation = await restore();
  await entered;
  await member.update('vms', vm.id, { volumes: [] });
  await member.update('vms', vm.id, { power_state: 'running' });
  const detail = new RegExp(`${operation.id} on ${vm.id} has not ended yet`);
  for (const [action, body] of [
    ['reboot', {}],
    ['restore', { snapshot: snapshot.id }],
  ] as const) {
    t.match(await member.request('POST', `/v1/vms/${vm.id}/${action}`, body), { status: 409 }, action);
  }
  t.match(await member.request('POST', `/v1/vms/${vm.id}/reboot`, {}), { body: { detail } });
  const thief = await member.request('POST', '/v1/vms', {
    ...{ name: 'thief', image: vm.image, disk_size: '1GiB', interfaces: [{ network: vm.interfaces[0]?.network }] },
    volumes: [volume.id],
  });
  t.match(thief, { status: 409, body: { code: 'in_use' } }, 'no other VM gets a volume that is being restored');
  // Another VM starts meanwhile, so the agent has had time for the first one.
  await reach(member, 'vms', await createVm('other'), 'running');
  t.equal(hypervisor.resourcesOf(vm.id as Id<'vm'>), undefined, 'the guest does not run');
  const taken = await member.create('snapshots', { name: 'torn', vm: vm.id });
  await member.expect(202, 'DELETE', `/v1/snapshots/${snapshot.id}`);
  t.match(await member.get('snapshots', taken.id), { status: { phase: /pending|creating/ } });
  open();
  await reach(member, 'operations', operation, 'succeeded');
  await reach(member, 'vms', vm, 'running');
  await reach(member, 'snapshots', taken, 'available');
  await until('the snapshot goes after the restore', async () => {
    return (await member.request('GET', `/v1/snapshots/${snapshot.id}`)).status === 404;
  });
  await until('the volume is free', async () => {
    return (await member.get('volumes', volume.id)).status.phase === 'available';
  });
});

t.test('a deleted VM ends its restore and frees its volumes', async (t) => {
  const { fault, entered, open } = gate();
  const destroyed: (string | undefined)[] = [];
  const { member, vm, volume, stop, restore, createVm } = await restoreCloud(t, (step, id) => {
    if (step === 'destroy') destroyed.push(id);
    return fault(step, id);
  });
  await stop();
  const operation = await restore();
  await entered;
  await member.expect(202, 'DELETE', `/v1/vms/${vm.id}`);
  const other = await createVm('other');
  await reach(member, 'vms', other, 'running');
  await member.remove('vms', other.id);
  t.strictSame(destroyed, [other.id], 'the agent waits for the end of the copy');
  open();
  await until('the VM is gone', async () => (await member.request('GET', `/v1/vms/${vm.id}`)).status === 404);
  t.match(await member.get('operations', operation.id), { state: 'failed', error: { code: 'being_deleted' } });
  await member.remove('volumes', volume.id);
});

t.test('a restore that fails again and again ends, and the VM starts', async (t) => {
  let failing = Number.POSITIVE_INFINITY;
  const { member, vm, stop, restore } = await restoreCloud(t, (step) => {
    if (step === 'restoreDisks' && failing-- > 0) throw new Error('a secret path');
  });
  await stop();
  const failed = await reach(member, 'operations', await restore(), 'failed');
  t.match(failed, { error: { code: 'internal', message: /a step failed on the host/ } });
  t.notMatch(JSON.stringify(failed), /secret/);
  failing = 2;
  await reach(member, 'operations', await restore(), 'succeeded');
  await member.update('vms', vm.id, { power_state: 'running' });
  await reach(member, 'vms', vm, 'running');
});

t.test('only disks of the VM are restored, and only from snapshots of its project', async (t) => {
  let restored = 0;
  const cloud = await restoreCloud(t, (step) => {
    if (step === 'restoreDisks') restored++;
  });
  const { api, member, vm, volume, snapshot, path, stop, createVm } = cloud;
  await stop();
  const refused = (body: object, client = member, at = path) => client.request('POST', at, body);
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  t.match(await refused({ snapshot: snapshot.id }, outsider), { status: 404 });
  t.match(await refused({ snapshot: newId('snapshot') }), { status: 422, body: { code: 'invalid_reference' } });
  const rule = (pointer: string, detail: RegExp) => ({
    status: 422,
    body: { code: 'rule_violated', errors: [{ pointer, detail }] },
  });
  const other = newId('volume');
  t.match(
    await refused({ snapshot: snapshot.id, disks: [other] }),
    rule('/disks/0', /must be a disk of the snapshot: /),
  );
  for (const disks of [[], ['../root'], ['root', 'root'], ['root\n']]) {
    t.match(await refused({ snapshot: snapshot.id, disks }), { status: 400 }, JSON.stringify(disks));
  }
  const second = await createVm('second', { power_state: 'stopped' });
  await reach(member, 'vms', second, 'stopped');
  const foreign = `/v1/vms/${second.id}/restore`;
  t.match(
    await refused({ snapshot: snapshot.id, disks: ['root'] }, member, foreign),
    rule('/disks/0', new RegExp(`the disk root of the snapshot is that of ${vm.id}`)),
    'the disk of another VM',
  );
  const lacks = { status: 409, body: { errors: [{ pointer: '/disks/0', detail: /does not have the volume/ }] } };
  t.match(await refused({ snapshot: snapshot.id, disks: [volume.id] }, member, foreign), lacks);
  await member.update('vms', vm.id, { volumes: [] });
  await until('it is free', async () => (await member.get('volumes', volume.id)).status.phase === 'available');
  t.match(await refused({ snapshot: snapshot.id }), {
    status: 409,
    body: {
      errors: [{ pointer: '/snapshot', detail: /does not have the volume .*leave it out with the field disks/ }],
    },
  });
  t.equal(restored, 0, 'nothing is changed');
  await reach(member, 'operations', await cloud.restore({ snapshot: snapshot.id, disks: ['root'] }), 'succeeded');
  t.equal(restored, 1);
});

t.test('a restore of a VM that an agent of an earlier version has started fails', async (t) => {
  let restored = 0;
  const { member, store, vm, volume, snapshot, hypervisor, project } = await restoreCloud(t, (step) => {
    if (step === 'restoreDisks') restored++;
  });
  const id = newId('operation');
  const at = new Date().toISOString();
  const record = { id, project, kind: 'vm_restore', target: vm.id, created_at: at, updated_at: at } as const;
  const options = { snapshot: snapshot.id as Id<'snapshot'>, disks: ['root'] };
  await store.commit({
    write: [
      put(operations, id, { ...record, options, state: 'pending', progress: 0 }),
      put(latestOperations, vm.id, { id }),
    ],
  });
  await until('it fails', async () => (await read(store, operations, id))?.value.state === 'failed');
  t.equal(restored, 0);
  t.ok(hypervisor.resourcesOf(vm.id as Id<'vm'>), 'the guest goes on');
  t.match(await member.get('volumes', volume.id), { status: { phase: 'attached' } });
});

t.test('no restore begins before the last report on a guest that ended by itself', async (t) => {
  const entered = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  let isBlocked = false;
  let restored = 0;
  const cloud = await restoreCloud(t, (step) => {
    if (step === 'restoreDisks') restored++;
    if (step !== 'prepare' || !isBlocked) return;
    entered.resolve();
    return opened.promise;
  });
  const { member, store, vm, snapshot, path, project, stop, restore } = cloud;
  await stop();
  // The agent is busy with the VM, and so cannot write the report that releases the volumes.
  isBlocked = true;
  await member.update('vms', vm.id, { power_state: 'running' });
  await entered.promise;
  await member.update('vms', vm.id, { power_state: 'stopped' });
  const vmId = vm.id as Id<'vm'>;
  const report = (await read(store, reports, vmId))?.value;
  if (report === undefined) throw new Error('the VM has no report');
  const at = new Date().toISOString();
  await store.commit({ write: [put(reports, vmId, { ...report, phase: 'stopped', reason: 'crashed', at })] });
  await until('the API sees the report', async () => (await member.get('vms', vm.id)).status.reason === 'crashed');
  t.match(await member.request('POST', path, { snapshot: snapshot.id }), {
    status: 409,
    body: { code: 'invalid_state', detail: /has not stopped yet/ },
  });
  // An API of an earlier version accepts it.
  const id = newId('operation');
  const record = { id, project, kind: 'vm_restore', target: vm.id, created_at: at, updated_at: at } as const;
  const options = { snapshot: snapshot.id as Id<'snapshot'>, disks: ['root'] };
  await store.commit({
    write: [
      put(operations, id, { ...record, options, state: 'pending', progress: 0 }),
      put(latestOperations, vm.id, { id }),
    ],
  });
  const failed = await reach(member, 'operations', { id }, 'failed');
  t.match(failed, { error: { code: 'invalid_state', message: /has not stopped yet/ } });
  t.equal(restored, 0);
  opened.resolve();
  await until('the last report is there', async () => (await member.get('vms', vm.id)).status.reason === undefined);
  await reach(member, 'operations', await restore(), 'succeeded');
});
