/** Families of images, deprecation and replacements. */
import t from 'tap';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { createdAt, imported } from '../support/images.ts';

t.test('a family', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const member = await test.member(test.project);
  const owner = (await operator.create('projects', { name: 'cloud' })).id;
  const newest = async (query = '', client = member) => {
    const answer = await client.request('GET', `/v1/image-families/debian${query}`);
    return answer.status === 200 ? answer.body.name : answer.body.code;
  };
  t.equal(await newest(), 'not_found');

  const public1 = await imported(test, operator, {
    name: 'p1',
    family: 'debian',
    project: owner,
    visibility: 'public',
  });
  await imported(test, operator, { name: 'private', family: 'debian', project: owner });
  t.equal(await newest(), 'p1', 'a public image, and no private one of its owner');
  t.equal(await newest('', operator), 'p1', 'a token without a project gets the public image');
  t.equal(await newest(`?project=${test.project}`, operator), 'p1');

  const first = await imported(test, member, { name: 'v1', family: 'debian' });
  const second = await imported(test, member, { name: 'v2', family: 'debian' });
  await imported(test, member, { name: 'other', family: 'fedora' });
  const third = await imported(test, member, { name: 'v3', family: 'debian' }, 'importing');
  await createdAt(test, first, '2026-01-01T00:00:00.000Z');
  await createdAt(test, second, '2026-02-01T00:00:00.000Z');
  await createdAt(test, third, '2026-03-01T00:00:00.000Z');
  t.equal(await newest(), 'v2', 'images of the project come first, and only if they are available');
  t.equal(await newest('', operator), 'p1');
  t.equal(await newest(`?project=${test.project}`, operator), 'v2');
  t.equal(await newest(`?owner=${owner}`), 'p1');
  t.equal(await newest(`?owner=${test.project}`), 'v2');
  t.equal(await newest(`?owner=prj-0000000000000000`), 'not_found');
  t.match((await member.list('images', '?family=debian')).items.map(({ name }) => name).sort(), [
    'p1',
    'v1',
    'v2',
    'v3',
  ]);
  t.match((await member.list('images', `?family=debian&project=${test.project}&name=v1`)).items, [{ id: first.id }]);
  const bad = await member.request('GET', '/v1/images?family=Debian');
  t.match(bad, { status: 400, body: { errors: [{ pointer: '#query/family' }] } });
  const badPath = await member.request('GET', '/v1/image-families/..%2Fx');
  t.match(badPath, { status: 400, body: { errors: [{ pointer: '#path/family' }] } });

  await member.update('images', second.id, { deprecated_at: '2026-02-02T00:00:00Z' });
  t.equal(await newest(), 'v1', 'a deprecated image is not the newest');
  await member.update('images', second.id, { deprecated_at: '2999-01-01T00:00:00Z' });
  t.equal(await newest(), 'v2', 'a later time does not count yet');
  await member.update('images', second.id, { family: null });
  t.equal(await newest(), 'v1');
  t.notOk('family' in (await member.get('images', second.id)), 'null removes a field without a default');
  await member.update('images', first.id, { deprecated_at: '2026-01-01T01:00:00+02:00' });
  t.equal(await newest(), 'p1', 'without a usable image of the project, the public one is chosen');
  await operator.update('images', public1.id, { deprecated_at: '2026-01-01T00:00:00Z' });
  t.equal(await newest(), 'not_found');
  const restored = await member.update('images', first.id, { deprecated_at: null });
  t.notOk('deprecated_at' in restored);
  t.equal(await newest(), 'v1');
  t.match(await member.request('PATCH', `/v1/images/${first.id}`, { name: null }), {
    status: 400,
    body: { errors: [{ pointer: '/name' }] },
  });
});

t.test('a deprecated image still starts VMs, and its replacement is another image', async (t) => {
  const test = await startTestApi(t);
  const { operator } = test;
  const member = await test.member(test.project);
  const { network } = await createVmPrerequisites(test, test.project);
  const fresh = await imported(test, member, { name: 'v2' });
  const old = await imported(test, member, {
    name: 'v1',
    deprecated_at: '2026-01-01T00:00:00Z',
    replaced_by: fresh.id,
  });
  t.match(old, { deprecated_at: '2026-01-01T00:00:00Z', replaced_by: fresh.id });
  const vm = await member.create('vms', { name: 'a', image: old.id, interfaces: [{ network: network.id }] });
  t.equal(vm.name, 'a');

  const other = (await operator.create('projects', { name: 'other' })).id;
  const foreign = await operator.create('images', { name: 'x', project: other, source: 'file:a.raw' });
  for (const [what, id, replaced_by, status, detail] of [
    ['itself', old.id, old.id, 422, /must be another image/],
    ['an image that leads back', fresh.id, old.id, 422, /must not lead back/],
    ['an image of another project', old.id, foreign.id, 422, /there is no/],
    ['an image that does not exist', old.id, 'img-0000000000000000', 422, /there is no/],
    ['another object', old.id, network.id, 400, /must be the id of a image/],
  ] as const) {
    const answer = await member.request('PATCH', `/v1/images/${id}`, { replaced_by });
    t.match(answer, { status, body: { errors: [{ pointer: '/replaced_by', detail }] } }, what);
  }
  const refused = await member.request('POST', '/v1/images', {
    name: 'y',
    source: 'file:a.raw',
    replaced_by: foreign.id,
  });
  t.match(refused, { status: 422, body: { errors: [{ pointer: '/replaced_by' }] } });

  await member.remove('images', fresh.id);
  t.match(await member.get('images', old.id), { replaced_by: fresh.id }, 'a replacement can be deleted');
  t.match(await member.update('images', old.id, { description: 'x' }), { description: 'x' }, 'as can be the rest');
  t.notOk('replaced_by' in (await member.update('images', old.id, { replaced_by: null })));
});
