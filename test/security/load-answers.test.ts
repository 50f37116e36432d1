/** A tenant that does not read, or sends slowly, costs others nothing. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { startTestApi } from '../support/api.ts';
import { bound } from '../support/bound-store.ts';
import { until } from '../support/eventually.ts';
import { head, largeState, RawConnection, responsesIn, slowUploads, unreadAnswers } from '../support/hostile-tenant.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { withStore } from '../support/stores.ts';

const MiB = 2 ** 20;
const path = '/v1/terraform-states/large';

/** Two projects with a member each, the first hostile. */
async function twoTenants(t: Parameters<typeof startTestApi>[0], options: Parameters<typeof startTestApi>[1] = {}) {
  const test = await startTestApi(t, options);
  const bad = await test.member(test.project);
  const other = await test.operator.create('projects', { name: 'other' });
  const good = await test.member(other.id);
  return { ...test, bad, good, other, token: bad.token ?? '' };
}

t.test('unread answers of large states are made no further than they are read', async (t) => {
  const store = await withStore(t);
  let pieces = 0;
  const counting = (key: string) => {
    if (key.startsWith('terraform-state-chunks/')) pieces++;
    return store.get(key);
  };
  const { url, bad, good, token } = await twoTenants(t, { store: { ...bound(store), get: counting } });
  const text = largeState(1, 24 * MiB, randomBytes);
  await bad.expect(200, 'POST', path, text);
  // The client's copy and what the test has sent is garbage by now, or counts before and after.
  const before = process.memoryUsage().arrayBuffers;
  const held = unreadAnswers(url, token, path, 20);
  t.teardown(() => held.letGo());
  for (let i = 0; i < 20; i++) await good.expect(200, 'GET', '/v1/vms');
  const answer = await bad.request('GET', '/v1/vms');
  t.equal(answer.status, 200, 'the tenant itself is served as long as it has room');
  const grown = process.memoryUsage().arrayBuffers - before;
  t.ok(grown < 20 * 24 * MiB * 0.25, `20 × 24 MiB take ${Math.round(grown / MiB)} MiB`);
  const unread = pieces;
  held.letGo();
  const response = await fetch(url + path, { headers: { authorization: `Bearer ${token}` } });
  t.ok((await response.text()) === text, 'a client that reads gets it whole');
  const whole = pieces - unread;
  t.ok(unread < (20 * whole) / 2, `${unread} pieces were read for 20 answers of ${whole}`);
});

t.test('answers that are not read are bounded for each project', async (t) => {
  const { url, operator, project, bad, good, token } = await twoTenants(t, { limits: { unreadPerOwner: 20 * MiB } });
  const labels = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`label-${i}`, 'x'.repeat(60)]));
  for (let i = 0; i < 1000; i += 50) {
    const names = Array.from({ length: 50 }, (_, n) => `k${i + n}`);
    await Promise.all(
      names.map((name) => operator.create('ssh-keys', { name, project, public_key: testPublicKey, labels })),
    );
  }
  const list = '/v1/ssh-keys?limit=1000';
  const size = JSON.stringify((await bad.request('GET', list)).body).length;
  t.ok(size > 4 * MiB, `a list of ${size} bytes`);
  const held = unreadAnswers(url, token, list, 30);
  t.teardown(() => held.letGo());
  const refused = await until('a refusal', async () => {
    const answer = await bad.request('GET', list);
    return answer.status === 200 ? undefined : answer;
  });
  t.match(refused, { status: 429, body: { code: 'rate_limited', detail: /not read/ } });
  t.match(refused.headers.get('retry-after'), /^\d+$/);
  t.equal((await good.request('GET', '/v1/ssh-keys')).status, 200, 'others are served');
  held.letGo();
  await until('room again', async () => (await bad.request('GET', list)).status === 200);
});

t.test('a client that does not read is cut off', async (t) => {
  const { url, bad, token } = await twoTenants(t, { limits: { sendTimeout: 3000 } });
  await bad.expect(200, 'POST', path, largeState(1, 24 * MiB, randomBytes));
  const connection = new RawConnection(url, { reads: false }).send(head('GET', path, token));
  const trickle = new RawConnection(url, { reads: false }).send(head('GET', path, token));
  // A few bytes at a time are no progress.
  const timer = setInterval(() => trickle.socket.read(100), 20);
  t.teardown(() => clearInterval(timer));
  const whole = new RawConnection(url).send(head('GET', path, token, ['Connection: close']));
  await whole.toEnd();
  t.ok(whole.bytes > 24 * MiB, 'who reads gets everything');
  // The clients notice the cut when they go on: they get only the bytes that their own system had already received.
  await until(
    'the end of both',
    () => {
      for (const one of [connection, trickle]) one.socket.write('\r\n');
      return [connection, trickle].every(({ socket }) => socket.errored || socket.destroyed);
    },
    60,
  );
  clearInterval(timer);
  for (const one of [connection, trickle]) t.ok(one.bytes < 24 * MiB, `${one.bytes} bytes had been read`);
});

t.test('bodies that arrive slowly are bounded for each project', async (t) => {
  const { url, bad, good, token } = await twoTenants(t);
  const held = slowUploads(url, token, path, 10, 31 * MiB);
  t.teardown(() => held.letGo());
  const statuses = await until('eight refusals', () => {
    const all = held.connections.flatMap(({ text }) => responsesIn(text));
    return all.length === 8 ? all.map(({ status }) => status) : undefined;
  });
  t.same(statuses, Array(8).fill(429), 'two fit into 64 MiB');
  t.match(await bad.request('POST', path, largeState(1, 4 * MiB, randomBytes)), {
    status: 429,
    body: { code: 'rate_limited', detail: /still in memory/ },
  });
  await good.expect(200, 'POST', path, largeState(1, 4 * MiB, randomBytes));
  held.letGo();
  await until('room again', async () => {
    const { status } = await bad.request('POST', path, largeState(1, 4 * MiB, randomBytes));
    return status === 200;
  });
});

t.test('chunked bodies are bounded as they grow', async (t) => {
  const { url, token, bad } = await twoTenants(t, { limits: { bodiesPerOwner: 4 * MiB } });
  const begin = head('POST', path, token, ['Content-Type: application/json', 'Transfer-Encoding: chunked']);
  const chunk = `${(MiB).toString(16)}\r\n${' '.repeat(MiB)}\r\n`;
  const one = new RawConnection(url).send(begin + chunk.repeat(3));
  const two = new RawConnection(url).send(begin + chunk.repeat(3));
  t.teardown(() => [one, two].forEach((connection) => void connection.end()));
  const refused = await until('a refusal', () => [one, two].flatMap(({ text }) => responsesIn(text))[0]);
  t.equal(refused.status, 429);
  [one, two].forEach((connection) => void connection.end());
  await until(
    'room again',
    async () => (await bad.request('POST', path, largeState(1, 1000, randomBytes))).status === 200,
  );
});
