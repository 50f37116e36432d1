/** The rate of a project bounds its requests, but not their work. So projects take turns, and long work pauses. */
import t from 'tap';
import { ProjectTurns } from '../../backend/api/concurrency/project-turns.ts';
import type { Logger } from '../../backend/model/component.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';
import { head, RawConnection } from '../support/hostile-tenant.ts';
import { silentLogger } from '../support/silent-logger.ts';

t.test('projects take turns, however many requests of one wait', async (t) => {
  const turns = new ProjectTurns();
  const order: string[] = [];
  const take = (owner: string) => turns.take(owner).then(() => order.push(owner));
  await Promise.all([...Array.from({ length: 50 }, () => take('bad')), take('good'), take('third'), take('good')]);
  t.same(order.slice(0, 5), ['bad', 'bad', 'good', 'third', 'bad']);
  t.equal(order.indexOf('good', 3), 5);
  t.equal(order.length, 53);
  t.equal(turns.count, 0);
});

t.test('a change that wakes many long polls of a project holds no other project up', async (t) => {
  const polls: RawConnection[] = [];
  let answered = 0;
  let before: number | undefined;
  let onFirst = () => undefined as unknown;
  const logger: Logger = {
    ...silentLogger,
    child: () => logger,
    debug(fields) {
      const { operation } = fields as { readonly operation?: string };
      if (operation === 'network_list' && ++answered === 1) onFirst();
      if (operation === 'token_self') before ??= answered;
    },
  };
  const test = await startTestApi(t, { logger });
  const { operator, project } = test;
  const bad = await test.member(project, 'viewer');
  const good = await test.member((await operator.create('projects', { name: 'other' })).id);
  const { prefix, network } = await createVmPrerequisites(test, project);
  const after = `after=${network.revision}&timeout=60`;
  for (let i = 0; i < 100; i++) {
    polls.push(new RawConnection(test.url).send(head('GET', `/v1/networks?${after}`, bad.token)));
  }
  t.teardown(() => polls.forEach((poll) => void poll.end()));
  const other = new RawConnection(test.url);
  t.teardown(() => other.end());
  // All polls have come when a request that came after them has been answered.
  await good.list('ssh-keys');
  t.equal(answered, 0);
  onFirst = () => other.send(head('GET', '/v1/token', good.token));
  await operator.create('networks', { name: 'news', project, prefix: prefix.id });
  await until('all are answered', () => polls.every(({ bytes }) => bytes > 0));
  await other.responses(1);
  t.ok((before ?? 100) < 50, `${before} of 100 were answered before it`);
});

t.test('a capacity check that takes seconds holds up nobody, nor the checks of other projects', async (t) => {
  const test = await startTestApi(t);
  const { store, operator } = test;
  const at = '2026-01-01T00:00:00Z';
  for (let start = 0; start < 800; start += 40) {
    const hosts = Array.from({ length: 40 }, () =>
      hostRecord({ capacity: { cpus: 64, memory: 2 ** 38, disk: 2 ** 42 } }),
    );
    await store.commit({
      write: hosts.flatMap((host) => [put(records.hosts, host.id, host), put(records.alive, host.id, { at })]),
    });
  }
  const bad = await test.member(test.project, 'viewer');
  const good = await test.member((await operator.create('projects', { name: 'other' })).id);
  const body = { vms: [{ count: 5000, anti_affinity: { group: 'a', mode: 'preferred' } }] };
  let ended = 0;
  const check = () =>
    bad.request('POST', '/v1/capacity-checks', body).then((answer) => {
      ended++;
      return answer.status;
    });
  const checks = Array.from({ length: 3 }, check);
  for (let i = 0; i < 20; i++) await good.expect(200, 'GET', '/v1/token');
  t.equal(ended, 0, 'the others are answered first');
  t.match(await good.expect(200, 'POST', '/v1/capacity-checks', { vms: [{}] }), { body: { refusals: [] } });
  t.ok(ended < 3, 'and the checks of projects take turns');
  t.same(await Promise.all(checks), [200, 200, 200]);
});
