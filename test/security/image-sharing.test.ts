/** Images that a project shares with others: nobody learns, changes or chooses more than the owner allows. */
import t from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { maxSharedImages, maxSharedWith } from '../../backend/contract/resources/images.ts';
import { newId } from '../../backend/model/ids.ts';
import type { Store } from '../../backend/store/store.ts';
import { ApiClient, type Body, contentOf, createVmPrerequisites, startTestApi, type TestApi } from '../support/api.ts';
import { bound } from '../support/bound-store.ts';
import { imported } from '../support/images.ts';
import { silentLogger } from '../support/silent-logger.ts';

/** An API with an owner of images, a friend who gets some, and a stranger. */
async function threeProjects(t: Parameters<typeof startTestApi>[0]) {
  const test = await startTestApi(t);
  const project = async (name: string) => (await test.operator.create('projects', { name })).id;
  const [ownerId, friendId, strangerId] = [await project('owner'), await project('friend'), await project('stranger')];
  return {
    test,
    ownerId,
    friendId,
    strangerId,
    owner: await test.member(ownerId),
    friend: await test.member(friendId),
    stranger: await test.member(strangerId),
  };
}

const named = ({ items }: Body) => items.map(({ name }) => name).sort();

/** Returns the status of a new VM with the image. */
async function vmWith(test: TestApi, client: ApiClient, project: string, image: string) {
  const name = `vm-${Math.random().toString(36).slice(2)}`;
  const network = (await client.list('networks')).items[0] ?? (await createVmPrerequisites(test, project)).network;
  return client.request('POST', '/v1/vms', { name, image, interfaces: [{ network: network.id }] });
}

t.test('an image that a project shares is seen and used by that project, and changed by its owner alone', async (t) => {
  const { test, owner, friend, stranger, ownerId, friendId, strangerId } = await threeProjects(t);
  const viewer = await test.member(friendId, 'viewer');
  const image = await imported(test, owner, { name: 'base', shared_with: [friendId] });
  t.match(image, { shared_with: [friendId], shared: false });
  for (const client of [friend, viewer]) {
    const seen = await client.get('images', image.id);
    t.match(seen, { name: 'base', project: ownerId, shared: true, visibility: 'project' });
    t.notOk('shared_with' in seen, 'who else gets the image is for the owner to know');
    t.match((await client.list('images')).items, [{ id: image.id, shared: true }]);
    t.notMatch(JSON.stringify(await client.list('images')), friendId, 'no list shows it either');
    t.strictSame(named(await client.list('images', `?project=${ownerId}`)), ['base'], 'the images of that owner');
  }
  t.match(await test.operator.get('images', image.id), { shared_with: [friendId], shared: false });

  await stranger.expect(404, 'GET', `/v1/images/${image.id}`);
  await stranger.expect(404, 'GET', `/v1/images?project=${ownerId}`);
  for (const query of ['', `?ids=${image.id}`, '?name=base']) {
    t.strictSame(named(await stranger.list('images', query)), [], query);
  }
  t.match(await vmWith(test, stranger, strangerId, image.id), {
    status: 422,
    body: { errors: [{ pointer: '/image' }] },
  });

  const before = await contentOf(test.store);
  for (const change of [{ name: 'mine' }, { shared_with: [strangerId] }, { deprecated_at: '2026-01-01T00:00:00Z' }]) {
    const refused = await friend.expect(403, 'PATCH', `/v1/images/${image.id}`, change);
    t.match(refused.body, { code: 'forbidden', detail: /belongs to another project/ });
  }
  await friend.expect(403, 'DELETE', `/v1/images/${image.id}`);
  await friend.expect(404, 'GET', `/v1/events?target=${image.id}&project=${ownerId}`);
  t.strictSame(await contentOf(test.store), before, 'nothing has changed');

  t.equal((await vmWith(test, friend, friendId, image.id)).status, 201);
  const inUse = await owner.expect(409, 'DELETE', `/v1/images/${image.id}`);
  t.match(inUse.body.detail, /used by 1 of other projects/);
  t.match(await friend.create('images', { name: 'own', source: 'file:a.raw', replaced_by: image.id }), { name: 'own' });
});

t.test('an image that is withdrawn starts no new VMs at once, and existing VMs stay', async (t) => {
  const { test, owner, friend, friendId, strangerId } = await threeProjects(t);
  const image = await imported(test, owner, { name: 'base', shared_with: [friendId, strangerId] });
  const made = await vmWith(test, friend, friendId, image.id);
  t.equal(made.status, 201);
  // The other server is behind until its first commit, and still shows the image. It decides by the database all the same.
  let released = Promise.resolve();
  let release = () => {};
  const behind = {
    ...bound(test.store),
    async *watch(...given: Parameters<Store['watch']>) {
      for await (const batch of test.store.watch(...given)) {
        await released;
        yield batch;
      }
    },
    async commit(...given: Parameters<Store['commit']>) {
      const result = await test.store.commit(...given);
      release();
      return result;
    },
  };
  const second = await startApi({
    listen: { host: '::1', port: 0 },
    rateLimit: { requestsPerMinute: 1_000_000, failuresPerMinute: 1_000_000 },
    logger: silentLogger,
    store: behind,
  });
  t.teardown(() => second.close());
  const elsewhere = new ApiClient(second.url, friend.token);
  await elsewhere.get('images', image.id);
  const waiting = friend.request('GET', `/v1/images/${image.id}?after=${image.revision}&timeout=30`);
  ({ promise: released, resolve: release } = Promise.withResolvers<void>());
  await owner.update('images', image.id, { shared_with: [strangerId] });
  const refusal = { status: 422, body: { code: 'invalid_reference', errors: [{ pointer: '/image' }] } };
  t.match(await elsewhere.get('images', image.id), { shared: true }, 'this server is behind');
  t.match(await vmWith(test, elsewhere, friendId, image.id), refusal);
  t.match(await vmWith(test, friend, friendId, image.id), refusal);
  await friend.expect(404, 'GET', `/v1/images/${image.id}`);
  t.equal((await waiting).status, 404, 'a long poll ends');
  t.strictSame(named(await friend.list('images', '?name=base')), []);
  const vm = await friend.get('vms', made.body.id);
  t.match(await friend.update('vms', vm.id, { cpus: 2, description: 'still mine' }), { cpus: 2, image: image.id });
});

t.test('sharing tells nobody which projects exist', async (t) => {
  const { test, owner, friendId, ownerId } = await threeProjects(t);
  const gone = (await test.operator.create('projects', { name: 'gone' })).id;
  const image = await imported(test, owner, { name: 'base', shared_with: [gone] });
  await test.operator.remove('projects', gone);
  const before = await contentOf(test.store);
  const refusal = async (id: string) => {
    const { status, body } = await owner.request('PATCH', `/v1/images/${image.id}`, { shared_with: [gone, id] });
    return JSON.stringify([status, body.code, body.errors]).replaceAll(id, 'ID');
  };
  t.equal(await refusal('friend'), await refusal('nobody'), 'names are refused, whether they exist or not');
  const never = await refusal(newId('project'));
  t.match(never, /422.*invalid_reference.*\/shared_with\/1.*there is no ID/);
  const other = await imported(test, owner, { name: 'other' });
  const once = await owner.request('PATCH', `/v1/images/${other.id}`, { shared_with: [gone] });
  t.equal(
    JSON.stringify([once.status, once.body.code, once.body.errors]).replaceAll(gone, 'ID').replace('/0', '/1'),
    never,
    'a project that is gone is refused like one that never was',
  );
  t.match(await refusal(ownerId), /rule_violated.*must not be the project of the image/);
  t.match(await refusal(gone), /must not contain the same item twice/);
  const many = Array.from({ length: maxSharedWith + 1 }, () => newId('project'));
  const tooMany = await owner.request('PATCH', `/v1/images/${image.id}`, { shared_with: many });
  t.match(tooMany, { status: 400, body: { errors: [{ pointer: '/shared_with' }] } });
  t.match(await owner.request('POST', '/v1/images', { name: 'x', source: 'file:a', shared_with: [newId('project')] }), {
    status: 422,
    body: { errors: [{ pointer: '/shared_with/0' }] },
  });
  const after = await contentOf(test.store);
  for (const [key, value] of [...after])
    if (key.includes('/other') || `${key} ${value}`.includes(other.id)) after.delete(key);
  t.strictSame(after, before, 'a refusal changes nothing');
  const kept = await owner.update('images', image.id, { shared_with: [gone, friendId] });
  t.match(kept, { shared_with: [gone, friendId] }, 'a project that is gone does not prevent other changes');
});

t.test('a shared image is chosen neither by the name of its family nor by its own', async (t) => {
  const { test, owner, friend, friendId, ownerId } = await threeProjects(t);
  const cloud = (await test.operator.create('projects', { name: 'cloud' })).id;
  const family = (query = '', client = friend) => client.request('GET', `/v1/image-families/debian${query}`);
  const squatter = await imported(test, owner, { name: 'debian-12', family: 'debian', shared_with: [friendId] });
  t.equal((await family()).status, 404, 'not even if the family has no other image');
  t.equal((await family(`?project=${friendId}`, test.operator)).status, 404);

  const open = { name: 'debian-12', family: 'debian', project: cloud, visibility: 'public' };
  const trusted = await imported(test, test.operator, open);
  const later = await imported(test, owner, { name: 'debian-13', family: 'debian', shared_with: [friendId] });
  t.match((await family()).body, { id: trusted.id });
  await test.operator.update('images', trusted.id, { deprecated_at: '2026-01-01T00:00:00Z' });
  t.equal((await family()).status, 404, 'nor if all others are deprecated');
  const own = await imported(test, friend, { name: 'mine', family: 'debian' });
  t.match((await family()).body, { id: own.id });

  await owner.update('images', squatter.id, { deprecated_at: '2026-01-01T00:00:00Z' });
  t.match((await family(`?owner=${ownerId}`)).body, { id: later.id, shared: true }, 'only who names the owner gets it');
  t.match((await family(`?owner=${cloud}`)).status, 404);
  await owner.update('images', later.id, { shared_with: [] });
  t.equal((await family(`?owner=${ownerId}`)).status, 404);
});

t.test('a project cannot flood the lists of another one with images', async (t) => {
  const { owner, friend, friendId } = await threeProjects(t);
  for (let i = 0; i < maxSharedImages; i++) {
    await owner.create('images', { name: `i${i}`, source: 'file:a.raw', shared_with: [friendId] });
  }
  const more = await owner.request('POST', '/v1/images', { name: 'x', source: 'file:a', shared_with: [friendId] });
  t.match(more, { status: 422, body: { errors: [{ pointer: '/shared_with/0', detail: /more than 100 images/ }] } });
  const own = await owner.create('images', { name: 'x', source: 'file:a.raw' });
  const late = await owner.request('PATCH', `/v1/images/${own.id}`, { shared_with: [friendId] });
  t.match(late, { status: 422, body: { errors: [{ pointer: '/shared_with/0' }] } });
  t.equal((await friend.list('images', '?limit=1000')).items.length, maxSharedImages);
});
