/** Volumes and attachments through API, scheduler and hosts, with simulated guests. test/host/volumes.test.ts has real guests. */
import t, { type Test } from 'tap';
import { maxVolumes } from '../../backend/contract/resources/volume-attachments.ts';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { type ApiClient, type Body, reach } from '../support/api.ts';
import { GiB, startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';

/** A cloud with a network and an image, and functions for VMs and volumes. */
async function volumeCloud(t: Test, options: Parameters<typeof startTestCloud>[1] = {}) {
  const cloud = await startTestCloud(t, options);
  const { member } = cloud;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  const { items } = await member.list('images', '?name=demo');
  const image = items[0]?.id;
  const createVm = (name: string, change: object = {}) =>
    member.create('vms', { name, image, disk_size: '1GiB', interfaces: [{ network: network.id }], ...change });
  const createVolume = (name: string, change: object = {}) =>
    member.create('volumes', { name, size: '1GiB', ...change });
  const attach = (vm: Body, volume: Body) => member.create('volume-attachments', { vm: vm.id, volume: volume.id });
  return { ...cloud, cloud, network, createVm, createVolume, attach };
}

const refusedBy =
  (client: ApiClient) =>
  (body: object, plural = 'volume-attachments') =>
    client.request('POST', `/v1/${plural}`, body);

t.test('a volume follows its declarations', async (t) => {
  const { member, createVm, createVolume, attach } = await volumeCloud(t);
  const volume = await createVolume('data');
  t.match(volume, { device: `/dev/disk/by-id/virtio-${volume.id}`, status: { phase: 'available', host: undefined } });
  const vm = await createVm('web');
  const attachment = await attach(vm, volume);
  await reach(member, 'volume-attachments', attachment, 'attached');
  const { status } = await member.get('vms', vm.id);
  t.match(await member.get('volumes', volume.id), {
    status: { phase: 'attached', vm: vm.id, host: status.host, size: '1GiB' },
  });

  t.match(await member.request('PATCH', `/v1/volumes/${volume.id}`, { size: '512MiB' }), {
    status: 422,
    body: { errors: [{ pointer: '/size', detail: /at least 1GiB: a volume can only grow/ }] },
  });
  await member.update('volumes', volume.id, { size: '3GiB' });
  await until('it has grown', async () => (await member.get('volumes', volume.id)).status.size === '3GiB');

  t.match(await member.request('DELETE', `/v1/volumes/${volume.id}`), { status: 409, body: { code: 'in_use' } });
  t.match(await member.request('DELETE', `/v1/volume-attachments/${attachment.id}`), {
    status: 409,
    body: { code: 'invalid_state', detail: /stop the VM first, or set force_detach/ },
  });
  await member.update('vms', vm.id, { power_state: 'stopped' });
  await reach(member, 'volume-attachments', attachment, 'ready');
  await member.remove('volume-attachments', attachment.id);
  t.match(await member.get('volumes', volume.id), { status: { phase: 'available', vm: undefined, size: '3GiB' } });

  await member.update('vms', vm.id, { power_state: 'running' });
  const second = await attach(vm, volume);
  await reach(member, 'volume-attachments', second, 'attached');
  await member.update('volumes', volume.id, { force_detach: true });
  await member.remove('volume-attachments', second.id);
  t.match(await member.get('vms', vm.id), { status: { phase: 'running' } }, 'the VM runs on');

  const third = await attach(vm, volume);
  await reach(member, 'volume-attachments', third, 'attached');
  await member.update('volumes', volume.id, { force_detach: false });
  await member.remove('vms', vm.id);
  t.match(await member.request('GET', `/v1/volume-attachments/${third.id}`), { status: 404 });
  t.match(await member.get('volumes', volume.id), { status: { phase: 'available', size: '3GiB' } }, 'the data stays');
  await member.remove('volumes', volume.id);
  t.match(await member.request('GET', `/v1/volumes/${volume.id}`), { status: 404 });
  await createVolume('data');
});

t.test('bad attachments are refused and leave nothing', async (t) => {
  const { api, member, createVm, createVolume, attach, project } = await volumeCloud(t);
  const refused = refusedBy(member);
  const vm = await createVm('web');
  const other = await createVm('other');
  const volume = await createVolume('data');
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const foreign = await api.operator.create('volumes', { name: 'foreign', project: stranger, size: '1GiB' });
  t.match(await refused({ vm: vm.id, volume: foreign.id }), {
    status: 422,
    body: { code: 'invalid_reference', errors: [{ pointer: '/volume', detail: /existing volume of this project/ }] },
  });
  const outsider = await api.member(stranger as typeof project);
  t.match(await outsider.request('POST', '/v1/volume-attachments', { vm: vm.id, volume: foreign.id }), {
    status: 422,
    body: { code: 'invalid_reference', errors: [{ pointer: '/vm' }] },
  });
  t.match(await api.operator.request('POST', '/v1/volume-attachments', { vm: newId('vm'), volume: volume.id }), {
    status: 422,
    body: { code: 'invalid_reference', errors: [{ pointer: '/vm' }] },
  });
  await attach(vm, volume);
  t.match(await refused({ vm: other.id, volume: volume.id }), {
    status: 409,
    body: { code: 'in_use', detail: new RegExp(`${volume.id} is attached to ${vm.id} by vat-`) },
  });
  for (let number = 1; number < maxVolumes; number++) await attach(vm, await createVolume(`more-${number}`));
  const last = await createVolume('last');
  t.match(await refused({ vm: vm.id, volume: last.id }), {
    status: 507,
    body: { code: 'no_capacity', errors: [{ pointer: '/vm', detail: /16 volumes already/ }] },
  });
  const { items } = await member.list('volume-attachments', '?limit=1000');
  await until('the guest has all of them', async () =>
    (await member.list('volume-attachments', '?limit=1000')).items.every(({ status }) => status.phase === 'attached'),
  );
  t.equal(items.length, maxVolumes);
  await member.remove('vms', vm.id);
  t.strictSame((await member.list('volume-attachments')).items, [], 'they end with the VM');
  await attach(other, last);
});

t.test('a VM declares volumes of its own', async (t) => {
  const { member, createVm, createVolume, attach } = await volumeCloud(t);
  const [one, two, three] = await Promise.all(['one', 'two', 'three'].map((name) => createVolume(name)));
  if (!one || !two || !three) throw new Error('no volumes');
  const vm = await createVm('web', { volumes: [one.id, two.id] });
  t.strictSame(vm.volumes, [one.id, two.id]);
  const attachments = async () => (await member.list('volume-attachments')).items;
  const allAttached = () =>
    until('all are attached', async () => (await attachments()).every(({ status }) => status.phase === 'attached'));
  await allAttached();
  const [first] = await attachments();
  t.match(await member.request('DELETE', `/v1/volume-attachments/${first?.id}`), {
    status: 409,
    body: { code: 'invalid_state', detail: /declares this attachment: remove vol-/ },
  });
  t.match(await member.request('PATCH', `/v1/vms/${vm.id}`, { volumes: [one.id] }), {
    status: 409,
    body: { code: 'invalid_state', detail: /stop the VM first/ },
  });
  t.strictSame((await member.get('vms', vm.id)).volumes, [one.id, two.id], 'nothing has changed');

  await attach(vm, three);
  t.match(await member.request('PATCH', `/v1/vms/${vm.id}`, { volumes: [one.id, two.id, three.id] }), {
    status: 409,
    body: { code: 'in_use' },
  });
  await member.update('volumes', two.id, { force_detach: true });
  await member.update('vms', vm.id, { volumes: [one.id] });
  await until('the volume is free', async () => (await member.get('volumes', two.id)).status.phase === 'available');
  await member.update('vms', vm.id, { volumes: [two.id, one.id] });
  await allAttached();
  t.equal((await attachments()).length, 3);

  await member.remove('vms', vm.id);
  t.strictSame(await attachments(), []);
  const next = await createVm('web', { volumes: [one.id, two.id, three.id] });
  await allAttached();
  t.match(await member.get('volumes', three.id), { status: { phase: 'attached', vm: next.id } });
  t.match(
    await member.request('POST', '/v1/vms', {
      ...{ name: 'late', image: vm.image, disk_size: '1GiB' },
      volumes: [one.id],
      interfaces: [{ network: vm.interfaces[0]?.network }],
    }),
    {
      status: 409,
      body: { code: 'in_use' },
    },
  );
});

t.test('a VM that is to be stopped gives its volumes up when its guest has ended', async (t) => {
  const { member, createVm, createVolume } = await volumeCloud(t);
  const [volume, other] = await Promise.all([createVolume('data'), createVolume('other')]);
  const vm = await createVm('web', { volumes: [volume.id] });
  await until('attached', async () => (await member.list('volume-attachments')).items[0]?.status.phase === 'attached');
  await member.update('vms', vm.id, { power_state: 'stopped', volumes: [] });
  await until('the volume is free', async () => (await member.get('volumes', volume.id)).status.phase === 'available');
  t.match((await member.get('vms', vm.id)).status.phase, /stopp/);
  await member.update('vms', vm.id, { power_state: 'running', volumes: [other.id, volume.id] });
  await until('both are attached', async () =>
    (await member.list('volume-attachments')).items.every(({ status }) => status.phase === 'attached'),
  );
});

t.test('a client that waits for an attachment sees why it waits', async (t) => {
  const capacity = { cpus: 8, memory: 64 * GiB, disk: 10 * GiB };
  const { member, createVm, createVolume, attach } = await volumeCloud(t, { capacity });
  const [vm, large] = await Promise.all([createVm('web'), createVolume('large', { size: '20GiB' })]);
  await reach(member, 'vms', vm, 'running');
  let { revision, id } = await attach(vm, large);
  let message: string | undefined;
  while (message === undefined) {
    const began = performance.now();
    const now = await member.get('volume-attachments', id, `?after=${revision}&timeout=60`);
    t.ok(performance.now() - began < 50_000, 'a change answers the long poll');
    ({ revision } = now);
    ({ message } = now.status);
  }
  t.match(message, /not enough disk left for 20GiB/);
  // No host has granted the size, so the volume may become smaller again.
  await member.update('volumes', large.id, { size: '2GiB' });
  await reach(member, 'volume-attachments', { ...large, id }, 'attached');
});

t.test('the largest change of a VM fits into one commit', async (t) => {
  const { member, createVm, createVolume } = await volumeCloud(t);
  const numbers = Array.from({ length: 64 }, (_, number) => number);
  const keys = await Promise.all(
    numbers.map(async (number) => {
      const blob = Buffer.concat([
        Buffer.from('0000000b7373682d6564323535313900000020', 'hex'),
        Buffer.alloc(32, number + 1),
      ]);
      const key = await member.create('ssh-keys', {
        name: `k${number}`,
        public_key: `ssh-ed25519 ${blob.toString('base64')}`,
      });
      return key.id;
    }),
  );
  const volumes = await Promise.all(numbers.slice(0, maxVolumes).map((n) => createVolume(`v${n}`)));
  const vm = await createVm('web', { ssh_keys: keys.slice(0, 32) });
  const change = { ssh_keys: keys.slice(32), volumes: volumes.map(({ id }) => id), cpus: 2 };
  const headers = { 'idempotency-key': 'large' };
  await member.expect(200, 'PATCH', `/v1/vms/${vm.id}`, change, headers);
});

t.test('volumes on two hosts are refused for one VM', async (t) => {
  const capacity = { cpus: 8, memory: 64 * GiB, disk: 10 * GiB };
  const { member, createVm, createVolume, attach, network } = await volumeCloud(t, { capacity, moreHosts: 1 });
  const group = { anti_affinity: { group: 'apart' } };
  const vms = await Promise.all([createVm('a', group), createVm('b', group)]);
  const volumes = await Promise.all([createVolume('a'), createVolume('b')]);
  for (const [index, vm] of vms.entries()) {
    const volume = volumes[index];
    if (volume) await reach(member, 'volume-attachments', await attach(vm, volume), 'attached');
  }
  for (const vm of vms) await member.remove('vms', vm.id);
  const body = { name: 'c', image: vms[0]?.image, disk_size: '1GiB', interfaces: [{ network: network.id }] };
  const asked = { ...body, volumes: volumes.map(({ id }) => id) };
  t.match(await member.request('POST', '/v1/vms', asked), {
    status: 409,
    body: { code: 'invalid_state', errors: [{ pointer: '/volumes/1', detail: /another host than the other volumes/ }] },
  });
});

t.test('two clients at once: one gets the volume', async (t) => {
  const { member, createVm, createVolume } = await volumeCloud(t);
  const vms = await Promise.all(['a', 'b', 'c'].map((name) => createVm(name)));
  const volume = await createVolume('data');
  const answers = await Promise.all(
    vms.map((vm) => member.request('POST', '/v1/volume-attachments', { vm: vm.id, volume: volume.id })),
  );
  t.strictSame(answers.map(({ status }) => status).toSorted(), [201, 409, 409]);
});

t.test('volumes count in the quota', async (t) => {
  const { api, member, createVolume, project } = await volumeCloud(t);
  await api.operator.update('projects', project, { quota: { disk: '5GiB', volumes: 2 } });
  const volume = await createVolume('one', { size: '3GiB' });
  t.match(await member.request('POST', '/v1/volumes', { name: 'two', size: '3GiB' }), {
    status: 403,
    body: { code: 'quota_exceeded', errors: [{ pointer: '/size', detail: /5GiB of disk/ }] },
  });
  t.match(await member.request('PATCH', `/v1/volumes/${volume.id}`, { size: '6GiB' }), { status: 403 });
  await createVolume('two');
  t.match(await member.request('POST', '/v1/volumes', { name: 'three', size: '1GiB' }), {
    status: 403,
    body: { code: 'quota_exceeded', detail: /2 volumes/ },
  });
});

t.test('a VM goes to the host of its volume, and a volume to the host of its VM', async (t) => {
  const capacity = { cpus: 8, memory: 64 * GiB, disk: 10 * GiB };
  const { member, createVm, createVolume, attach } = await volumeCloud(t, { capacity, moreHosts: 2 });
  const volume = await createVolume('data', { size: '2GiB' });
  const first = await createVm('first');
  await reach(member, 'volume-attachments', await attach(first, volume), 'attached');
  const { host } = (await member.get('volumes', volume.id)).status;
  t.equal((await member.get('vms', first.id)).status.host, host);
  await member.remove('vms', first.id);

  // The other hosts have more room, and the VM goes to its volume all the same.
  const second = await createVm('second', { power_state: 'stopped', memory: '65GiB' });
  const attachment = await attach(second, volume);
  await until('the reason names it', async () =>
    /not the host of its volumes/.test((await member.get('vms', second.id)).status.message ?? ''),
  );
  await member.update('vms', second.id, { memory: '1GiB', power_state: 'running' });
  await reach(member, 'volume-attachments', attachment, 'attached');
  t.equal((await member.get('vms', second.id)).status.host, host);

  const large = await createVolume('large', { size: '9GiB' });
  const waiting = await attach(second, large);
  await until('it waits for space', async () =>
    /not enough disk/.test((await member.get('volume-attachments', waiting.id)).status.message ?? ''),
  );
  t.match(await member.get('volumes', large.id), { status: { reason: 'no_space' } });
  await member.remove('volume-attachments', waiting.id);
  await until('the reason is gone', async () => (await member.get('volumes', large.id)).status.reason === undefined);
  await member.update('volumes', volume.id, { size: '20GiB' });
  await until(
    'it waits for space to grow',
    async () => (await member.get('volumes', volume.id)).status.reason === 'no_space',
  );
  t.match(await member.get('volumes', volume.id), { status: { size: '2GiB' } }, 'and keeps its size');
});

t.test('a guest with a guest agent keeps a volume while it uses it, and loses it afterwards', async (t) => {
  const { cloud, member, createVm, createVolume, attach } = await volumeCloud(t);
  const [vm, volume] = await Promise.all([createVm('web'), createVolume('data')]);
  const attachment = await attach(vm, volume);
  await reach(member, 'volume-attachments', attachment, 'attached');
  t.match(await member.get('vms', vm.id), { status: { guest_agent: false } });
  const { hypervisor } = cloud;
  const [vmId, volumeId] = [idFrom('vm', vm.id), idFrom('volume', volume.id)];
  hypervisor.setGuestAgent(vmId, true);
  await until('the guest agent is reported', async () => (await member.get('vms', vm.id)).status.guest_agent === true);

  hypervisor.useVolume(volumeId, 'The guest has mounted it at /srv.');
  t.equal((await member.request('DELETE', `/v1/volume-attachments/${attachment.id}`)).status, 202);
  const attachmentNow = async () => (await member.get('volume-attachments', attachment.id)).status;
  await until('the reason is shown', async () => (await attachmentNow()).reason === 'in_use');
  t.strictSame(await attachmentNow(), {
    phase: 'detaching',
    reason: 'in_use',
    message: 'The guest has mounted it at /srv.',
  });
  t.strictSame(hypervisor.volumesOf(vmId), [volume.id], 'nothing is taken away');
  t.match(await member.request('POST', '/v1/volume-attachments', { vm: vm.id, volume: volume.id }), { status: 409 });

  hypervisor.setGuestAgent(vmId, false);
  await until('the guest agent is gone', async () => (await attachmentNow()).reason === undefined);
  t.strictSame(hypervisor.volumesOf(vmId), [volume.id], 'a guest without agent keeps it as well');
  hypervisor.setGuestAgent(vmId, true);
  await until('it is asked again', async () => (await attachmentNow()).reason === 'in_use');

  hypervisor.useVolume(volumeId, undefined);
  await until('it is free', async () => (await member.get('volumes', volume.id)).status.phase === 'available');
  t.strictSame(hypervisor.volumesOf(vmId), []);
  t.match(await member.get('vms', vm.id), { status: { phase: 'running' } }, 'the VM runs on');
});
