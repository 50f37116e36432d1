/** Long polls, reading one's own writes, what a VM's status says, reboots, and what is cleared away with time. */

import t from 'tap';
import { expire } from '../../backend/api/jobs/retention.ts';
import { startApi } from '../../backend/api/start.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { newId, newTimeOrderedId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, read, unchanged } from '../../backend/store/collection.ts';
import { ApiClient, prepareGround, startTestApi, testPublicKey } from '../support/api.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { withStore } from '../support/stores.ts';

t.test('long polls', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const ground = await prepareGround(test, project);
  const wish = { project, image: ground.image.id, disk_size: '1GiB', interfaces: [{ network: ground.network.id }] };
  const vm = await operator.create('vms', { ...wish, name: 'a', labels: { app: 'a' } });
  const other = await operator.create('vms', { ...wish, name: 'b', labels: { app: 'b' } });

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
      restart_required: true,
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

t.test('a reboot', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const ground = await prepareGround(test, project);
  const wish = { project, image: ground.image.id, disk_size: '1GiB', interfaces: [{ network: ground.network.id }] };
  const vm = await operator.create('vms', { ...wish, name: 'a' });
  const path = `/v1/vms/${vm.id}/reboot`;
  t.match(await operator.request('POST', path, {}), {
    status: 409,
    body: { code: 'invalid_state', detail: /no host/ },
  });
  const at = new Date().toISOString();
  await store.commit({ write: [put(records.schedules, vm.id, { host: newId('host'), fence: 1, at })] });
  await operator.get('vms', vm.id, `?after=${vm.revision}&timeout=60`);
  const both = await Promise.all([operator.request('POST', path, { force: true }), operator.request('POST', path, {})]);
  t.same(both.map(({ status }) => status).sort(), [202, 409], 'one at a time');
  const [operation] = (await operator.list('operations', `?target=${vm.id}`)).items;
  t.match(operation, { state: 'pending', target: vm.id });
  const stored = await read(store, records.operations, operation?.id ?? '');
  if (!stored) throw new Error('the operation lies in the store');
  const done = { ...stored.value, state: 'succeeded', progress: 100, finished_at: at } as const;
  const waiting = operator.get('operations', stored.id, `?after=${operation?.revision}&timeout=60`);
  await store.commit({ require: [unchanged(stored)], write: [put(records.operations, stored.id, done)] });
  t.match(await waiting, { state: 'succeeded' });
  const again = await operator.expect(202, 'POST', path, {}, { 'idempotency-key': 'again' });
  const replay = await operator.expect(202, 'POST', path, {}, { 'idempotency-key': 'again' });
  t.equal(replay.body.id, again.body.id);
  await operator.update('vms', vm.id, { power_state: 'stopped' });
  t.match(await operator.request('POST', path, {}), { status: 409, body: { detail: /stopped/ } });
  const deletion = await operator.expect(202, 'DELETE', `/v1/vms/${vm.id}`);
  t.match(await operator.request('POST', path, {}), { status: 409, body: { code: 'being_deleted' } });
  await store.commit({ write: [{ delete: `schedules/${vm.id}` }] });
  await operator.gone('vms', vm.id, deletion.body.revision);
  t.match(
    await operator.get('operations', again.body.id),
    { state: 'failed' },
    'what cannot happen any more has failed',
  );
});

t.test('what is kept for a time only', async (t) => {
  const store = await withStore(t);
  const now = new Date('2026-06-01T00:00:00Z');
  const daysAgo = (days: number) => new Date(now.getTime() - days * 86_400_000);
  const project = newId('project');
  const writes = [0, 6, 8, 89, 91].flatMap((days) => {
    const at = daysAgo(days);
    const event = newTimeOrderedId('event', at);
    const audit = newTimeOrderedId('audit_record', at);
    const operation = newId('operation');
    const time = at.toISOString();
    return [
      put(records.events, event, {
        id: event,
        at: time,
        target: 'x',
        severity: 'info',
        reason: 'x',
        message: `${days}`,
      }),
      put(records.auditRecords, audit, {
        id: audit,
        at: time,
        token: newId('token'),
        operation: 'x',
        target: 'x',
        request_id: 'x',
        source: 'x',
      }),
      put(records.idempotency, `tok/${days}`, { request: 'x', status: 201, answer: 'x', at: time }),
      put(records.operations, operation, {
        id: operation,
        project,
        kind: 'vm_reboot',
        target: 'x',
        options: {},
        state: 'succeeded',
        progress: 100,
        finished_at: time,
        created_at: time,
        updated_at: time,
      }),
    ];
  });
  const open = newId('operation');
  const then = daysAgo(50).toISOString();
  writes.push(
    put(records.operations, open, {
      id: open,
      project,
      kind: 'vm_reboot',
      target: 'x',
      options: {},
      state: 'running',
      progress: 0,
      created_at: then,
      updated_at: then,
    }),
  );
  // Tokens: one for ever, one that still works, one whose end its user may still look up, and two to go.
  const expired = (days: number | undefined, owner?: Id<'project'>) => {
    const id = newId('token');
    const record = {
      id,
      name: `ends-${days}`,
      labels: {},
      role: 'member' as const,
      hash: 'x',
      created_at: then,
      updated_at: then,
      ...(days !== undefined && { expires_at: daysAgo(days).toISOString() }),
      ...(owner !== undefined && { project: owner }),
    };
    return [put(records.tokens, id, record), put(records.names, `${owner ?? '_'}/token/${record.name}`, { id })];
  };
  writes.push(...[undefined, -1, 29, 31].flatMap((days) => expired(days, project)), ...expired(400));
  // What an older version, or a slip by hand, has left: nobody can tell how old it is.
  const unreadable = ['events/evt-0000000000000000', 'idempotency/tok/broken'].map((key) => ({
    put: key,
    value: '{}',
  }));
  await store.commit({ write: [...writes, ...unreadable] });
  await t.rejects(expire(store, now, new AbortController().signal), { name: 'InvalidRecordError' });
  const count = async (prefix: string) => (await store.list(prefix)).entries.length;
  t.same(
    {
      events: await count('events/'),
      audit: await count('audit/'),
      keys: await count('idempotency/'),
      operations: await count('operations/'),
      tokens: await count('tokens/'),
    },
    { events: 5, audit: 4, keys: 2, operations: 3, tokens: 3 },
    'what is old has gone; what cannot be read stays, and has kept nothing else',
  );
  t.strictSame(
    (await store.list('names/')).entries.map(({ key }) => key.split('/').at(-1)).toSorted(),
    ['ends--1', 'ends-29', 'ends-undefined'],
    'the names of tokens that have gone are free',
  );
  const messages = (await store.list('events/')).entries.map(({ value }) => JSON.parse(value).message ?? '');
  t.equal(messages.filter((message) => /^ends-(31|400) stopped working at .* and is gone\.$/.test(message)).length, 2);
});
