/** A route of a prefix to a VM, from its creation to its end. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { type Body, createVmPrerequisites, startTestApi, type TestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';
import { refuses } from '../support/refusals.ts';

/** Creates what VMs need, and a prefix for routes. Returns a function that creates VMs. */
async function prepare(test: TestApi) {
  const { operator, project } = test;
  const { image, network, prefix } = await createVmPrerequisites(test, project);
  const vm = (name: string, ...networks: readonly string[]): Promise<Body> =>
    operator.create('vms', {
      name,
      project,
      image: image.id,
      disk_size: '1GiB',
      interfaces: (networks.length > 0 ? networks : [network.id]).map((each) => ({ network: each })),
    });
  const site = await operator.create('prefixes', { name: 'site', project, length: 56 });
  const part = (subnet: number, length: number) =>
    site.cidr.replace(/00::\/56$/, `${subnet.toString(16).padStart(2, '0')}::/${length}`);
  return { image, network, prefix, site, vm, part };
}

t.test('a prefix is routed to a VM', async (t) => {
  const test = await startTestApi(t);
  const { project } = test;
  const member = await test.member(project);
  const refused = refuses(t, member);
  const { network, site, vm, part } = await prepare(test);
  const [first, second] = [await vm('first'), await vm('second')];
  const web = await member.create('networks', { name: 'web', prefix: site.id });
  t.equal(web.cidr, part(0, 64));

  const route = await member.create('prefix-routes', { name: 'containers', prefix: site.id, length: 60, vm: first.id });
  t.match(route, {
    project,
    cidr: part(0x10, 60),
    length: 60,
    vm: first.id,
    network: undefined,
    status: { phase: 'active', next_hop: first.address },
  });
  const given = await member.create('prefix-routes', {
    name: 'vpn',
    prefix: site.id,
    cidr: part(0x05, 80),
    vm: first.id,
  });
  t.equal(given.length, 80);

  await t.test('spaces overlap nothing', async (t) => {
    const r = { name: 'x', prefix: site.id, vm: first.id };
    await refused('prefix-routes', r, 409, '/prefix', /set cidr or length/);
    await refused('prefix-routes', { ...r, cidr: part(0x10, 60) }, 409, '/cidr', /overlaps a network or another route/);
    await refused('prefix-routes', { ...r, cidr: part(0x1f, 64) }, 409, '/cidr', /overlaps/);
    await refused('prefix-routes', { ...r, cidr: part(0x1f, 128) }, 409, '/cidr', /overlaps/);
    await refused('prefix-routes', { ...r, cidr: part(0x05, 64) }, 409, '/cidr', /overlaps/);
    await refused('prefix-routes', { ...r, cidr: web.cidr }, 409, '/cidr', /overlaps/);
    await refused('prefix-routes', { ...r, cidr: web.cidr.replace('/64', '/128') }, 409, '/cidr', /overlaps/);
    await refused('networks', { name: 'x', prefix: site.id, cidr: part(0x1c, 64) }, 409, '/cidr', /prefix route/);
    await refused('networks', { name: 'x', prefix: site.id, cidr: part(0x05, 64) }, 409, '/cidr', /prefix route/);
    for (let number = 1; number <= 5; number++)
      await member.create('networks', { name: `n${number}`, prefix: site.id });
    const names = (await member.list('networks')).items;
    t.strictSame(
      names
        .filter(({ prefix }) => prefix === site.id)
        .map(({ cidr }) => cidr)
        .toSorted(),
      [0, 1, 2, 3, 4, 6].map((subnet) => part(subnet, 64)).toSorted(),
      'networks leave the routes out',
    );
  });

  await t.test('bad input', async () => {
    const r = { name: 'x', prefix: site.id, vm: first.id };
    await refused('prefix-routes', { ...r, length: 55 }, 422, '/length', /at least that of the prefix site/);
    await refused('prefix-routes', { ...r, cidr: '2001:db8:ffff::/64' }, 422, '/cidr', /within the prefix site/);
    await refused('prefix-routes', { ...r, cidr: part(0x20, 60), length: 61 }, 422, '/length', /must be 60/);
    await refused('prefix-routes', { ...r, cidr: part(0x21, 60) }, 400, '/cidr', /bits set after/);
    await refused('prefix-routes', { ...r, length: 129 }, 400, '/length', /<= 128/);
    await refused('prefix-routes', { ...r, length: 60, vm: newId('vm') }, 422, '/vm', /existing vm/);
    await refused('prefix-routes', { ...r, length: 60, prefix: newId('prefix') }, 422, '/prefix', /existing prefix/);
    await refused('prefix-routes', { ...r, length: 60, network: web.id }, 422, '/network', /no interface in/);
    await refused('prefix-routes', { ...r, length: 60, name: 'vpn' }, 409, '/name', /taken/);
  });

  await t.test('the VM of a route changes in one step', async (t) => {
    const before = await member.get('prefix-routes', route.id);
    const moved = await member.update('prefix-routes', route.id, { vm: second.id });
    t.match(moved, { cidr: route.cidr, vm: second.id, status: { phase: 'active', next_hop: second.address } });
    t.match(await member.request('PATCH', `/v1/prefix-routes/${route.id}`, { vm: newId('vm') }), {
      status: 422,
      body: { errors: [{ pointer: '/vm' }] },
    });
    t.match(
      await member.request(
        'PATCH',
        `/v1/prefix-routes/${route.id}`,
        { vm: first.id },
        { 'if-match': `"${before.revision}"` },
      ),
      { status: 412 },
      'the version of the declaration counts',
    );
    t.match(await member.request('PATCH', `/v1/prefix-routes/${route.id}`, { cidr: part(0x40, 60) }), { status: 400 });
  });

  await t.test('a VM with several interfaces needs the network of the next hop', async (t) => {
    const both = await vm('both', network.id, web.id);
    const twice = await vm('twice', web.id, web.id);
    const r = { name: 'y', prefix: site.id, length: 64 };
    await refused('prefix-routes', { ...r, vm: both.id }, 422, '/network', /must be set.*2 interfaces/);
    await refused('prefix-routes', { ...r, vm: twice.id, network: web.id }, 422, '/vm', /only one interface/);
    const own = await member.create('prefix-routes', { ...r, vm: both.id, network: web.id });
    t.match(own, { network: web.id, status: { next_hop: both.interfaces[1]?.address } });
    t.match(await member.request('PATCH', `/v1/prefix-routes/${own.id}`, { vm: first.id }), {
      status: 422,
      body: { errors: [{ pointer: '/network' }] },
    });
    t.match(await member.request('PATCH', `/v1/prefix-routes/${own.id}`, { network: null }), {
      status: 422,
      body: { errors: [{ pointer: '/network' }] },
    });
    const moved = await member.update('prefix-routes', own.id, { vm: first.id, network: null });
    t.match(moved, { vm: first.id, network: undefined, status: { next_hop: first.address } });
    await member.remove('prefix-routes', own.id);
  });

  await t.test('a route outlives its VM, and its prefix outlives neither', async (t) => {
    t.match(await member.request('DELETE', `/v1/prefixes/${site.id}`), {
      status: 409,
      body: { code: 'in_use', detail: /prefix route containers/ },
    });
    await member.remove('vms', second.id);
    const left = await member.get('prefix-routes', route.id);
    t.strictSame(left.status, { phase: 'vm_gone' });
    await member.update('prefix-routes', route.id, { name: 'idle' });
    t.match(await member.request('PATCH', `/v1/prefix-routes/${route.id}`, { vm: second.id }), { status: 200 });
    const again = await member.update('prefix-routes', route.id, { vm: first.id });
    t.match(again.status, { phase: 'active', next_hop: first.address });
    await member.update('prefix-routes', route.id, { delete_protection: true });
    t.match(await member.request('DELETE', `/v1/prefix-routes/${route.id}`), { body: { code: 'delete_protected' } });
    await member.update('prefix-routes', route.id, { delete_protection: false });
    await member.remove('prefix-routes', route.id);
    await member.remove('prefix-routes', given.id);
    const net = await member.create('networks', { name: 'freed', prefix: site.id, cidr: part(0x10, 64) });
    t.equal(net.cidr, part(0x10, 64), 'its space is free again');
  });
});

t.test('routes of other projects', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const { site, vm } = await prepare(test);
  const mine = await vm('mine');
  const other = await operator.create('projects', { name: 'other' });
  const stranger = await test.member(other.id);
  const refused = refuses(t, stranger);
  const theirs = await stranger.create('prefixes', { name: 'theirs', length: 60 });
  const r = { name: 'r', length: 64 };
  await refused('prefix-routes', { ...r, prefix: theirs.id, vm: mine.id }, 422, '/vm', /there is no/);
  await refuses(t, operator)('prefix-routes', { ...r, prefix: theirs.id, vm: mine.id }, 422, '/prefix', /there is no/);
  const member = await test.member(project);
  const route = await member.create('prefix-routes', { ...r, prefix: site.id, vm: mine.id });
  t.match(await stranger.request('GET', `/v1/prefix-routes/${route.id}`), { status: 404 });
  t.match(await stranger.request('PATCH', `/v1/prefix-routes/${route.id}`, { vm: mine.id }), { status: 404 });
});

t.test('a route with the underlay address of a host is refused', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const { site, vm, part } = await prepare(test);
  const { id } = await vm('router');
  const host = newId('host');
  const address = part(0x30, 64).replace('/64', '5');
  const record = { ...hostRecord({ id: host, name: 'node1' }), underlay: { address, mtu: 1600 } };
  await store.commit({ write: [put(records.hosts, host, record)] });
  await until(
    'the API knows the host',
    async () => (await operator.request('GET', `/v1/hosts/${host}`)).status === 200,
  );
  const member = await test.member(project);
  const r = { name: 'r', prefix: site.id, vm: id };
  await refuses(t, member)('prefix-routes', { ...r, cidr: part(0x30, 60) }, 422, '/cidr', /reserved for hosts/);
  await member.create('prefix-routes', { ...r, cidr: part(0x40, 60) });
});

t.test('many creations at once never route a space twice', async (t) => {
  const test = await startTestApi(t);
  const { project } = test;
  const { site, vm, part } = await prepare(test);
  const { id } = await vm('router');
  const member = await test.member(project);
  const answers = await Promise.all([
    ...Array.from({ length: 20 }, (_each, index) =>
      member.request('POST', '/v1/prefix-routes', { name: `r${index}`, prefix: site.id, vm: id, length: 62 }),
    ),
    ...Array.from({ length: 20 }, (_each, index) =>
      member.request('POST', '/v1/networks', { name: `n${index}`, prefix: site.id }),
    ),
    ...Array.from({ length: 10 }, (_each, index) =>
      member.request('POST', '/v1/prefix-routes', { name: `g${index}`, prefix: site.id, vm: id, cidr: part(0xf0, 60) }),
    ),
  ]);
  const made = answers.filter(({ status }) => status === 201).map(({ body }) => body.cidr as string);
  t.equal(made.filter((cidr) => cidr === part(0xf0, 60)).length, 1);
  t.equal(made.length, 41);
  t.ok(answers.every(({ status }) => status === 201 || status === 409));
  const range = (cidr: string): [bigint, bigint] => {
    const [address = '', length] = cidr.split('/');
    const first = BigInt(
      `0x${address
        .replace('::', '')
        .split(':')
        .map((each) => each.padStart(4, '0'))
        .join('')
        .padEnd(32, '0')}`,
    );
    return [first, first + (1n << BigInt(128 - Number(length)))];
  };
  const ranges = made.map(range).sort(([a], [b]) => (a < b ? -1 : 1));
  t.ok(
    ranges.every(([first], index) => index === 0 || first >= (ranges[index - 1]?.[1] ?? 0n)),
    'no two overlap',
  );
});
