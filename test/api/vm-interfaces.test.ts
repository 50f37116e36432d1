/** The interfaces of a VM: chosen addresses, and changes. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import { addressKey, storedIpv6 } from '../../backend/model/network/addresses.ts';
import * as records from '../../backend/model/records/index.ts';
import { heldInterfaces, type Interface } from '../../backend/model/vm/interfaces.ts';
import { put, read } from '../../backend/store/collection.ts';
import { contentOf, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';

t.test('addresses that users choose', async (t) => {
  const test = await startTestApi(t);
  const { project, store } = test;
  const { image, network } = await createVmPrerequisites(test, project);
  const member = await test.member(project);
  await store.commit({
    write: [put(records.imageReports, image.id, { phase: 'available', size: 2 ** 30, at: 'now' })],
  });
  await member.get('images', image.id, `?after=${image.revision}&timeout=10`);
  const other = await member.create('networks', { name: 'other', prefix: network.prefix });
  const inside = (cidr: string, id: string) => cidr.replace('::/64', `::${id}`);
  const at = (id: string) => inside(network.cidr, id);
  const body = (name: string, ...interfaces: object[]) => ({
    name,
    image: image.id,
    interfaces: interfaces.map((each) => ({ network: network.id, ...each })),
  });
  const holderOf = async (address: string) =>
    (await read(store, records.addresses, addressKey(storedIpv6(address))))?.value.id;
  const before = await contentOf(store);
  const chosen = { address: at('80').toUpperCase(), secondary_addresses: [at('81'), at('0:82')] };
  const vm = await member.create('vms', body('web', chosen, {}));
  const [first, second] = vm.interfaces;
  t.match(first, { address: at('80'), secondary_addresses: [at('81'), at('82')] }, 'in the normal spelling');
  t.equal(vm.address, at('80'));
  t.strictSame(second?.secondary_addresses, [], 'the default');
  for (const each of [at('80'), at('81'), at('82')]) t.equal(await holderOf(each), vm.id, each);
  const derived = second?.address ?? '';

  const refused = async (status: number, pointer: string, detail: RegExp, ...interfaces: object[]) => {
    const answer = await member.request('POST', '/v1/vms', body('refused', ...interfaces));
    t.match(answer, { status, body: { errors: [{ pointer, detail }] } }, JSON.stringify(interfaces));
  };
  await t.test('an address belongs to one interface', async () => {
    await refused(409, '/interfaces/0/address', /is taken/, { address: at('80') });
    await refused(409, '/interfaces/0/address', /is taken/, { address: at('81') });
    await refused(409, '/interfaces/0/address', /is taken/, { address: derived });
    await refused(409, '/interfaces/0/secondary_addresses/1', /is taken/, {
      secondary_addresses: [at('90'), at('82')],
    });
    const [a, b] = [{ address: at('90') }, { secondary_addresses: [at('90')] }];
    await refused(409, '/interfaces/1/secondary_addresses/0', /of the other interfaces of this VM/, a, b);
    await refused(409, '/interfaces/1/address', /of the other interfaces of this VM/, a, a);
    const creations = await Promise.all(
      Array.from({ length: 8 }, (_, i) => member.request('POST', '/v1/vms', body(`race-${i}`, { address: at('99') }))),
    );
    t.strictSame(creations.map(({ status }) => status).sort(), [201, ...Array.from({ length: 7 }, () => 409)]);
    for (const { status, body: answer } of creations) {
      if (status === 201) await member.remove('vms', (answer as { id: string }).id);
    }
  });
  await t.test('an address lies in the network, and is none of its reserved addresses', async () => {
    await refused(422, '/interfaces/0/address', /in the prefix of the network/, { address: inside(other.cidr, '80') });
    await refused(422, '/interfaces/0/address', /the network's router/, { address: at('1') });
    await refused(422, '/interfaces/0/address', /anycast/, { address: at('') });
    await refused(422, '/interfaces/0/address', /in the prefix/, { address: 'ff02::1' });
    await refused(422, '/interfaces/0/secondary_addresses/0', /the network's router/, {
      secondary_addresses: [at('1')],
    });
    await refused(400, '/interfaces/0/address', /IPv6 address/, { address: '192.0.2.1' });
    await refused(422, '/interfaces/0/secondary_addresses/1', /must differ/, {
      secondary_addresses: [at('90'), at('0:90')],
    });
    const mac = '02:00:5e:10:00:07';
    const own = at('').replace(/::$/, '::5eff:fe10:7');
    await refused(422, '/interfaces/0/secondary_addresses/0', /derived/, { mac, secondary_addresses: [own] });
    const nine = Array.from({ length: 9 }, (_, i) => at(`a${i}`));
    await refused(400, '/interfaces/0/secondary_addresses', /8/, { secondary_addresses: nine });
  });

  await member.remove('vms', vm.id);
  for (const each of [at('80'), at('81'), at('82'), derived]) t.equal(await holderOf(each), undefined, 'free again');
  t.equal((await read(store, records.formats, 'store'))?.value.reader, 7, 'older versions would drop the packets');
  const left = (content: Map<string, string>) =>
    [...content.keys()].filter((key) => /^(vms|macs|addresses|uses)\//.test(key));
  t.strictSame(left(await contentOf(store)), left(before));
});

t.test('interfaces that change', async (t) => {
  const test = await startTestApi(t);
  const { project, store } = test;
  const { image, network } = await createVmPrerequisites(test, project);
  const member = await test.member(project);
  await store.commit({
    write: [put(records.imageReports, image.id, { phase: 'available', size: 2 ** 30, at: 'now' })],
  });
  await member.get('images', image.id, `?after=${image.revision}&timeout=10`);
  const second = await member.create('networks', { name: 'second', prefix: network.prefix });
  const [one, two] = [network.id, second.id];
  const before = await contentOf(store);
  const vm = await member.create('vms', {
    name: 'web',
    image: image.id,
    interfaces: [{ network: one }, { network: two }],
  });
  const set = async (...interfaces: object[]) => (await member.update('vms', vm.id, { interfaces })).interfaces;
  const refused = async (status: number, pointer: string, detail: RegExp, ...interfaces: object[]) => {
    const { revision } = await member.get('vms', vm.id);
    const answer = await member.request('PATCH', `/v1/vms/${vm.id}`, { interfaces });
    t.match(answer, { status, body: { errors: [{ pointer, detail }] } }, JSON.stringify(interfaces));
    t.equal((await member.get('vms', vm.id)).revision, revision, 'nothing changes');
  };
  const record = async () => (await read(store, records.vms, vm.id))?.value;
  const claims = async () =>
    [...(await contentOf(store)).entries()].flatMap(([key, value]) =>
      /^(macs|addresses)\//.test(key) && value.includes(vm.id) ? [key] : [],
    );
  const [a, b] = vm.interfaces;
  const chosen = network.cidr.replace('::/64', '::77');
  const host = newId('host');
  /** The host reports the interfaces of the guest; undefined as an earlier version. */
  const reports = async (interfaces: records.ReportRecord['interfaces'], more: Partial<records.ReportRecord> = {}) => {
    const { revision } = await member.get('vms', vm.id);
    const at = new Date().toISOString();
    const resources = { cpus: 1, memory: 2 ** 29, disk: 2 ** 30 };
    const generation = more.generation ?? (await record())?.generation ?? 0;
    const report = { host, fence: 1, phase: 'running', generation, resources, started_at: at, at, ...more } as const;
    await store.commit({ write: [put(records.reports, vm.id, { ...report, ...(interfaces && { interfaces }) })] });
    await member.get('vms', vm.id, `?after=${revision}&timeout=10`);
  };
  const held = (...list: (typeof a)[]) => heldInterfaces(list.flatMap((each) => each ?? []) as Interface[]);
  const status = async () => (await member.get('vms', vm.id)).status as unknown as Record<string, unknown>;

  await t.test('the order and missing fields change nothing', async (t) => {
    const { revision } = await member.get('vms', vm.id);
    t.strictSame(await set({ network: one }, { network: two }), [a, b]);
    t.equal((await member.get('vms', vm.id)).revision, revision, 'the same again writes nothing');
    t.strictSame(await set({ network: two }, { network: one }), [b, a]);
    t.strictSame(await set({ network: one, mac: a?.mac }, { network: two }), [a, b]);
    const fixed = await member.request('PATCH', `/v1/vms/${vm.id}`, { interfaces: null });
    t.match(fixed, { status: 400, body: { errors: [{ pointer: '/interfaces' }] } });
  });
  await t.test('bad changes', async () => {
    await refused(422, '/interfaces/0/network', /must stay net-/, { network: two, mac: a?.mac });
    await refused(
      409,
      '/interfaces/1/mac',
      /other interfaces/,
      { network: one, mac: a?.mac },
      { network: one, mac: a?.mac },
    );
    await refused(422, '/interfaces/0/mac', /must not begin with 42/, { network: one, mac: '42:00:00:00:00:01' });
    await refused(400, '/interfaces', /fewer than 1/);
    await refused(422, '/interfaces/0/network', /existing network/, { network: newId('network') });
    await refused(
      409,
      '/interfaces/1/address',
      /of the other interfaces/,
      { network: one, address: chosen },
      { network: one, address: chosen },
    );
  });
  await t.test('without a guest, removed interfaces are free at once', async (t) => {
    const [, , c] = await set({ network: one }, { network: two }, { network: one, secondary_addresses: [] });
    t.equal((await claims()).length, 6);
    t.strictSame(await set({ network: one, mac: c?.mac }), [c]);
    t.equal((await claims()).length, 2);
    t.equal((await record())?.leaving_interfaces, undefined);
    await member.remove('networks', two);
    t.strictSame(await set({ network: one }), [c]);
  });
  const third = await member.create('networks', { name: 'third', prefix: network.prefix });
  await store.commit({
    write: [
      put(records.schedules, vm.id, { host, fence: 1, at: 'now' }),
      put(records.alive, host, { at: new Date().toISOString() }),
    ],
  });
  await t.test('the addresses of a running guest stay taken until it has lost them', async (t) => {
    const [c] = (await member.get('vms', vm.id)).interfaces;
    const [, d] = await set({ network: one }, { network: third.id });
    await reports(held(c, d));
    t.match(await status(), { changing_interfaces: [], pending_changes: [] });
    const taken = await claims();
    await set({ network: one });
    t.strictSame(await claims(), taken);
    t.match(await status(), { changing_interfaces: [d?.mac], restart_required: false });
    await member.expect(409, 'DELETE', `/v1/networks/${third.id}`);
    const stolen = { name: 'thief', image: image.id, interfaces: [{ network: third.id, address: d?.address }] };
    t.match(await member.request('POST', '/v1/vms', stolen), { status: 409, body: { code: 'address_taken' } });
    await reports([...held(c), { mac: d?.mac ?? '', addresses: [] }], { interfaces_wait: true });
    t.match(await status(), { pending_changes: ['interfaces'], restart_required: true });
    await until('the addresses are free', async () => (await claims()).length === 3);
    await member.remove('networks', third.id);
    await reports(held(c));
    await until('everything is free', async () => (await record())?.leaving_interfaces === undefined);
    t.equal((await claims()).length, 2);
  });
  await t.test('an address moves between the interfaces of a VM', async (t) => {
    const [c] = (await member.get('vms', vm.id)).interfaces;
    const [, e] = await set({ network: one, address: chosen }, { network: one });
    t.equal((await member.get('vms', vm.id)).address, chosen);
    await reports(held({ ...c, address: chosen } as typeof c, e));
    const [first, other] = await set(
      { network: one, mac: c?.mac, address: c?.address },
      { network: one, address: chosen },
    );
    t.strictSame([first?.mac, first?.address, other?.mac, other?.address], [c?.mac, c?.address, e?.mac, chosen]);
    t.match(await status(), { changing_interfaces: [c?.mac, e?.mac] });
    await reports(held(first, other));
    t.match(await status(), { changing_interfaces: [] });
    await set({ network: one, mac: c?.mac });
    await reports(held(first));
    await until('everything is free', async () => (await claims()).length === 2);
  });
  await t.test('a report of an earlier version proves nothing', async (t) => {
    const [c] = (await member.get('vms', vm.id)).interfaces;
    const [, f] = await set({ network: one }, { network: one });
    await reports(undefined, { generation: 1 });
    t.match(await status(), { pending_changes: ['interfaces'], changing_interfaces: [] });
    await set({ network: one, mac: c?.mac });
    t.match(await record(), { leaving_interfaces: [{ mac: f?.mac }] });
    await reports(undefined, { phase: 'stopped' });
    await until('everything is free', async () => (await claims()).length === 2);
  });
  await t.test('an interface that a prefix is routed to stays', async (t) => {
    const [c] = (await member.get('vms', vm.id)).interfaces;
    const route = await member.create('prefix-routes', { name: 'r', prefix: network.prefix, vm: vm.id, length: 64 });
    const answer = await member.request('PATCH', `/v1/vms/${vm.id}`, {
      interfaces: [{ network: one, mac: '02:00:5e:10:00:09' }],
    });
    t.match(answer, {
      status: 409,
      body: { code: 'in_use', detail: /the interface .* is still used by prefix route r/ },
    });
    t.strictSame((await set({ network: one }, { network: one }))[0], c, 'another one may come');
    await set({ network: one, mac: c?.mac });
    await member.remove('prefix-routes', route.id);
  });
  await t.test('many changes at once leave exactly the claims of the last one', async (t) => {
    await store.commit({ write: [{ delete: `reports/${vm.id}` }] });
    const lists = Array.from({ length: 12 }, (_, i) =>
      Array.from({ length: (i % 4) + 1 }, (_, j) => ({
        network: one,
        ...(j > 0 && { mac: `02:00:5e:11:0${i % 3}:0${j}` }),
      })),
    );
    const answers = await Promise.all(
      lists.map((interfaces) => member.request('PATCH', `/v1/vms/${vm.id}`, { interfaces })),
    );
    t.strictSame(
      answers.map((each) => (each.status === 200 ? 200 : each.body)),
      lists.map(() => 200),
    );
    const { interfaces } = await member.get('vms', vm.id);
    t.equal((await claims()).length, 2 * interfaces.length);
  });
  await store.commit({ write: [{ delete: `schedules/${vm.id}` }, { delete: `alive/${host}` }] });
  await member.remove('vms', vm.id);
  const left = (content: Map<string, string>) =>
    [...content.keys()].filter((key) => /^(vms|macs|addresses|uses)\//.test(key) && !key.includes(two));
  t.strictSame(left(await contentOf(store)), left(before));
});
