/** Security groups as users declare them: rules, references and defaults of networks. */
import t from 'tap';
import { startTestApi } from '../support/api.ts';

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
