/** The move of stopped VMs to other hosts, through API, scheduler and hosts. */
import t, { type Test } from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, read, remove } from '../../backend/store/collection.ts';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';

async function movingCloud(t: Test, options: Parameters<typeof startTestCloud>[1] = { moreHosts: 2 }) {
  const cloud = await startTestCloud(t, options);
  const { api, member, project, file } = cloud;
  const { operator } = api;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  file(project, 'system.img');
  const image = await member.create('images', { name: 'system', source: 'file:system.img' });
  await until('imported', async () => (await member.get('images', image.id)).status.phase === 'available');
  const pool = await operator.create('storage-pools', { name: 'fast', kind: 'shared', path: '/srv/ucloud' });
  await until('all reach the pool', async () => {
    const { entries } = await api.store.list(`${records.poolReports.prefix}${pool.id}/`);
    return entries.length === (options.moreHosts ?? 0) + 1;
  });
  const phase = (vm: string, wanted: string) =>
    until(`${vm} is ${wanted}`, async () => (await member.get('vms', vm)).status.phase === wanted);
  const createVm = async (name: string, change: object = {}) => {
    const root = await member.create('volumes', { name, size: '3GiB', image: image.id, pool: pool.id });
    const vm = await member.create('vms', {
      name,
      interfaces: [{ network: network.id }],
      root_volume: root.id,
      ...change,
    });
    await phase(vm.id, 'running');
    return vm;
  };
  const stop = async (vm: string) => {
    await member.update('vms', vm, { power_state: 'stopped' });
    await phase(vm, 'stopped');
  };
  const hostOf = async (vm: string) => String((await member.get('vms', vm)).status.host);
  const move = (vm: string, body: object = {}) => operator.request('POST', `/v1/vms/${vm}/move`, body);
  const ended = async (operation: unknown) => {
    let item = await operator.get('operations', String(operation));
    while (item.state !== 'succeeded' && item.state !== 'failed')
      item = await operator.get('operations', item.id, `?after=${item.revision}&timeout=30`);
    return item;
  };
  const membersOf = async (vm: string) => {
    const { entries } = await api.store.list(records.networkMembers.prefix);
    return entries
      .map(({ value }) => JSON.parse(value) as records.NetworkMemberRecord)
      .filter((each) => each.vm === vm);
  };
  return { ...cloud, operator, image, network, pool, createVm, stop, phase, hostOf, move, ended, membersOf };
}

const refusal = (detail: RegExp, pointer?: string) => ({
  status: 409,
  body: { code: 'invalid_state', detail, ...(pointer !== undefined && { errors: [{ pointer, detail }] }) },
});

t.test('a stopped VM moves with its volumes and its addresses, and starts on its new host', async (t) => {
  const { operator, member, api, hypervisor, pool, createVm, stop, phase, hostOf, move, ended, membersOf } =
    await movingCloud(t);
  const data = await member.create('volumes', { name: 'data', size: '1GiB', pool: pool.id });
  const vm = await createVm('one', { volumes: [data.id] });
  await stop(vm.id);
  const before = await member.get('vms', vm.id);
  const accepted = await operator.expect(202, 'POST', `/v1/vms/${vm.id}/move`, {});
  t.match(accepted.body, { kind: 'vm_move', target: vm.id });
  t.match(await ended(accepted.body.id), { state: 'succeeded', progress: 100 });
  const source = String(before.status.host);
  const after = await member.get('vms', vm.id);
  const target = String(after.status.host);
  t.not(target, source);
  t.equal(after.address, before.address);
  t.equal(after.updated_at, before.updated_at, 'the declaration is the same');
  t.match(await membersOf(vm.id), [{ host: target, fence: 2, address: vm.address }]);
  for (const { id: volume } of (await member.list('volumes')).items)
    t.equal((await member.get('volumes', volume)).status.host, target);
  const { items } = await member.list('events', `?target=${vm.id}`);
  t.match(
    items.find(({ reason }) => reason === 'moved'),
    { message: /^Moved from \S+ to \S+\.$/ },
  );
  await member.update('vms', vm.id, { power_state: 'running' });
  await phase(vm.id, 'running');
  t.equal(await hostOf(vm.id), target);

  await stop(vm.id);
  const back = await move(vm.id, { host: source });
  t.match(await ended(back.body.id), { state: 'succeeded' });
  t.equal(await hostOf(vm.id), source, 'the asked host');
  await until('the old hosts have nothing of it', async () => {
    const first = await hypervisor.list();
    return (
      first.every(({ id }) => id !== vm.id) ||
      source === (await operator.list('hosts', '?name=rack1-node1')).items[0]?.id
    );
  });
  await member.remove('vms', vm.id);
  t.strictSame(await membersOf(vm.id), []);
  t.equal((await api.store.list(records.placements.prefix)).entries.length, 0);
});

t.test('what cannot move is refused, and nothing changes', async (t) => {
  const { operator, member, api, image, network, pool, createVm, stop, hostOf, move, ended } = await movingCloud(t);
  const vm = await createVm('one', { host_selector: undefined });
  t.match(await move(vm.id), refusal(/must be stopped: set its power_state to stopped \(`ucloud vm stop vm-/));
  t.match(await member.request('POST', `/v1/vms/${vm.id}/move`, {}), { status: 403, body: { code: 'forbidden' } });
  t.match(await move(newId('vm')), { status: 404 });
  const interfaces = [{ network: network.id }];
  const own = await member.create('vms', { name: 'own', image: image.id, interfaces, power_state: 'stopped' });
  await until('placed', async () => (await member.get('vms', own.id)).status.phase === 'stopped');
  t.match(
    await move(own.id),
    refusal(/has a disk of its own, which stays on its host: a VM moves only with volumes in/),
  );
  const local = await member.create('volumes', { name: 'local', size: '1GiB' });
  const both = await createVm('both', { volumes: [local.id] });
  await stop(both.id);
  t.match(await move(both.id), refusal(new RegExp(`the volume ${local.id} of ${both.id} lies in the storage pool`)));

  await stop(vm.id);
  const source = await hostOf(vm.id);
  const others = (await operator.list('hosts')).items.map(({ id }) => id).filter((id) => id !== source);
  const [target = '', third = ''] = others;
  t.match(await move(vm.id, { host: newId('host') }), {
    status: 422,
    body: { errors: [{ pointer: '/host', detail: /existing host/ }] },
  });
  t.match(await move(vm.id, { host: '../x' }), { status: 400 });
  t.match(await move(vm.id, { force: true }), { status: 400 });
  t.match(await move(vm.id, { host: source }), refusal(/cannot take the VM: the VM is there already/, '/host'));
  for (const [field, reason] of [
    ['cordoned', /it is cordoned/],
    ['draining', /it is draining/],
  ] as const) {
    await operator.update('hosts', target, { [field]: true });
    t.match(await move(vm.id, { host: target }), refusal(reason, '/host'));
    if (field === 'draining') await operator.update('hosts', third, { draining: true });
    else await operator.update('hosts', target, { [field]: false });
  }
  t.match(await move(vm.id), refusal(/no host can take the VM: .*2 of 3 hosts are draining/));
  for (const host of others) await operator.update('hosts', host, { draining: false });
  const report = `${pool.id}/${target}`;
  const seen = await read(api.store, records.poolReports, report);
  if (seen === undefined) throw new Error('no report');
  await api.store.commit({ write: [put(records.poolReports, report, { ...seen.value, reachable: false })] });
  await until('it is refused', async () => (await move(vm.id, { host: target })).status === 409);
  t.match(await move(vm.id, { host: target }), refusal(/it does not reach the storage pool fast/, '/host'));
  t.equal((await member.list('operations', `?target=${vm.id}`)).items.length, 0, 'no operation is left');
  t.equal(await hostOf(vm.id), source);

  const twice = await Promise.all([move(vm.id, { host: third }), move(vm.id, { host: third })]);
  t.ok(twice.some(({ status }) => status === 202));
  t.ok(
    twice.every(({ status }) => status === 202 || status === 409),
    'one move at a time',
  );
  for (const { status, body } of twice) if (status === 202) t.match(await ended(body.id), { state: 'succeeded' });
  t.equal(await hostOf(vm.id), third);
});

t.test('selectors, groups and room count for the new host', async (t) => {
  const capacity = { cpus: 4, memory: 4 * 2 ** 30, disk: 100 * 2 ** 30 };
  const { operator, createVm, stop, hostOf, move, ended } = await movingCloud(t, { moreHosts: 1, capacity });
  const hosts = (await operator.list('hosts')).items.map(({ id }) => id);
  const otherOf = (host: string) => hosts.find((id) => id !== host) ?? '';
  for (const host of hosts) await operator.update('hosts', host, { labels: { zone: 'a' } });
  await operator.expect(200, 'PATCH', '/v1/settings', { selectable_host_labels: ['zone'] });
  const selected = await createVm('selected', { host_selector: 'zone=a', memory: '1GiB' });
  await stop(selected.id);
  const target = otherOf(await hostOf(selected.id));
  await operator.update('hosts', target, { labels: { zone: 'b' } });
  t.match(await move(selected.id, { host: target }), refusal(/do not match the host selector zone=a/, '/host'));
  await operator.update('hosts', target, { labels: { zone: 'a' } });
  const large = await createVm('large', { memory: '4GiB' });
  t.equal(await hostOf(large.id), target);
  t.match(await move(selected.id, { host: target }), refusal(/has not enough memory left/, '/host'));
  await operator.remove('vms', large.id);
  const [one, two] = [
    await createVm('g1', { anti_affinity: { group: 'web' }, memory: '512MiB' }),
    await createVm('g2', { anti_affinity: { group: 'web' }, memory: '512MiB' }),
  ];
  await stop(one.id);
  t.match(await move(one.id, { host: await hostOf(two.id) }), refusal(/has a VM of the group web/, '/host'));
  const accepted = await move(selected.id);
  t.match(await ended(accepted.body.id), { state: 'succeeded' });
  t.equal(await hostOf(selected.id), target);
});

t.test('a VM of a dead host moves exactly if its report proves that no guest runs', async (t) => {
  const { api, createVm, stop, hostOf, move, ended, member } = await movingCloud(t);
  const [off, on] = [await createVm('off'), await createVm('on')];
  await stop(off.id);
  const [first, second] = [await hostOf(off.id), await hostOf(on.id)];
  const dead = await read(api.store, records.alive, first);
  t.ok(dead);
  // The agents of these hosts notice, and do nothing more.
  await api.store.commit({ write: [remove(records.alive, first), remove(records.alive, second)] });
  await until('unknown', async () => (await member.get('vms', on.id)).status.phase === 'unknown');
  await member.update('vms', on.id, { power_state: 'stopped' });
  t.match(
    await move(on.id),
    refusal(/has not stopped yet: its host host-\S+ gives no sign of life, so the guest may still run/),
  );
  const accepted = await move(off.id);
  t.match(await ended(accepted.body.id), { state: 'succeeded' });
  t.notOk([first, second].includes(await hostOf(off.id)));
});
