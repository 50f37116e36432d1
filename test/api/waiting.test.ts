/** Long polls, and a client that reads its own writes. */
import t from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { ApiClient, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { withStore } from '../support/stores.ts';

t.test('long polls', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const prerequisites = await createVmPrerequisites(test, project);
  const vmBody = {
    project,
    image: prerequisites.image.id,
    disk_size: '1GiB',
    interfaces: [{ network: prerequisites.network.id }],
  };
  const vm = await operator.create('vms', { ...vmBody, name: 'a', labels: { app: 'a' } });
  const other = await operator.create('vms', { ...vmBody, name: 'b', labels: { app: 'b' } });

  const started = performance.now();
  t.equal((await operator.get('vms', vm.id, `?after=${vm.revision}&timeout=0`)).revision, vm.revision);
  await operator.get('vms', vm.id, `?after=0&timeout=60`);
  t.ok(performance.now() - started < 30_000, 'what is newer already is answered at once, and so is a wait of 0');

  const host = newId('host');
  const at = new Date().toISOString();
  const phase = async (after: number) => {
    const seen = await operator.get('vms', vm.id, `?after=${after}&timeout=60`);
    return { revision: seen.revision, status: seen.status };
  };
  const writes = {
    'no host': put(records.schedules, vm.id, { fence: 0, reason: 'no_host', message: 'needs more', at }),
    alive: put(records.alive, host, { at }),
    scheduled: put(records.schedules, vm.id, { host, fence: 1, at }),
    stale: put(records.reports, vm.id, { host, fence: 0, phase: 'running', at }),
    running: put(records.reports, vm.id, {
      host,
      fence: 1,
      phase: 'running',
      started_at: at,
      at,
    }),
    'old word': put(records.guests, vm.id, { ready_at: new Date(Date.now() - 60_000).toISOString() }),
    ready: put(records.guests, vm.id, { ready_at: new Date(Date.now() + 60_000).toISOString() }),
    'alive again': put(records.alive, host, { at: 'later' }),
    'host lost': { delete: `alive/${host}` },
    back: put(records.alive, host, { at }),
    unplaced: { delete: `schedules/${vm.id}` },
  };
  const write = async (name: keyof typeof writes) => store.commit({ write: [writes[name]] });

  let seen = { revision: vm.revision, status: vm.status };
  const step = async (name: keyof typeof writes, expected: object) => {
    const waiting = phase(seen.revision);
    await write(name);
    const now = await waiting;
    t.ok(now.revision > seen.revision, `${name}: a newer revision`);
    t.match(now.status, expected, name);
    seen = now;
  };
  await step('no host', { phase: 'pending', reason: 'no_host', message: 'needs more' });
  await write('alive');
  await step('scheduled', { phase: 'scheduled', host });
  await step('stale', { phase: 'scheduled' });
  await step('running', { phase: 'running', ready: false, restart_required: true, started_at: at });
  await step('old word', { phase: 'running', ready: false });
  await step('ready', { phase: 'running', ready: true });
  await write('alive again');
  t.equal((await operator.get('vms', vm.id, `?after=${seen.revision}&timeout=0`)).revision, seen.revision, 'no news');
  await step('host lost', { phase: 'unknown', reason: 'host_lost', ready: false });
  await step('back', { phase: 'running', ready: true });
  await step('unplaced', { phase: 'pending' });

  const list = await operator.list('vms', '?selector=app%3Da');
  const news = operator.list('vms', `?selector=app%3Da&after=${list.revision}&timeout=60`);
  const byIds = operator.list('vms', `?ids=${vm.id}&after=${list.revision}&timeout=60`);
  const quietSince = performance.now();
  const quiet = operator.list('vms', `?selector=app%3Da&after=${list.revision}&timeout=1`);
  await operator.update('vms', other.id, { description: 'not in the list' });
  await quiet;
  // Timers may be a millisecond early.
  t.ok(performance.now() - quietSince > 990, 'a change of a VM outside the list ends no wait');
  await operator.update('vms', vm.id, { labels: {} });
  t.equal((await news).items.length, 0, 'an object that leaves the list is news');
  t.match((await byIds).items, [{ labels: {} }]);
  const events = await operator.list('events', `?target=${vm.id}`);
  const nextEvent = operator.list('events', `?target=${vm.id}&after=${events.revision}&timeout=60`);

  const waiting = operator.gone('vms', vm.id, seen.revision);
  const listing = operator.list('vms', `?name=a&after=${(await operator.list('vms')).revision}&timeout=60`);
  await operator.expect(202, 'DELETE', `/v1/vms/${vm.id}`);
  await waiting;
  await listing;
  t.ok((await nextEvent).items.length > events.items.length, 'those that came until its turn');
  t.pass('who waits for an object learns of its end');
});

t.test('many wait cheaply, and are answered when the server closes', async (t) => {
  const test = await startTestApi(t);
  const { operator, project } = test;
  const keys = await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      operator.create('ssh-keys', { name: `k${i}`, project, public_key: testPublicKey }),
    ),
  );
  const answered = new Set<string>();
  const waits = keys.map(async ({ id, revision }) => {
    const answer = await operator.get('ssh-keys', id, `?after=${revision}&timeout=60`);
    answered.add(id);
    return answer;
  });
  const [first] = keys;
  await operator.update('ssh-keys', first?.id ?? '', { name: 'changed' });
  t.equal((await waits[0])?.name, 'changed');
  t.equal(answered.size, 1, 'nobody else is woken');
  const closing = performance.now();
  await test.api.close();
  await Promise.all(waits);
  t.equal(answered.size, 300);
  t.ok(performance.now() - closing < 30_000);
});

t.test('two servers on one store: a client reads what it wrote', async (t) => {
  const store = await withStore(t);
  const one = await startTestApi(t, { store: store.session() });
  const two = await startApi({ store: store.session(), listen: { host: '::1', port: 0 }, logger: silentLogger });
  t.teardown(() => two.close());
  const second = new ApiClient(two.url, one.operatorToken);
  for (let i = 0; i < 50; i++) {
    const made = await one.operator.expect(201, 'POST', '/v1/projects', { name: `p${i}` });
    const revision = made.headers.get('ucloud-revision') ?? '';
    await second.expect(200, 'GET', `/v1/projects/${made.body.id}`, undefined, { 'ucloud-min-revision': revision });
  }
  const never = { 'ucloud-min-revision': '999999999' };
  // Not 503, which it would be had it been waited for in vain.
  await second.expect(400, 'GET', '/v1/projects', undefined, never);
  const token = await one.operator.create('tokens', { name: 'new', project: one.project });
  t.equal(
    (await new ApiClient(two.url, token.secret).request('GET', '/v1/vms')).status,
    200,
    'a token works everywhere at once',
  );
});
