/** The requests of the provider during a plan: few requests, and none of them twice. */
import t, { type Test } from 'tap';
import { defaultMac } from '../../provider/net/mac.ts';
import { PlanSession } from '../../provider/plan-session/plan-session.ts';
import { plannedMac } from '../../provider/resources/vm-mac.ts';
import { item, json, problem, type ScriptedAnswer, scriptedApi } from '../support/scripted-api.ts';

/** A plan session whose client talks to a scripted API. */
async function scriptedSession(t: Test, ...answers: readonly ScriptedAnswer[]) {
  const { client, seen } = await scriptedApi(t, ...answers);
  return { client, seen, session: new PlanSession(client) };
}

const notFound = problem(404, 'not_found');
const refusals = (...list: readonly object[]) => json(200, { refusals: list, revision: 1 });

t.test('planned objects share one capacity check, which counts earlier objects of the plan', async (t) => {
  const told = [
    { pointer: '/vms/0', first: 0, count: 9, reason: 'no_host', message: 'told before' },
    { pointer: '/vms/1/memory', first: 1, count: 2, reason: 'no_host', message: 'too large' },
    { pointer: '/vms/3/memory', first: 1, count: 15, reason: 'no_host', message: 'too large' },
    { pointer: '/networks', first: 0, count: 4, reason: 'quota_exceeded', message: 'too many' },
  ];
  const { session, seen } = await scriptedSession(t, refusals(), refusals(...told));
  const { capacity, deletions } = session;
  const small = { cpus: 1, memory: '1GiB' };
  const large = { cpus: 1, memory: '64GiB' };
  const first = await Promise.all(Array.from({ length: 1000 }, () => capacity.check('prj-1', { ...small })));
  t.strictSame(first.flat(), []);
  const thousand = { ...small, count: 1000 };
  t.strictSame(
    seen.map(({ method, url, body }) => [method, url.pathname, body]),
    [['POST', '/v1/capacity-checks', { project: 'prj-1', vms: [thousand, thousand], leaving: [] }]],
    'one request, for as many again',
  );

  deletions.add('vm-1');
  deletions.add('net-1');
  const second = await Promise.all(
    [large, large, large, 'networks' as const, small].map((what) => capacity.check('prj-1', what)),
  );
  t.strictSame(seen[1]?.body, {
    project: 'prj-1',
    vms: [
      { ...small, count: 1001 },
      { ...large, count: 3 },
      { ...small, count: 1001 },
      { ...large, count: 16 },
    ],
    networks: 1,
    leaving: ['vm-1', 'net-1'],
  });
  const refused = { reason: 'no_host', message: 'too large', field: 'memory' };
  t.strictSame(
    second,
    [[], [refused], [refused], [{ reason: 'quota_exceeded', message: 'too many' }], []],
    'each is told what was said of it',
  );

  const more = await Promise.all(Array.from({ length: 5 }, () => capacity.check('prj-1', large)));
  t.strictSame(more, [[], [refused], [refused], [refused], [refused]]);
  t.equal(seen.length, 2, 'what was said of the next ones is told without a request');
  deletions.add('vm-2');
  await capacity.check('prj-1', large);
  t.match(
    seen[2]?.body,
    { vms: [{ count: 1001 }, { ...large, count: 9 }, { count: 1001 }, { ...large, count: 16 }] },
    'until one leaves',
  );

  capacity.end();
  t.strictSame(await capacity.check('prj-1', large), []);
  t.equal(seen.length, 3, 'what is being applied is not asked for any more');
});

t.test('deletions of the plan count, even if they come after the creations', async (t) => {
  const refused = { pointer: '/vms/0', first: 0, count: 1, reason: 'quota_exceeded', message: 'too many' };
  const { session, seen } = await scriptedSession(t, (request, response) => {
    const last = session.deletions.has('vm-2');
    // One deletion is planned while the first question is under way, another while the second is.
    session.deletions.add(`vm-${seen.length}`);
    refusals(...(last ? [] : [refused]))(request, response);
  });
  t.strictSame(await session.capacity.check('prj-1', { cpus: 1 }), []);
  t.strictSame(
    seen.map(({ body }) => (body as { leaving: string[] }).leaving),
    [[], ['vm-1'], ['vm-1', 'vm-2']],
  );
});

t.test('an API that does not know the question is asked once', async (t) => {
  const { session, seen } = await scriptedSession(t, notFound);
  t.strictSame(await session.capacity.check('prj-1', 'networks'), []);
  t.strictSame(await session.capacity.check('prj-1', { cpus: 1 }), []);
  t.equal(seen.length, 1);
});

t.test('a question that fails is not sent again, and fails for who asked', async (t) => {
  const { session, seen } = await scriptedSession(t, problem(503, 'store_unavailable'), refusals());
  await t.rejects(session.capacity.check('prj-1', { cpus: 1 }), { code: 'store_unavailable' });
  t.equal(seen.length, 1);
  t.strictSame(await session.capacity.check('prj-1', { cpus: 1 }), []);
  t.match(seen[1]?.body, { vms: [{ count: 2 }, { count: 16 }] }, 'what was planned then counts');
});

t.test('what was found once is not asked for again', async (t) => {
  const { session, seen } = await scriptedSession(t, json(200, item('img-1')), notFound, json(200, item('img-2')));
  for (let i = 0; i < 3; i++) t.match(await session.find('/v1/images', 'img-1'), { id: 'img-1' });
  t.equal(await session.find('/v1/images', 'img-2'), undefined);
  t.match(await session.find('/v1/images', 'img-2'), { id: 'img-2' }, 'what was not there may have come');
  t.strictSame(
    seen.map(({ url }) => url.pathname),
    ['/v1/images/img-1', '/v1/images/img-2', '/v1/images/img-2'],
  );
});

t.test('a MAC address is planned unless the VM that has it gets another name', async (t) => {
  const web = { project: 'prj-1', name: 'web' };
  const mac = defaultMac('prj-1', 'web', 0);
  const holder = (name: string) => json(200, { items: [item('vm-1', { name, interfaces: [{ mac }] })], revision: 1 });
  const run = (name: string) => scriptedSession(t, holder(name));

  t.equal(await plannedMac(await run('web'), web, 0), mac, 'nobody says otherwise: it is the one that is replaced');
  t.equal(await plannedMac(await run('old-web'), web, 0), undefined, 'it was renamed before');
  t.equal(await plannedMac(await run('old-web'), web, 1), defaultMac('prj-1', 'web', 1), 'nobody has that one');

  const renaming = await run('web');
  const waiting = plannedMac(renaming, web, 0);
  renaming.session.names.note('vm-1', 'old-web');
  t.equal(await waiting, undefined, 'it is renamed in this run');
  t.equal(await plannedMac(renaming, web, 0), undefined);

  const keeping = await run('web');
  keeping.session.names.note('vm-1', 'web');
  t.equal(await plannedMac(keeping, web, 0), mac, 'who keeps the name can only be the one that is replaced');
  const leaving = await run('web');
  leaving.session.deletions.add('vm-1');
  t.equal(await plannedMac(leaving, web, 0), mac);
});
