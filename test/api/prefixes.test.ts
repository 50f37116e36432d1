/** Prefix pools and prefixes, from their creation to their end. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import { startTestApi } from '../support/api.ts';
import { refuses } from '../support/refusals.ts';

t.test('a prefix comes from a pool, and no two overlap', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const member = await test.member(project);
  const refused = refuses(t, operator);
  const pool = await operator.create('prefix-pools', { name: 'main', cidr: '2001:DB8::/40', default_length: 48 });
  t.equal(pool.cidr, '2001:db8::/40', 'RFC 5952');
  await refused('prefix-pools', { name: 'b', cidr: '2001:db8::1/40' }, 400, '/cidr', /the prefix is 2001:db8::\/40/);
  await refused('prefix-pools', { name: 'b', cidr: 'fe80::/20' }, 422, '/cidr', /global unicast/);
  await refused('prefix-pools', { name: 'b', cidr: '2001:db8::/64' }, 422, '/cidr', /16 to 60/);
  await refused('prefix-pools', { name: 'b', cidr: '2001:db8::/32' }, 409, '/cidr', /overlaps 2001:db8::\/40/);
  await refused('prefix-pools', { name: 'b', cidr: '2001:db8:80::/44' }, 409, '/cidr', /overlaps/);
  await refused('prefix-pools', { name: 'b', cidr: 'fd00::/60' }, 422, '/default_length', /60/);
  await refused('prefix-pools', { name: 'main', cidr: 'fd00::/40' }, 409, '/name', /taken/);

  const first = await member.create('prefixes', { name: 'first' });
  t.match(first, { pool: pool.id, cidr: '2001:db8::/48', length: 48 });
  const small = await member.create('prefixes', { name: 'small', length: 64 });
  t.equal(small.cidr, '2001:db8:1::/64');
  const given = await member.create('prefixes', { name: 'given', cidr: '2001:db8:1:10::/60' });
  t.match(given, { length: 60, pool: pool.id });
  t.equal((await member.create('prefixes', { name: 'next' })).cidr, '2001:db8:2::/48', 'the first free one');
  const p = { project };
  await refused('prefixes', { ...p, name: 'x', cidr: '2001:db8:1:18::/61' }, 409, '/cidr', /overlaps/);
  await refused('prefixes', { ...p, name: 'x', cidr: '2001:db8::/44' }, 409, '/cidr', /overlaps/);
  await refused('prefixes', { ...p, name: 'x', cidr: 'fd00::/48' }, 422, '/cidr', /no prefix pool/);
  await refused(
    'prefixes',
    { ...p, name: 'x', cidr: 'fd00::/48', pool: pool.id },
    422,
    '/cidr',
    /within the prefix pool main/,
  );
  await refused('prefixes', { ...p, name: 'x', length: 24, pool: pool.id }, 422, '/length', /at least/);
  await refused('prefixes', { ...p, name: 'x', length: 24 }, 507, '/length', /free space/);
  await refused('prefixes', { ...p, name: 'x', length: 56, cidr: '2001:db8:3::/48' }, 422, '/length', /48/);
  await refused(
    'prefixes',
    { ...p, name: 'x', pool: newId('prefix_pool') },
    422,
    '/pool',
    /id of an existing prefix pool/,
  );
  t.match(await operator.request('DELETE', `/v1/prefix-pools/${pool.id}`), { status: 409, body: { code: 'in_use' } });
});

t.test('prefixes taken at the same time do not overlap', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/40' });
  const lengths = [48, 56, 60, 64];
  const made = await Promise.all(
    Array.from({ length: 80 }, (_, i) =>
      operator.create('prefixes', { name: `p${i}`, project, length: lengths[i % 4] }),
    ),
  );
  t.equal(new Set(made.map(({ cidr }) => cidr)).size, 80);
  const prefix = made.find(({ length }) => length === 56);
  const nets = await Promise.all(
    Array.from({ length: 100 }, (_, i) => operator.create('networks', { name: `n${i}`, project, prefix: prefix?.id })),
  );
  t.equal(new Set(nets.map(({ cidr }) => cidr)).size, 100);
  t.equal(new Set(nets.map(({ vni }) => vni)).size, 100);
});
