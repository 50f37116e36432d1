/** Connections, handshakes and log lines are bounded. Honest clients still get answers. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Agent, request } from 'undici';
import { RepeatLogger } from '../../backend/api/http/repeat-logger.ts';
import { startApi } from '../../backend/api/start.ts';
import { UcloudError } from '../../backend/contract/errors.ts';
import type { Logger } from '../../backend/model/component.ts';
import { sourceNetwork } from '../../backend/model/network/addresses.ts';
import { ApiClient, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { bound } from '../support/bound-store.ts';
import { makeCertificates } from '../support/etcd.ts';
import { until, within } from '../support/eventually.ts';
import { head, RawConnection, silentConnections } from '../support/hostile-tenant.ts';
import { temporaryDirectory } from '../support/stores.ts';

interface Line {
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

function collectingLogger(lines: Line[]): Logger {
  const write = (level: string) => (fields: object, message: string) =>
    void lines.push({ level, message, fields: { ...fields } });
  const logger: Logger = {
    debug: () => undefined,
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: () => logger,
  };
  return logger;
}

t.test('silent connections of one source are bounded, and the newest is let in', async (t) => {
  const test = await startTestApi(t, { limits: { strangersPerSource: 20 } });
  const kept = new RawConnection(test.url).send(head('GET', '/v1/token', test.operatorToken));
  await kept.responses(1);
  const held = silentConnections(test.url, 200);
  t.teardown(() => held.letGo());
  const closed = () => held.connections.filter(({ socket }) => socket.destroyed).length;
  await until('most are closed', () => closed() >= 180, 60);
  for (let i = 0; i < 5; i++) {
    const late = new RawConnection(test.url).send(head('GET', '/v1/token', test.operatorToken, ['Connection: close']));
    t.match(await late.toEnd(), /^HTTP\/1.1 200 /, 'who shows a token is served');
  }
  kept.send(head('GET', '/v1/token', test.operatorToken));
  t.equal((await kept.responses(2)).length, 2, 'a connection that has shown a token is not counted');
  kept.end();
});

t.test('connections of one project are bounded, and those of others are not touched', async (t) => {
  const test = await startTestApi(t, { limits: { connectionsPerOwner: 10 } });
  const bad = await test.member(test.project);
  const second = await test.member(test.project);
  const good = await test.member((await test.operator.create('projects', { name: 'other' })).id);
  const connections = Array.from({ length: 30 }, (_, i) =>
    new RawConnection(test.url).send(head('GET', `/v1/vms?after=${1e15}&timeout=60`, [bad, second][i % 2]?.token)),
  );
  t.teardown(() => connections.forEach((connection) => void connection.end()));
  await until(
    'twenty refusals',
    () => connections.filter(({ text }) => text.startsWith('HTTP/1.1 429 ')).length === 20,
    60,
  );
  const fresh = new RawConnection(test.url).send(head('GET', '/v1/token', good.token, ['Connection: close']));
  t.match(await fresh.toEnd(), /^HTTP\/1.1 200 /);
});

t.test('a source is a /64', async (t) => {
  t.equal(sourceNetwork('2001:db8::1'), sourceNetwork('2001:0db8:0:0:ffff::2'));
  t.not(sourceNetwork('2001:db8::1'), sourceNetwork('2001:db8:0:1::1'));
  t.equal(sourceNetwork('::ffff:192.0.2.1'), '192.0.2.1');
  t.equal(sourceNetwork('::ffff:192.0.2.1'), sourceNetwork('192.0.2.1'));
  t.equal(sourceNetwork('fe80::1%eth0'), sourceNetwork('fe80::2%eth1'));
});

t.test('the server does not wait for a silent client, before the first request and after it', async (t) => {
  const test = await startTestApi(t, { arrivalTimeout: 800, limits: { keepAliveTimeout: 500 } });
  const silent = new RawConnection(test.url);
  const idle = new RawConnection(test.url).send(head('GET', '/healthz'));
  t.match(await within('the end of what is silent', silent.toEnd(), 60), /^HTTP\/1.1 408 /);
  t.match(await within('the end of what is idle', idle.toEnd(), 60), /^HTTP\/1.1 200 /);
});

t.test('TLS handshakes that are not finished are ended', async (t) => {
  const directory = temporaryDirectory(t);
  await makeCertificates(directory);
  const file = (name: string) => readFileSync(join(directory, name), 'utf8');
  const test = await startTestApi(t, {
    tls: { cert: file('server.pem'), key: file('server-key.pem') },
    limits: { handshakeTimeout: 500, strangersPerSource: 20 },
  });
  const silent = new RawConnection(test.url);
  const started = new RawConnection(test.url).send(Buffer.from('160301020001', 'hex'));
  const garbage = new RawConnection(test.url).send('GET / HTTP/1.1\r\n\r\n');
  await within('the end of all', Promise.all([silent.closed, started.closed, garbage.closed]), 60);
  const held = silentConnections(test.url, 100);
  t.teardown(() => held.letGo());
  await until('most are closed', () => held.connections.filter(({ socket }) => !socket.destroyed).length <= 20);
  const dispatcher = new Agent({ connect: { ca: file('ca.pem') } });
  t.teardown(() => dispatcher.close());
  const headers = { authorization: `Bearer ${test.operatorToken}` };
  for (let i = 0; i < 3; i++) {
    const answer = await request(`${test.url}/v1/token`, { headers, dispatcher });
    t.equal(answer.statusCode, 200);
    await answer.body.dump();
  }
});

t.test('refusals that are to be expected write no line, and faults that repeat are counted', async (t) => {
  const lines: Line[] = [];
  let broken = false;
  const test = await startTestApi(t);
  const session = { ...bound(test.store) };
  const api = await startApi({
    store: {
      ...session,
      list: (...given) => {
        if (broken) throw new UcloudError('store_unavailable', 'the database does not answer');
        return session.list(...given);
      },
      close: async () => undefined,
    },
    logger: collectingLogger(lines),
    listen: { host: '::1', port: 0 },
  });
  t.teardown(() => api.close());
  const operator = new ApiClient(api.url, test.operatorToken);
  const { pool } = await createVmPrerequisites(test, test.project);
  const small = await operator.create('prefix-pools', {
    name: 'small',
    cidr: '2001:db8:ffff::/60',
    default_length: 60,
  });
  await operator.create('prefixes', { name: 'all', project: test.project, pool: small.id });
  for (let i = 0; i < 20; i++) {
    const full = { name: `n${i}`, project: test.project, pool: small.id };
    t.match(await operator.request('POST', '/v1/prefixes', full), { status: 507 });
    t.match(await operator.request('GET', `/v1/terraform-states/x?project=${test.project}`), { status: 404 });
    t.match(await operator.request('POST', `/v1/terraform-states/x?project=${test.project}`, '{}'), { status: 501 });
    await operator.request('GET', `/v1/prefix-pools/${pool.id}x`);
  }
  const bad = () => lines.filter(({ level }) => level === 'warn' || level === 'error');
  t.same(bad(), []);
  broken = true;
  for (let i = 0; i < 50; i++) t.equal((await operator.request('GET', '/healthz')).status, 503);
  broken = false;
  t.equal(bad().length, 10, 'ten lines of a kind');
  t.notOk(
    bad().some(({ fields }) => 'err' in fields),
    'without a stack',
  );
  await api.close();
  t.match(bad().at(-1), { message: /as before/, fields: { times: 40 } }, 'the others are counted');
});

t.test('kinds of log lines are bounded as well', async (t) => {
  const lines: Line[] = [];
  const logger = new RepeatLogger(collectingLogger(lines));
  for (let i = 0; i < 100_000; i++) logger.say('error', `kind ${i}`, { i }, 'failed');
  t.ok(lines.length <= 200, `${lines.length} lines`);
  logger.close();
  const counted = lines.reduce((sum, { fields }) => sum + (typeof fields.times === 'number' ? fields.times : 1), 0);
  t.equal(counted, 100_000, 'none is lost');
});

t.test('a client that goes away leaves nothing behind', async (t) => {
  const test = await startTestApi(t);
  for (let i = 0; i < 50; i++) {
    const connection = new RawConnection(test.url).send(
      head('GET', `/v1/vms?after=${1e15}&timeout=60`, test.operatorToken) + head('GET', '/v1/vms', test.operatorToken),
    );
    await once(connection.socket, 'connect');
    connection.end();
  }
  await test.operator.expect(200, 'GET', '/v1/vms');
});
