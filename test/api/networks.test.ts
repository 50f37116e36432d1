/** A network, from its creation to its end. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import { hosts } from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { hostRecord } from '../support/host-record.ts';
import { refuses } from '../support/refusals.ts';

t.test('a network takes a /64 of a prefix', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const member = await test.member(project);
  const refused = refuses(t, operator);
  await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/40', default_length: 48 });
  const small = await member.create('prefixes', { name: 'small', cidr: '2001:db8:1::/64' });
  const given = await member.create('prefixes', { name: 'given', cidr: '2001:db8:1:10::/60' });
  const p = { project };

  const net = await member.create('networks', { name: 'web', prefix: given.id });
  t.match(net, { cidr: '2001:db8:1:10::/64', mtu: 1430, gateway: 'fe80::1', dns_servers: [] });
  const fixed = await member.create('networks', { name: 'db', prefix: given.id, cidr: '2001:db8:1:12::/64' });
  t.equal((await member.create('networks', { name: 'c', prefix: given.id })).cidr, '2001:db8:1:11::/64');
  t.equal((await member.create('networks', { name: 'd', prefix: given.id })).cidr, '2001:db8:1:13::/64');
  const n = { ...p, name: 'x', prefix: given.id };
  await refused('networks', { ...n, cidr: '2001:db8:1:12::/64' }, 409, '/cidr', /taken/);
  await refused('networks', { ...n, cidr: '2001:db8:1::/64' }, 422, '/cidr', /within the prefix given/);
  await refused('networks', { ...n, cidr: '2001:db8:1:14::/63' }, 422, '/cidr', /must be a \/64/);
  await refused('networks', { ...n, prefix: newId('prefix') }, 422, '/prefix', /id of an existing prefix/);
  await refused('networks', { ...n, mtu: 1279 }, 400, '/mtu', />= 1280/);
  const alone = await member.create('networks', { name: 'alone', prefix: small.id });
  t.equal(alone.cidr, small.cidr, 'a /64 holds one network');
  await refused('networks', { ...p, name: 'x', prefix: small.id }, 507, '/prefix', /no free \/64/);
  t.match(await member.request('DELETE', `/v1/prefixes/${given.id}`), {
    status: 409,
    body: { code: 'in_use', detail: /network web/ },
  });

  await member.update('networks', net.id, { dns_servers: ['2001:db8::53'] });
  await member.remove('networks', fixed.id);
  const again = await member.create('networks', { name: 'db', prefix: given.id });
  t.equal(again.cidr, fixed.cidr, 'a freed /64 is given again');
});

t.test('no network gets the /64 of the underlay address of a host', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const refused = refuses(t, operator);
  for (const address of ['2001:db8:0:2::7', '2001:db8::1', '2001:db8:0:2::8', '2001:db9::1']) {
    const host = hostRecord({ underlay: { address, mtu: 1500 } });
    await test.store.commit({ write: [put(hosts, host.id, host)] });
  }
  await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/40', default_length: 48 });
  const prefix = await operator.create('prefixes', { project, name: 'all', cidr: '2001:db8::/62' });
  const body = { project, prefix: prefix.id };
  await refused('networks', { ...body, name: 'x', cidr: '2001:db8:0:2::/64' }, 422, '/cidr', /reserved for hosts/);
  t.equal((await operator.create('networks', { ...body, name: 'a' })).cidr, '2001:db8:0:1::/64');
  t.equal((await operator.create('networks', { ...body, name: 'b' })).cidr, '2001:db8:0:3::/64');
  await refused('networks', { ...body, name: 'x' }, 507, '/prefix', /no free \/64/);
});
