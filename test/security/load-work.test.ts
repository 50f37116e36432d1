/** Work on large states goes on beside the answers to others. */
import { randomBytes } from 'node:crypto';
import type { Worker } from 'node:worker_threads';
import t from 'tap';
import { FairQueue } from '../../backend/api/concurrency/fair-queue.ts';
import { type Job, perform } from '../../backend/api/terraform-state/work.ts';
import { StateWorkerPool } from '../../backend/api/terraform-state/worker-pool.ts';
import { startTestApi } from '../support/api.ts';
import { bound } from '../support/bound-store.ts';
import { deepState, largeState } from '../support/hostile-tenant.ts';
import { withStore } from '../support/stores.ts';

const MiB = 2 ** 20;

/** Longest time that nothing else could be done, while `work` was under way. */
async function longestPause(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  let going = true;
  const look = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (going) setImmediate(look);
  };
  setImmediate(look);
  await work();
  going = false;
  return Math.max(longest, performance.now() - last);
}

/** Processor time of this thread for `work`, in milliseconds. Other processes on the machine do not change it. */
async function costHere(work: () => Promise<unknown>): Promise<number> {
  const before = process.threadCpuUsage();
  await work();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}

t.test('a state of 31 MiB holds nobody up', async (t) => {
  const workshop = new StateWorkerPool();
  t.teardown(() => workshop.close());
  const text = largeState(1, 31 * MiB, randomBytes);
  const jobs = (): Job[] => [
    { work: 'read', bytes: Buffer.from(text), members: ['serial'] },
    { work: 'seal', bytes: Buffer.from(text), key: randomBytes(32), content: 'c', binding: 'prj/a' },
  ];
  // The thread has started.
  await workshop.run('prj', { work: 'read', bytes: Buffer.alloc(100_000, ' '), members: [] });
  for (const [i, job] of jobs().entries()) {
    const again = jobs()[i];
    if (!again) throw new Error('there are as many');
    const here = await costHere(async () => perform(again));
    const there = await costHere(() => workshop.run('prj', job));
    t.ok(there < here / 2, `${job.work}: ${there.toFixed()} ms instead of ${here.toFixed()}`);
  }

  const test = await startTestApi(t);
  const member = await test.member(test.project);
  const done: unknown[] = [];
  const listen = (worker: Worker) => void worker.on('message', (result) => done.push(result));
  process.on('worker', listen);
  t.teardown(() => process.off('worker', listen));
  await member.expect(200, 'POST', '/v1/terraform-states/large', largeState(1, MiB, randomBytes));
  t.equal(done.length, 2, 'a request has its state read and sealed by a thread');
});

t.test('a state that is nested 5 million deep is refused in no time, and so is a body', async (t) => {
  const test = await startTestApi(t);
  const member = await test.member(test.project);
  const deep = deepState(1, 5_000_000);
  const flat = largeState(1, deep.length, randomBytes);
  const pauseOf = (text: string) =>
    longestPause(async () => {
      const { status, body } = await member.request('POST', '/v1/terraform-states/deep', text);
      t.ok(text === flat ? status === 200 : status === 400 && /nested more than/.test(body.detail ?? ''));
    });
  await pauseOf(flat);
  // Sending so much takes its time in this process as well, so it is compared with a state that is not deep.
  t.ok((await pauseOf(deep)) < 10 * (await pauseOf(flat)) + 1000);
  const [nested, many] = [/must not be nested more than 64 deep/, /must not have more than 10000 values/];
  for (const [body, detail] of [
    ['['.repeat(500_000), nested],
    [`{"a":`.repeat(150_000), nested],
    [`[${'{},'.repeat(300_000)}{}]`, many],
  ] as const) {
    const answer = await member.request('POST', '/v1/ssh-keys', body);
    // By the scan: parsed, it would be refused for something else.
    t.match(answer, { status: 400, body: { errors: [{ pointer: '', detail }] } });
  }
});

t.test('an Idempotency-Key where there is none in the contract costs nothing', async (t) => {
  const store = await withStore(t);
  const asked: string[] = [];
  const test = await startTestApi(t, {
    store: {
      ...bound(store),
      get: (key) => {
        asked.push(key);
        return store.get(key);
      },
      commit: (commit) => {
        asked.push(JSON.stringify(commit));
        return store.commit(commit);
      },
    },
  });
  const member = await test.member(test.project);
  const key = { 'idempotency-key': 'one' };
  for (const serial of [1, 2]) {
    const text = largeState(serial, MiB, randomBytes);
    const answer = await member.request('POST', '/v1/terraform-states/keyed', text, key);
    t.equal(answer.status, 200, 'it is none, so it may come again');
  }
  t.ok(asked.some((text) => text.includes('terraform-state-versions/')));
  t.notOk(
    asked.some((text) => text.includes('idempotency/')),
    'the body need not be digested for it',
  );
});

t.test('projects take turns, each with one piece of work at a time', async (t) => {
  const queue = new FairQueue(2, 10);
  const order: string[] = [];
  const running = new Map<string, number>();
  let most = 0;
  const work = (owner: string) =>
    queue.run(owner, async () => {
      order.push(owner);
      running.set(owner, (running.get(owner) ?? 0) + 1);
      t.equal(running.get(owner), 1, `${owner} has one at a time`);
      most = Math.max(
        most,
        [...running.values()].reduce((a, b) => a + b, 0),
      );
      await new Promise((resolve) => setImmediate(resolve));
      running.set(owner, (running.get(owner) ?? 1) - 1);
    });
  const all = [...Array.from({ length: 10 }, () => work('greedy')), work('modest'), work('quiet')];
  await t.rejects(
    Promise.all(Array.from({ length: 5 }, () => work('greedy'))),
    { code: 'rate_limited' },
    'those who want too much are told so',
  );
  await Promise.allSettled(all);
  t.ok(most <= 2, 'as many at a time as there are places');
  t.ok(order.indexOf('modest') <= 3 && order.indexOf('quiet') <= 4, order.join());
  t.equal(order.length >= 12, true);
});

t.test('work that waits when the server stops is refused', async (t) => {
  const queue = new FairQueue(1, 10);
  let finish = () => {};
  const first = queue.run(
    'a',
    () =>
      new Promise<void>((resolve) => {
        finish = resolve;
      }),
  );
  const second = queue.run('a', async () => t.fail('it is not begun'));
  queue.close();
  await t.rejects(second, { code: 'store_unavailable' });
  finish();
  await first;
});
