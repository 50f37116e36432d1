/** VMs: what can be asked for, how they get their addresses, how they go. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import { defaultMac } from '../../backend/model/network/addresses.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, read } from '../../backend/store/collection.ts';
import { contentOf, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { testPublicKey } from '../support/ssh-keys.ts';

t.test('a VM', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const prerequisites = await createVmPrerequisites(test, project);
  const before = await contentOf(store);
  const member = await test.member(project);
  const vmBody = {
    name: 'web-1',
    image: prerequisites.image.id,
    disk_size: '2GiB',
    ssh_keys: [prerequisites.sshKey.id],
    interfaces: [
      { network: prerequisites.network.id },
      { network: prerequisites.network.id, mac: '02:00:5e:10:00:01' },
    ],
    anti_affinity: { group: 'web' },
  };
  const refused = async (change: object, status: number, pointer: string, detail: RegExp) => {
    const answer = await member.request('POST', '/v1/vms', { ...vmBody, name: 'x', ...change });
    t.match(answer, { status, body: { errors: [{ pointer, detail }] } }, JSON.stringify(change));
  };
  await refused({ disk_size: undefined }, 422, '/disk_size', /required until the image/);
  const size = put(records.imageReports, prerequisites.image.id, { phase: 'available', size: 2 ** 30, at: 'now' });
  await store.commit({ write: [size] });
  await member.get('images', prerequisites.image.id, `?after=${prerequisites.image.revision}&timeout=10`);
  await refused({ disk_size: '512MiB' }, 422, '/disk_size', /at least that of the image, 1GiB/);
  await refused({ image: newId('image') }, 422, '/image', /id of an existing image/);
  await refused({ ssh_keys: [newId('ssh_key')] }, 422, '/ssh_keys/0', /id of an existing ssh key/);
  await refused(
    { interfaces: [{ network: newId('network') }] },
    422,
    '/interfaces/0/network',
    /id of an existing network/,
  );
  await refused(
    { interfaces: [{ network: prerequisites.network.id, mac: '00:00:5e:10:00:01' }] },
    400,
    '/interfaces/0/mac',
    /locally administered/,
  );
  await refused(
    { interfaces: [{ network: prerequisites.network.id, mac: '03:00:5e:10:00:01' }] },
    400,
    '/interfaces/0/mac',
    /unicast/,
  );
  await refused({ interfaces: [] }, 400, '/interfaces', /fewer than 1/);
  await refused({ anti_affinity: {} }, 400, '/anti_affinity/group', /required/);
  await refused({ anti_affinity: { group: 'Web' } }, 400, '/anti_affinity/group', /lower-case/);
  await refused({ anti_affinity: { group: 'web', mode: 'maybe' } }, 400, '/anti_affinity/mode', /required, preferred/);
  await refused({ user_data: 'a\0b' }, 400, '/user_data', /NUL/);
  await refused({ user_data: '\ud800' }, 400, '/user_data', /surrogate/);

  const vm = await member.create('vms', vmBody);
  t.match(vm, {
    cpus: 1,
    memory: '512MiB',
    disk_size: '2GiB',
    anti_affinity: { group: 'web', mode: 'required' },
    status: { phase: 'pending', ready: false, restart_required: false },
  });
  t.equal(vm.address, vm.interfaces[0]?.address);
  t.equal(
    vm.interfaces[1]?.address,
    `${prerequisites.network.cidr.replace('/64', '')}5eff:fe10:1`.replace('::5eff', '::5eff'),
  );
  await refused({ interfaces: vmBody.interfaces.slice(1) }, 409, '/interfaces/0/mac', /taken/);
  const sameTail = [{ network: prerequisites.network.id, mac: '42:00:5e:10:00:01' }];
  await refused({ interfaces: sameTail }, 422, '/interfaces/0/mac', /must not begin with 42/);
  t.equal(
    (
      await member.create('vms', {
        ...vmBody,
        name: 'default-disk',
        disk_size: undefined,
        interfaces: [{ network: prerequisites.network.id }],
      })
    ).disk_size,
    '1GiB',
  );

  const changed = await member.update('vms', vm.id, {
    memory: '1024MiB',
    cpus: 4,
    labels: { tier: 'web' },
    disk_size: '3GiB',
  });
  t.match(changed, { memory: '1GiB', cpus: 4, labels: { tier: 'web' }, disk_size: '3GiB' });
  t.match(await member.update('vms', vm.id, { cpus: null, labels: null }), { cpus: 1, labels: {} });
  const shrink = await member.request('PATCH', `/v1/vms/${vm.id}`, { disk_size: '2GiB' });
  t.match(shrink, { status: 422, body: { errors: [{ pointer: '/disk_size', detail: /only grow/ }] } });
  for (const [field, value] of Object.entries({ image: prerequisites.image.id, anti_affinity: { group: 'app' } })) {
    const fixed = await member.request('PATCH', `/v1/vms/${vm.id}`, { [field]: value });
    t.match(fixed, { status: 400, body: { errors: [{ pointer: `/${field}` }] } }, 'immutable: no field of an update');
  }
  const { revision } = await member.get('vms', vm.id);
  t.equal((await member.update('vms', vm.id, { cpus: 1 })).revision, revision, 'what changes nothing writes nothing');

  await t.test('user data may change, and a running VM owes a restart for it', async (t) => {
    const said = () => member.get('vms', vm.id) as unknown as Promise<{ user_data?: string; status: object }>;
    const record = async () => (await read(store, records.vms, vm.id))?.value;
    const at = new Date().toISOString();
    const host = newId('host');
    const runs = async () => {
      const resources = { cpus: 1, memory: 2 ** 30, disk: 3 * 2 ** 30 };
      const generation = (await record())?.generation ?? 0;
      const report = { host, fence: 1, phase: 'running', generation, resources, started_at: at, at } as const;
      const { revision } = await member.get('vms', vm.id);
      await store.commit({ write: [put(records.reports, vm.id, report)] });
      await member.get('vms', vm.id, `?after=${revision}&timeout=10`);
    };
    await store.commit({
      write: [put(records.schedules, vm.id, { host, fence: 1, at }), put(records.alive, host, { at })],
    });
    await runs();
    t.match(await said(), { user_data: undefined, status: { phase: 'running', restart_required: false } });
    t.equal((await record())?.user_data_generation, undefined, 'it has never changed');

    const owing = { restart_required: true, pending_changes: ['user_data'] };
    const told = await member.update('vms', vm.id, { user_data: '#!/bin/sh' });
    t.match(told, { user_data: '#!/bin/sh', status: owing }, 'the answer itself says so');
    t.notMatch(JSON.stringify(told), /generation/, "what is the agent's business is not shown");
    const changed = await record();
    t.match(changed, { user_data_generation: changed?.generation });
    await member.update('vms', vm.id, { user_data: '#!/bin/sh' });
    t.strictSame(await record(), changed, 'the same again changes nothing');
    t.match(await member.update('vms', vm.id, { cpus: 2 }), { status: { pending_changes: ['cpus', 'user_data'] } });
    t.match(await member.update('vms', vm.id, { cpus: 1 }), { status: owing });

    await runs();
    t.match(await said(), { status: { restart_required: false, pending_changes: [] } }, 'until it was restarted');
    t.match(await member.update('vms', vm.id, { user_data: null }), { user_data: undefined, status: owing });
    await runs();
    const without = await record();
    t.notOk(without && 'user_data' in without);
    await member.update('vms', vm.id, { user_data: null });
    t.strictSame(await record(), without, 'what is not there cannot be taken away');

    for (const [user_data, detail] of [
      ['x'.repeat(32_769), /32768/],
      ['a\0b', /NUL/],
      [7, /string/],
    ] as const) {
      const answer = await member.request('PATCH', `/v1/vms/${vm.id}`, { user_data });
      t.match(answer, { status: 400, body: { errors: [{ pointer: '/user_data', detail }] } });
    }
    await member.update('vms', vm.id, { power_state: 'stopped', user_data: '#!/bin/false' });
    t.match(await said(), { status: { restart_required: false } }, 'what is to stop owes nothing');
    await member.update('vms', vm.id, { power_state: 'running', user_data: null });
    await store.commit({ write: [{ delete: `schedules/${vm.id}` }, { delete: `reports/${vm.id}` }] });
    await store.commit({ write: [{ delete: `alive/${host}` }] });
  });

  const key = await member.create('ssh-keys', { name: 'second', public_key: testPublicKey });
  await member.update('vms', vm.id, { ssh_keys: [key.id] });
  t.match(await member.request('DELETE', `/v1/ssh-keys/${key.id}`), { status: 409, body: { detail: /vm web-1/ } });
  await member.remove('ssh-keys', key.id).then(
    () => t.fail('a key in use cannot go'),
    () => undefined,
  );
  for (const { plural, id } of [
    { plural: 'networks', id: prerequisites.network.id },
    { plural: 'images', id: prerequisites.image.id },
  ]) {
    t.match(await member.request('DELETE', `/v1/${plural}/${id}`), { status: 409, body: { code: 'in_use' } });
  }
  await member.update('vms', vm.id, { delete_protection: true });
  t.match(await member.request('DELETE', `/v1/vms/${vm.id}`), { status: 409, body: { code: 'delete_protected' } });
  await member.update('vms', vm.id, { delete_protection: false, name: 'web-2', ssh_keys: [prerequisites.sshKey.id] });
  await member.remove('ssh-keys', key.id);

  // The scheduler has placed it: it stays until the schedule is gone.
  const host = newId('host');
  await store.commit({ write: [put(records.schedules, vm.id, { host, fence: 1, at: 'now' })] });
  const deletion = await member.expect(202, 'DELETE', `/v1/vms/${vm.id}`);
  t.equal(deletion.body.status.phase, 'deleting');
  t.equal(
    (await member.expect(202, 'DELETE', `/v1/vms/${vm.id}`)).body.status.phase,
    'deleting',
    'once more does no harm',
  );
  t.match(await member.request('DELETE', `/v1/networks/${prerequisites.network.id}`), {
    status: 409,
    body: { detail: new RegExp(`vm web-2 \\(${vm.id}, being deleted\\)`) },
  });
  const { body: refusal } = await member.request('DELETE', `/v1/networks/${prerequisites.network.id}`);
  const { users = [] } = refusal as { users?: { id: string; being_deleted: boolean }[] };
  const leaving = users.filter((user) => user.being_deleted).map((user) => user.id);
  t.strictSame([users.length, leaving], [2, [vm.id]], 'programs learn which will not be in the way for long');
  t.match(await member.request('PATCH', `/v1/vms/${vm.id}`, { cpus: 2 }), {
    status: 409,
    body: { code: 'being_deleted' },
  });
  t.match(await member.request('POST', '/v1/vms', { ...vmBody, name: 'web-2' }), {
    status: 409,
    body: { code: 'name_taken' },
  });
  const gone = member.gone('vms', vm.id, deletion.body.revision);
  await store.commit({ write: [{ delete: `schedules/${vm.id}` }] });
  await gone;
  for (const { id } of (await member.list('vms')).items) await member.remove('vms', id);

  const events = (await member.list('events', `?target=${vm.id}`)).items.map(({ reason }) => reason);
  t.equal(events[0], 'created');
  t.equal(events.at(-1), 'deleted');
  for (const client of [member, test.operator]) {
    const of = client === member ? '' : `&target=${vm.id}`;
    const newest = (await client.list('events', `?order=newest&limit=1000${of}`)).items.map(({ id }) => id);
    const oldest = (await client.list('events', `?order=oldest&limit=1000${of}`)).items.map(({ id }) => id);
    t.strictSame(newest.toReversed(), oldest, 'from either end');
    const pages: string[] = [];
    for (let next = ''; ; ) {
      const page = await client.list('events', `?order=newest&limit=2${of}${next}`);
      pages.push(...page.items.map(({ id }) => id));
      if (page.next_page_token === undefined) break;
      next = `&page_token=${page.next_page_token}`;
    }
    t.strictSame(pages, newest, 'page by page');
  }
  const audit = await operator.list('audit-records', `?target=${vm.id}&limit=1`);
  t.match(audit, { items: [{ operation: 'vm_create', project, target: vm.id }] });
  t.ok(audit.next_page_token);

  const after = await contentOf(store);
  for (const key of after.keys()) {
    if (!before.has(key) && !/^(tokens|names\/[^/]*\/token|image-reports)\//.test(key)) t.fail(`${key} is left behind`);
  }
});

t.test('default MAC addresses', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const prerequisites = await createVmPrerequisites(test, project);
  const vmBody = {
    project,
    image: prerequisites.image.id,
    disk_size: '1GiB',
    interfaces: [{ network: prerequisites.network.id }],
  };
  const first = await operator.create('vms', { ...vmBody, name: 'again' });
  t.equal(first.interfaces[0]?.mac, defaultMac(project, 'again', 0, 0), 'known beforehand');
  await operator.remove('vms', first.id);
  t.equal((await operator.create('vms', { ...vmBody, name: 'again' })).address, first.address, 'and the same again');
  const earlier = await operator.create('vms', { ...vmBody, name: 'unlucky' });
  await operator.update('vms', earlier.id, { name: 'lucky' });
  const unlucky = await operator.create('vms', { ...vmBody, name: 'unlucky' });
  t.equal(unlucky.interfaces[0]?.mac, defaultMac(project, 'unlucky', 0, 1), 'the next, if it is taken');

  await operator.update('vms', unlucky.id, { name: 'renamed' });
  const heir = await operator.create('vms', { ...vmBody, name: 'unlucky' });
  t.equal(heir.interfaces[0]?.mac, defaultMac(project, 'unlucky', 0, 2), 'a VM that is renamed keeps its own');
});

t.test('the largest VM that the contract allows', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const prerequisites = await createVmPrerequisites(test, project);
  const before = await contentOf(store);
  const numbers = Array.from({ length: 8 }, (_, i) => i);
  const networks = await Promise.all(
    numbers.map((i) => operator.create('networks', { name: `n${i}`, project, prefix: prerequisites.prefix.id })),
  );
  const newKeys = (set: string) =>
    Promise.all(
      Array.from({ length: 32 }, (_, i) =>
        operator.create('ssh-keys', { name: `${set}${i}`, project, public_key: testPublicKey }),
      ),
    );
  const [first, second] = await Promise.all([newKeys('a'), newKeys('b')]);
  const vm = await operator.create('vms', {
    name: 'largest',
    project,
    image: prerequisites.image.id,
    disk_size: '512TiB',
    memory: '512TiB',
    cpus: 256,
    interfaces: networks.map(({ id }) => ({ network: id })),
    ssh_keys: first.map(({ id }) => id),
    user_data: '\u{1F600}'.repeat(8192),
  });
  await operator.update('vms', vm.id, { ssh_keys: second.map(({ id }) => id), name: 'renamed' });
  await operator.remove('vms', vm.id);
  for (const { id } of networks) await operator.remove('networks', id);
  await Promise.all([...first, ...second].map(({ id }) => operator.remove('ssh-keys', id)));
  const after = await contentOf(store);
  t.same([...after.keys()], [...before.keys()]);
});
