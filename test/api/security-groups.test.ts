/** Security groups as users declare them: rules, references and defaults of networks. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { heldInterfaces } from '../../backend/model/vm/interfaces.ts';
import { put, read } from '../../backend/store/collection.ts';
import { contentOf, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';

const web = {
  direction: 'ingress',
  protocol: 'tcp',
  ports: ['80', '8000-8010'],
  prefixes: ['2001:DB8:0::/32', '::/0'],
};

t.test('a member declares a group, changes it and removes it', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const project = await operator.create('projects', { name: 'one' });
  const member = await test.member(project.id);
  const group = await member.create('security-groups', { name: 'web', rules: [web] });
  const rules = [{ ...web, prefixes: ['2001:db8::/32', '::/0'] }];
  t.match(group, { rules, default_egress: 'allow', description: '', labels: {}, delete_protection: false });
  t.notOk('vm_selector' in group);
  const change = { vm_selector: 'tier=web', rules: [{ direction: 'ingress', protocol: 'any', self: true }] };
  t.match(await member.update('security-groups', group.id, change), change);
  const back = await member.update('security-groups', group.id, { vm_selector: null, rules: null });
  t.strictSame(back.rules, []);
  t.notOk('vm_selector' in back);
  await member.remove('security-groups', group.id);
});

t.test('each wrong rule is named, and nothing changes', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const project = await operator.create('projects', { name: 'one' });
  const group = await operator.create('security-groups', { project: project.id, name: 'web' });
  const rule = (change: object) => ({
    rules: [web, { direction: 'ingress', protocol: 'tcp', prefixes: ['::/0'], ...change }],
  });
  const nested = Array.from({ length: 9 }, (_, index) => `2001:db8::/${32 + index}`);
  const wrong: readonly (readonly [object, string, RegExp])[] = [
    [rule({ protocol: 'any', ports: ['80'] }), '/rules/1/ports', /omitted with the protocol any, which has no ports/],
    [rule({ protocol: 'icmpv6', ports: ['80'] }), '/rules/1/ports', /omitted/],
    [{ rules: [{ direction: 'ingress', ports: ['80'], prefixes: ['::/0'] }] }, '/rules/0/protocol', /required/],
    [rule({ ports: ['0'] }), '/rules/1/ports/0', /from 1 to 65535/],
    [rule({ ports: ['80', '65536'] }), '/rules/1/ports/1', /from 1 to 65535/],
    [rule({ ports: ['90-80'] }), '/rules/1/ports/0', /first port is not above its last/],
    [rule({ ports: ['80; drop'] }), '/rules/1/ports/0', /a port or a range/],
    [rule({ ports: [] }), '/rules/1/ports', /fewer than 1/],
    [rule({ icmp_types: [128] }), '/rules/1/icmp_types', /omitted with the protocol tcp/],
    [rule({ prefixes: undefined }), '/rules/1', /must name the other side by one of/],
    [rule({ prefixes: undefined, self: false }), '/rules/1', /must name the other side by one of/],
    [rule({ self: true }), '/rules/1', /in one way, not by prefixes and self/],
    [rule({ prefixes: ['2001:db8::1/32'] }), '/rules/1/prefixes/0', /bits set/],
    [rule({ prefixes: ['192.0.2.0/24'] }), '/rules/1/prefixes/0', /prefix/],
    [rule({ prefixes: undefined, vm_selector: '' }), '/rules/1/vm_selector', /fewer than 1/],
    [rule({ prefixes: undefined, vm_selector: '!old' }), '/rules/1/vm_selector', /without labels/],
    [rule({ prefixes: undefined, vm_selector: 'a in b' }), '/rules/1/vm_selector', /label selector/],
    [{ vm_selector: 'tier!=db' }, '/vm_selector', /without labels/],
    [rule({ direction: 'egress' }), '/rules/1/direction', /while default_egress is allow/],
    [rule({ direction: 'both' }), '/rules/1/direction', /ingress/],
    [rule({ protocol: 'icmp' }), '/rules/1/protocol', /icmpv6/],
    [{ rules: [{ ...web, prefixes: nested }] }, '/rules', /at most 8 prefixes of which each contains the next, not 9/],
    [
      {
        rules: Array.from({ length: 33 }, (_, n) => ({ direction: 'ingress', protocol: 'any', vm_selector: `a=${n}` })),
      },
      '/rules',
      /at most 32 other groups and selectors, not 33/,
    ],
    [
      {
        rules: Array.from({ length: 2 }, (_, n) => ({
          ...{ direction: 'ingress', protocol: 'tcp', ports: Array.from({ length: 64 }, (_, port) => `${port + 1}`) },
          prefixes: Array.from({ length: 64 }, (_, index) => `2001:db8:${n}:${index.toString(16)}::/64`),
        })),
      },
      '/rules',
      /at most 4096 combinations of prefixes with ports or types, not 8192/,
    ],
  ];
  for (const [change, pointer, detail] of wrong) {
    for (const [method, path, body] of [
      ['POST', '/v1/security-groups', { project: project.id, name: 'other', ...change }],
      ['PATCH', `/v1/security-groups/${group.id}`, change],
    ] as const) {
      const answer = await operator.expect(400, method, path, body);
      t.match(
        answer.body,
        { code: 'invalid_input', errors: [{ pointer, detail }] },
        JSON.stringify(change).slice(0, 200),
      );
    }
  }
  t.match((await operator.list('security-groups')).items, [{ id: group.id, revision: group.revision }]);
});

t.test('a group that others name stays, and groups of other projects cannot be named', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const [one, two] = [
    await operator.create('projects', { name: 'one' }),
    await operator.create('projects', { name: 'two' }),
  ];
  const [member, stranger] = [await test.member(one.id), await test.member(two.id)];
  const group = await member.create('security-groups', { name: 'web' });
  const foreign = await stranger.create('security-groups', { name: 'web' });
  const naming = (id: string) => ({ rules: [{ direction: 'ingress', protocol: 'any', security_group: id }] });
  const database = await member.create('security-groups', { name: 'database', ...naming(group.id) });

  const inUse = await member.expect(409, 'DELETE', `/v1/security-groups/${group.id}`);
  t.match(inUse.body, { code: 'in_use', detail: /database/ });
  await member.update('security-groups', group.id, naming(group.id));
  await member.update('security-groups', database.id, naming(database.id));
  await member.remove('security-groups', database.id);
  for (const client of [member, operator]) {
    const refused = await client.expect(422, 'PATCH', `/v1/security-groups/${group.id}`, naming(foreign.id));
    t.match(refused.body, { code: 'invalid_reference', errors: [{ pointer: '/rules/0/security_group' }] });
  }

  const pool = await operator.create('prefix-pools', { name: 'pool', cidr: '2001:db8::/32', default_length: 56 });
  t.ok(pool.id);
  const prefix = await member.create('prefixes', { name: 'site' });
  const network = await member.create('networks', {
    name: 'net',
    prefix: prefix.id,
    default_security_groups: [group.id],
  });
  t.match(network, { default_security_groups: [group.id], kind: 'bridged' });
  t.match((await member.expect(409, 'DELETE', `/v1/security-groups/${group.id}`)).body, {
    code: 'in_use',
    detail: /net/,
  });
  const wrong = { default_security_groups: [foreign.id] };
  t.match((await member.expect(422, 'PATCH', `/v1/networks/${network.id}`, wrong)).body, {
    code: 'invalid_reference',
    errors: [{ pointer: '/default_security_groups/0' }],
  });
  t.strictSame(
    (await member.update('networks', network.id, { default_security_groups: null })).default_security_groups,
    [],
  );
  await member.update('networks', network.id, { default_security_groups: [group.id] });
  await member.remove('networks', network.id);
  await member.remove('security-groups', group.id);
  const routed = await member.create('networks', { name: 'routed', prefix: prefix.id, kind: 'routed' });
  t.equal(routed.kind, 'routed');
  t.match((await member.expect(400, 'PATCH', `/v1/networks/${routed.id}`, { kind: 'bridged' })).body, {
    code: 'invalid_input',
  });
});

t.test('interfaces name groups, in place', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const { image, network } = await createVmPrerequisites(test, project);
  const member = await test.member(project);
  const [web, db] = [
    await member.create('security-groups', { name: 'web' }),
    await member.create('security-groups', { name: 'db' }),
  ];
  const stranger = await test.member((await operator.create('projects', { name: 'two' })).id);
  const foreign = await stranger.create('security-groups', { name: 'web' });
  const before = await contentOf(store);
  const users = async () =>
    [...(await contentOf(store)).keys()].filter((key) => /^uses\/sg-/.test(key)).map((key) => key.split('/')[1]);
  const body = (...interfaces: object[]) => ({
    ...{ name: 'front', image: image.id, disk_size: '1GiB' },
    interfaces: interfaces.map((each) => ({ network: network.id, ...each })),
  });

  await t.test('bad references change nothing', async (t) => {
    const gone = newId('security_group');
    for (const [client, id] of [
      [member, foreign.id],
      [operator, foreign.id],
      [member, gone],
    ] as const) {
      const wrong = body({ security_groups: [id] });
      const answer = await client.expect(422, 'POST', '/v1/vms', client === operator ? { ...wrong, project } : wrong);
      t.match(answer.body, { code: 'invalid_reference', errors: [{ pointer: '/interfaces/0/security_groups/0' }] });
    }
    const second = body({}, { security_groups: [web.id, gone] });
    t.match((await member.expect(422, 'POST', '/v1/vms', second)).body, {
      errors: [{ pointer: '/interfaces/1/security_groups/1' }],
    });
    const nine = Array.from({ length: 9 }, () => newId('security_group'));
    for (const groups of [nine, [web.id, web.id], ['web'], [network.id], null]) {
      const answer = await member.expect(400, 'POST', '/v1/vms', body({ security_groups: groups }));
      t.match(answer.body, { code: 'invalid_input', errors: [{ pointer: /^\/interfaces\/0\/security_groups/ }] });
    }
    t.strictSame(await contentOf(store), before);
  });

  const vm = await member.create('vms', body({ security_groups: [web.id, db.id] }, { security_groups: [web.id] }, {}));
  t.strictSame(
    vm.interfaces.map((each) => each.security_groups),
    [[web.id, db.id], [web.id], []],
  );
  t.strictSame(await users(), [web.id, db.id].toSorted());
  const set = async (...interfaces: object[]) =>
    (await member.update('vms', vm.id, { interfaces: body(...interfaces).interfaces })).interfaces;
  const inUse = async (id: string) => {
    const answer = await member.expect(409, 'DELETE', `/v1/security-groups/${id}`);
    t.match(answer.body, { code: 'in_use', detail: /vm front/ });
  };
  await inUse(web.id);
  await inUse(db.id);

  // A running guest has the interfaces.
  const record = async () => (await read(store, records.vms, vm.id))?.value;
  const [host, at] = [newId('host'), new Date().toISOString()];
  const report = {
    ...{ host, fence: 1, generation: 1, started_at: at, at },
    phase: 'running',
    resources: { cpus: 1, memory: 2 ** 29, disk: 2 ** 30 },
    interfaces: heldInterfaces((await record())?.interfaces ?? []),
  } as const;
  await store.commit({
    write: [
      put(records.schedules, vm.id, { host, fence: 1, at }),
      put(records.alive, host, { at }),
      put(records.reports, vm.id, report),
    ],
  });
  const status = async () => (await member.get('vms', vm.id)).status;
  await until('the VM runs', async () => (await status()).phase === 'running');
  const settled = { changing_interfaces: [], pending_changes: [], restart_required: false };

  await t.test('a change of groups alone leaves the interfaces as they are', async (t) => {
    const links = vm.interfaces.map(({ security_groups: _groups, ...link }) => link);
    const next = await set({}, { security_groups: [web.id] }, { security_groups: [] });
    t.strictSame(
      next,
      links.map((link, index) => ({ ...link, security_groups: index === 1 ? [web.id] : [] })),
    );
    t.match(await status(), settled);
    t.equal((await record())?.interfaces_generation, undefined);
    t.equal((await record())?.leaving_interfaces, undefined);
    t.strictSame(await users(), [web.id]);
    await member.remove('security-groups', db.id);
    await inUse(web.id);
    const { revision } = await member.get('vms', vm.id);
    await set({}, { security_groups: [web.id] }, {});
    t.equal((await member.get('vms', vm.id)).revision, revision, 'the same again writes nothing');
    await set({ security_groups: [web.id] }, {}, {});
    t.strictSame(await users(), [web.id], 'another interface of the VM names it');
    await member.update('vms', vm.id, { labels: { tier: 'web' } });
    t.strictSame(await users(), [web.id], 'another change keeps it');
    const { interfaces } = body({ security_groups: [foreign.id] }, {}, {});
    const refused = await member.expect(422, 'PATCH', `/v1/vms/${vm.id}`, { interfaces });
    t.match(refused.body, { code: 'invalid_reference', errors: [{ pointer: '/interfaces/0/security_groups/0' }] });
    t.match(await status(), settled);
  });
  await t.test('a removed interface uses no group', async (t) => {
    await set({ mac: vm.interfaces[1]?.mac });
    t.strictSame(await users(), []);
    t.match(await status(), { changing_interfaces: [vm.interfaces[0]?.mac, vm.interfaces[2]?.mac] });
    await set({ mac: vm.interfaces[1]?.mac, security_groups: [web.id] });
    await inUse(web.id);
  });
  await t.test('a removed VM uses no group', async (t) => {
    await store.commit({
      write: [{ delete: `schedules/${vm.id}` }, { delete: `alive/${host}` }, { delete: `reports/${vm.id}` }],
    });
    await member.remove('vms', vm.id);
    t.strictSame(await users(), []);
    await member.remove('security-groups', web.id);
  });
});

t.test('a VM with the most groups, addresses and keys can be removed', async (t) => {
  const test = await startTestApi(t);
  const { project, store } = test;
  const { image, network } = await createVmPrerequisites(test, project);
  const member = await test.member(project);
  const before = await contentOf(store);
  const groups = await Promise.all(
    Array.from({ length: 16 }, (_, index) => member.create('security-groups', { name: `group-${index}` })),
  );
  const interfaces = Array.from({ length: 8 }, (_, index) => ({
    network: network.id,
    mac: `02:00:5e:11:00:0${index}`,
    address: network.cidr.replace('::/64', `::${index + 1}00`),
    secondary_addresses: Array.from({ length: 2 }, (_, n) => network.cidr.replace('::/64', `::${index + 1}1${n}`)),
  }));
  const vm = await member.create('vms', { name: 'most', image: image.id, disk_size: '1GiB', interfaces });
  const named = interfaces.map((each, index) => ({
    ...each,
    security_groups: groups.slice(2 * index, 2 * index + 2).map(({ id }) => id),
  }));
  t.match((await member.update('vms', vm.id, { interfaces: named })).interfaces, named);
  await member.remove('vms', vm.id);
  for (const { id } of groups) await member.remove('security-groups', id);
  const left = (content: Map<string, string>) =>
    [...content.keys()].filter((key) => /^(vms|macs|addresses|uses)\//.test(key));
  t.strictSame(left(await contentOf(store)), left(before));
});
