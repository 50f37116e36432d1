/** Host selectors of VMs, and the settings of operators for placement. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';

const settings = '/v1/settings';

t.test('the host selector of a VM', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const { image, network } = await createVmPrerequisites(test, project);
  const member = await test.member(project);
  const body = { image: image.id, interfaces: [{ network: network.id }], disk_size: '1GiB' };
  await operator.expect(200, 'PATCH', settings, { selectable_host_labels: ['zone', 'gpu'] });

  const vm = await member.create('vms', { ...body, name: 'web', host_selector: 'zone in (a, b),!gpu' });
  t.match(vm, { host_selector: 'zone in (a, b),!gpu' }, 'as it was written');
  t.match(await member.get('vms', vm.id), { host_selector: 'zone in (a, b),!gpu' });
  t.notOk('host_selector' in (await member.create('vms', { ...body, name: 'anywhere' })));

  await t.test('a bad selector is refused with its fault, and changes nothing', async (t) => {
    const before = await member.list('vms');
    for (const [selector, detail] of [
      ['', /fewer than 1|label selector/],
      ['zone=a=b', /must be a label selector: "zone=a=b" is not a requirement/],
      ['zone in (a', /must be a label selector/],
      ['zone in (-)', /"-" in "zone in \(-\)" is not a label value/],
      [`zone in (${'a,'.repeat(600)}a)`, /more than 1024/],
      [7, /must be string/],
    ] as const) {
      const refused = await member.request('POST', '/v1/vms', { ...body, name: 'bad', host_selector: selector });
      t.match(refused, { status: 400, body: { errors: [{ pointer: '/host_selector', detail }] } }, String(selector));
    }
    t.strictSame((await member.list('vms')).items, before.items);
  });

  await t.test('it cannot change, because a VM never changes its host', async (t) => {
    const fixed = await member.request('PATCH', `/v1/vms/${vm.id}`, { host_selector: 'zone=a' });
    t.match(fixed, { status: 400, body: { errors: [{ pointer: '/host_selector' }] } });
  });
});

t.test('the settings of placement', async (t) => {
  const { operator, store } = await startTestApi(t);
  const first = await operator.expect(200, 'GET', settings);
  t.match(first.body, { placement_strategy: 'spread', selectable_host_labels: [] });
  const labels = ['zone', 'example.net/rack'];
  const packed = { placement_strategy: 'pack', selectable_host_labels: labels };
  t.match((await operator.expect(200, 'PATCH', settings, packed)).body, packed);
  t.match((await operator.expect(200, 'PATCH', settings, { default_quota: { vms: 3 } })).body, packed, 'they stay');
  t.match((await operator.expect(200, 'PATCH', settings, { placement_strategy: null })).body, {
    placement_strategy: 'spread',
    selectable_host_labels: labels,
    default_quota: { vms: 3 },
  });
  await operator.expect(200, 'PATCH', settings, { selectable_host_labels: null });
  const stored = await store.get(`${records.settings.prefix}cloud`);
  t.notMatch(stored?.value, /placement_strategy|selectable/, 'a default is not stored');
  for (const [change, pointer, detail] of [
    [{ placement_strategy: 'random' }, '/placement_strategy', /spread, pack/],
    [{ selectable_host_labels: ['-'] }, '/selectable_host_labels/0', /letters, digits/],
    [{ selectable_host_labels: ['a', 'a'] }, '/selectable_host_labels', /duplicate|twice|unique/],
    [{ selectable_host_labels: Array.from({ length: 65 }, (_, n) => `k${n}`) }, '/selectable_host_labels', /64/],
  ] as const) {
    const refused = await operator.request('PATCH', settings, change);
    t.match(refused, { status: 400, body: { errors: [{ pointer, detail }] } }, JSON.stringify(change));
  }
});

t.test('a capacity check knows selectors, cordons and the strategy', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const [first, second] = [newId('host'), newId('host')].sort();
  for (const id of [first, second]) {
    if (id === undefined) continue;
    const capacity = { cpus: 1, memory: 2 ** 34, disk: 2 ** 40 };
    await store.commit({
      write: [put(records.hosts, id, hostRecord({ id, capacity })), put(records.alive, id, { at: 'now' })],
    });
  }
  await until('the hosts', async () => (await operator.list('hosts')).items.length === 2);
  await operator.update('hosts', first ?? '', { labels: { zone: 'a' }, cpu_overcommit: 1 });
  await operator.update('hosts', second ?? '', { labels: { zone: 'b' }, cpu_overcommit: 1 });
  const check = async (...vms: object[]) =>
    (await operator.expect(200, 'POST', '/v1/capacity-checks', { project, vms })).body;
  t.match(await check({ host_selector: 'zone=a' }, { host_selector: 'zone=b' }), { refusals: [] });
  t.match(await check({ count: 2, host_selector: 'zone=a' }), {
    refusals: [
      {
        pointer: '/vms/0/host_selector',
        first: 1,
        count: 1,
        reason: 'no_host',
        message: /^needs 1 cpu, largest free host has 0 cpus; 1 of 2 hosts is not matched by the host selector zone=a$/,
      },
    ],
  });
  t.match(await check({ host_selector: 'zone=c' }), {
    refusals: [{ pointer: '/vms/0/host_selector', message: 'no host matches the host selector zone=c' }],
  });
  await operator.update('hosts', second ?? '', { cordoned: true });
  t.match(await check({ count: 2 }), { refusals: [{ count: 1, message: /1 of 2 hosts is cordoned/ }] });
  await operator.update('hosts', second ?? '', { cordoned: false, cpu_overcommit: 2 });

  // The first host is fuller. Spread gives the small VM to the second host, which has then no room for the large VM.
  const used = { fence: 1, cpus: 0, memory: 2 ** 30, disk: 0, at: 'now' };
  await store.commit({ write: [put(records.placements, `${first}/${newId('vm')}`, used)] });
  await until('the placement', async () => (await operator.get('hosts', first ?? '')).allocated.memory > 0);
  const smallThenLarge = [{ cpus: 1 }, { cpus: 2 }];
  t.match(await check(...smallThenLarge), { refusals: [{ pointer: '/vms/1/cpus' }] });
  await operator.expect(200, 'PATCH', settings, { placement_strategy: 'pack' });
  t.match(await check(...smallThenLarge), { refusals: [] });
});
