/** A waiting request ends together with its token, without later data. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import * as records from '../../backend/model/records/index.ts';
import { put, read } from '../../backend/store/collection.ts';
import { ApiClient, startTestApi } from '../support/api.ts';
import { eventually, until } from '../support/eventually.ts';
import { head, largeState, RawConnection } from '../support/hostile-tenant.ts';
import { testPublicKey } from '../support/ssh-keys.ts';

/** Milliseconds in which a wait of a minute is certainly not over. */
const soon = 30_000;

async function setUp(t: Test) {
  const test = await startTestApi(t);
  const project = (await test.operator.create('projects', { name: 'watched' })).id;
  const key = await test.operator.create('ssh-keys', { name: 'k', project, public_key: testPublicKey });
  const make = (name: string, more: object = {}) => test.operator.create('tokens', { name, project, ...more });
  /** A poll of one object and one of a list, which wait for a minute. */
  const polls = (secret: string): Promise<readonly { status: number; code?: string | undefined }[]> => {
    const client = new ApiClient(test.url, secret);
    return Promise.all(
      [`/v1/ssh-keys/${key.id}`, '/v1/ssh-keys', '/v1/events'].map(async (path) => {
        // The revision is far in the future, so no change ends the poll.
        const { status, body } = await client.request('GET', `${path}?after=${1e15}&timeout=60`);
        return { status, code: body.code };
      }),
    );
  };
  const waiting = (count: number) =>
    // The requests are under way when the server has answered one that came later.
    eventually(async () => {
      for (let i = 0; i < count; i++) await test.operator.expect(200, 'GET', '/v1/ssh-keys');
    });
  return { ...test, project, key, make, polls, waiting };
}

const ended = [
  { status: 401, code: 'unauthenticated' },
  { status: 401, code: 'unauthenticated' },
  { status: 401, code: 'unauthenticated' },
];

t.test('a long poll ends when its token is revoked', async (t) => {
  const { operator, make, polls, waiting } = await setUp(t);
  const token = await make('revoked');
  const other = await make('other');
  const began = performance.now();
  const answers = polls(token.secret);
  const others = polls(other.secret);
  await waiting(5);
  await operator.expect(204, 'DELETE', `/v1/tokens/${token.id}`);
  t.same(await answers, ended);
  t.ok(performance.now() - began < soon, 'at once');
  t.equal(await Promise.race([others, 'it waits']), 'it waits', 'the other token is not disturbed');
  await operator.expect(204, 'DELETE', `/v1/tokens/${other.id}`);
  // Its poll of events has heard that the first token was deleted.
  t.same((await others).slice(0, 2), ended.slice(0, 2));
});

t.test('a long poll ends when its token expires', async (t) => {
  const { make, polls } = await setUp(t);
  const began = performance.now();
  const token = await make('expiring', { expires_at: new Date(Date.now() + 3000).toISOString() });
  t.same(await polls(token.secret), ended);
  t.ok(performance.now() - began < soon, 'at once');
});

t.test('a long poll ends when its token opens something else, or its project is gone', async (t) => {
  const { store, project, make, polls, waiting } = await setUp(t);
  const demoted = await make('demoted');
  const stored = await read(store, records.tokens, demoted.id);
  if (!stored) throw new Error('the token is there');
  const began = performance.now();
  const answers = polls(demoted.secret);
  await waiting(5);
  // The API has no such change today. A database may have had it by hand, or from a newer version.
  await store.commit({ write: [put(records.tokens, demoted.id, { ...stored.value, role: 'viewer' })] });
  t.same(await answers, ended);
  const homeless = await make('homeless');
  const last = polls(homeless.secret);
  await waiting(5);
  await store.commit({ write: [{ delete: `projects/${project}` }] });
  t.same(await last, ended);
  t.ok(performance.now() - began < soon, 'at once');
});

t.test('an answer shows no change after the revocation', async (t) => {
  const { operator, make, key, url } = await setUp(t);
  const token = await make('revoked');
  const client = new ApiClient(url, token.secret);
  const now = await operator.get('ssh-keys', key.id);
  const answer = client.request('GET', `/v1/ssh-keys/${key.id}?after=${now.revision}&timeout=60`);
  await operator.expect(200, 'GET', '/v1/ssh-keys');
  // Both in one commit could not be told apart; here the news comes right behind the revocation.
  const revoked = operator.expect(204, 'DELETE', `/v1/tokens/${token.id}`);
  await revoked;
  await operator.update('ssh-keys', key.id, { name: 'secret' });
  const { status, body } = await answer;
  t.equal(status, 401);
  t.notMatch(JSON.stringify(body), /secret"/);
});

t.test('a state that is being read is cut off when the token is revoked', async (t) => {
  const { url, operator, make } = await setUp(t);
  const token = await make('reader');
  const path = '/v1/terraform-states/large';
  const text = largeState(1, 24 * 2 ** 20, randomBytes);
  await new ApiClient(url, token.secret).expect(200, 'POST', path, text);
  const connection = new RawConnection(url, { reads: false }).send(head('GET', path, token.secret));
  t.teardown(() => connection.end());
  await until('the beginning', () => {
    connection.socket.read(0);
    return connection.socket.readableLength > 0;
  });
  await operator.expect(204, 'DELETE', `/v1/tokens/${token.id}`);
  connection.read().socket.resume();
  await connection.toEnd();
  t.match(connection.text, /^HTTP\/1.1 200 /);
  t.ok(connection.bytes < text.length, `${connection.bytes} of ${text.length} bytes`);
});

t.test('a body that was still arriving when the token was revoked changes nothing', async (t) => {
  const { url, operator, make, project } = await setUp(t);
  const token = await make('writer');
  const body = JSON.stringify({ name: 'late', project, public_key: testPublicKey });
  const connection = new RawConnection(url).send(
    head('POST', '/v1/ssh-keys', token.secret, [
      'Content-Type: application/json',
      `Content-Length: ${body.length}`,
      'Expect: 100-continue',
      'Connection: close',
    ]),
  );
  await until('the body is asked for', () => connection.text.includes('100 Continue'));
  connection.send(body.slice(0, 10));
  await operator.expect(204, 'DELETE', `/v1/tokens/${token.id}`);
  connection.send(body.slice(10));
  t.match(await connection.toEnd(), /HTTP\/1.1 401 /);
  t.equal((await operator.list('ssh-keys', '?name=late')).items.length, 0);
});
