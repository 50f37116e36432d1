/** The provider's HTTP client with a server that is slow, busy, broken, or not ucloud. */

import { writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import t from 'tap';
import { Client } from '../../provider/client/client.ts';
import { endpointProblem, resolve, type Settings, sourceOf } from '../../provider/client/configuration.ts';
import { ApiError, explain } from '../../provider/client/problem.ts';
import { BatchReader } from '../../provider/client/reader.ts';
import { retryAfterMs } from '../../provider/client/retry-after.ts';
import { deleteWhenUnused, whenNameIsFree } from '../../provider/derive/retry-while-blocked.ts';
import { DiagnosticError } from '../../provider/framework/index.ts';
import { createCertificate } from '../../provider/protocol/certificate.ts';
import { schemaOf } from '../../provider/schema/resources.gen.ts';
import { until } from '../support/eventually.ts';
import { broken, item, json, noContent, problem, type ScriptedAnswer, scriptedApi } from '../support/scripted-api.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('sends again what may be sent again, under one Idempotency-Key', async (t) => {
  for (const [what, answer] of Object.entries({
    'a conflict': problem(409, 'conflict'),
    'a database that does not answer': problem(503, 'store_unavailable'),
    'a broken connection': broken,
    'a proxy without a server': json(502, {}),
  })) {
    const { client, seen } = await scriptedApi(t, answer, answer, json(201, item('vm-1')));
    t.strictSame(await client.create('/v1/vms', { name: 'web' }), item('vm-1'), what);
    t.equal(seen.length, 3);
    const keys = new Set(seen.map(({ headers }) => headers['idempotency-key']));
    t.equal(keys.size, 1, `${what}: one key`);
    t.match([...keys][0], /^[0-9a-f-]{36}$/);
  }
});

t.test('sends nothing again that would fail again', async (t) => {
  for (const [status, code] of [
    [400, 'invalid_input'],
    [401, 'unauthenticated'],
    [409, 'name_taken'],
    [500, 'internal'],
    [507, 'no_capacity'],
  ] as const) {
    const { client, seen } = await scriptedApi(t, problem(status, code));
    await t.rejects(client.create('/v1/vms', {}), { code });
    t.equal(seen.length, 1, code);
  }
});

t.test('waits as long as a busy server says, and says nothing of it', async (t) => {
  for (const [status, code] of [
    [429, 'rate_limited'],
    [503, 'store_unavailable'],
  ] as const) {
    const { client, seen } = await scriptedApi(
      t,
      problem(status, code, { 'retry-after': '1' }),
      json(200, { items: [], revision: 3 }),
    );
    const began = performance.now();
    t.strictSame(await client.list('/v1/vms', {}), { items: [], revision: 3 });
    t.ok(performance.now() - began >= 990, 'not earlier');
    t.equal(seen.length, 2);
  }

  const now = Date.parse('2030-01-31T12:00:00Z');
  for (const [said, date, milliseconds] of [
    ['0', undefined, 0],
    [' 7 ', undefined, 7000],
    ['86400', undefined, 600_000],
    ['Thu, 31 Jan 2030 12:00:30 GMT', undefined, 30_000],
    ['Thu, 31 Jan 2030 12:00:30 GMT', 'Thu, 31 Jan 2030 12:00:20 GMT', 10_000],
    ['Thu, 31 Jan 2030 11:00:00 GMT', undefined, 0],
    ['soon', undefined, undefined],
    ['-1x', undefined, undefined],
    [undefined, undefined, undefined],
  ] as const) {
    t.equal(retryAfterMs({ 'retry-after': said, date }, now), milliseconds, `Retry-After: ${said}`);
  }
});

t.test(
  'whoever stops it hears what it was waiting out; but a change that may have been made is asked for',
  async (t) => {
    const stopping = (answer: ScriptedAnswer) => {
      const stop = new AbortController();
      const stops: ScriptedAnswer = (request, response) => {
        stop.abort(new Error('enough'));
        answer(request, response);
      };
      return { signal: stop.signal, stops };
    };
    for (const [what, answer] of Object.entries({
      'a lost answer': broken,
      'a database that does not answer': problem(503, 'store_unavailable', { 'retry-after': '600' }),
    })) {
      const made = stopping(answer);
      const { client, seen } = await scriptedApi(t, made.stops, problem(429, 'rate_limited'), json(201, item('vm-1')));
      t.strictSame(await client.create('/v1/vms', {}, made.signal), item('vm-1'), what);
      t.equal(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size, 1);
    }

    const refused = stopping(problem(429, 'rate_limited', { 'retry-after': '600' }));
    const busy = await scriptedApi(t, refused.stops);
    await t.rejects(busy.client.create('/v1/vms', {}, refused.signal), { code: 'rate_limited' });
    t.equal(busy.seen.length, 1, 'what was refused was not made');

    const read = stopping(problem(503, 'store_unavailable', { 'retry-after': '600' }));
    const down = await scriptedApi(t, read.stops);
    await t.rejects(down.client.list('/v1/vms', {}, read.signal), 'a question that is not needed any more is dropped');
    t.equal(down.seen.length, 1);
  },
);

t.test('reads that come together are one request', async (t) => {
  const { client, seen } = await scriptedApi(t, json(200, { items: [item('vm-1'), item('vm-3')], revision: 9 }));
  const found = await Promise.all(['vm-1', 'vm-2', 'vm-3', 'vm-1'].map((id) => client.read('/v1/vms', id)));
  t.strictSame(found, [item('vm-1'), undefined, item('vm-3'), item('vm-1')], 'what is not in the list does not exist');
  t.equal(seen.length, 1);
  t.equal(seen[0]?.url.searchParams.get('ids'), 'vm-1,vm-2,vm-3');
});

t.test('later reads of a large plan wait longer for others than the first reads', async (t) => {
  const { client, seen } = await scriptedApi(t, (request, response) => {
    const ids = new URL(request.url ?? '', 'http://x').searchParams.get('ids')?.split(',') ?? [];
    json(200, { items: ids.map((id) => item(id)), revision: 9 })(request, response);
  });
  // A batch of later reads ends only when it is full.
  const reader = new BatchReader(client, { firstMs: 0, laterMs: 1e9 });
  const read = (first: number, last: number) =>
    Array.from({ length: last - first + 1 }, (_, i) => reader.read('/v1/vms', `vm-${first + i}`));
  await Promise.all(read(1, 5));
  await Promise.all(read(6, 10));
  const some = read(11, 60);
  // Another kind has windows of its own.
  await Promise.all(['net-1', 'net-2'].map((id) => reader.read('/v1/networks', id)));
  t.strictSame((await Promise.all([...some, ...read(61, 110)])).at(-1), item('vm-110'));
  t.strictSame(
    seen.map(({ url }) => [url.pathname, url.searchParams.get('limit')]),
    [
      ['/v1/vms', '5'],
      ['/v1/vms', '5'],
      ['/v1/networks', '2'],
      ['/v1/vms', '100'],
    ],
  );
});

t.test('a read that is alone asks for its object', async (t) => {
  const { client, seen } = await scriptedApi(t, json(200, item('vm-1')), problem(404, 'not_found'));
  t.strictSame(await client.read('/v1/vms', 'vm-1'), item('vm-1'));
  t.equal(await client.read('/v1/vms', 'vm-2'), undefined);
  t.strictSame(
    seen.map(({ url }) => url.pathname),
    ['/v1/vms/vm-1', '/v1/vms/vm-2'],
  );
});

t.test('an object that others use is deleted when they are gone', async (t) => {
  const inUse = (...users: { id: string; being_deleted: boolean }[]) =>
    json(409, { code: 'in_use', title: 'x', detail: users.map(({ id }) => id).join(), users });
  const a = { id: 'vm-a', being_deleted: false };
  const b = { id: 'vm-b', being_deleted: false };
  const never = new AbortController().signal;
  const remove = (client: Client, signal = never, graceMs = 60_000) =>
    deleteWhenUnused(client, '/v1/networks', 'net-1', signal, { intervalMs: 1, graceMs });

  // No grace time applies, because each answer contains a new blocking object, or one that is being deleted.
  const leaving = { ...b, being_deleted: true };
  const patient = await scriptedApi(t, inUse(leaving), inUse(leaving), inUse(leaving), noContent);
  t.equal(await remove(patient.client, never, 0), undefined);
  t.equal(patient.seen.length, 4);

  const stuck = await scriptedApi(t, inUse(a, b), inUse(a), ...Array.from({ length: 500 }, () => inUse(a)));
  await t.rejects(remove(stuck.client, never, 20), { code: 'in_use', problem: { detail: 'vm-a' } });
  t.ok(stuck.seen.length > 2, 'it is tried for a while');

  const timeUp = new AbortController();
  const slow = await scriptedApi(t, inUse(leaving));
  const refused = remove(slow.client, timeUp.signal);
  await until('it is refused', () => slow.seen.length > 0);
  timeUp.abort(Object.assign(new Error('time is up'), { name: 'TimedOut' }));
  await t.rejects(refused, { code: 'in_use' }, 'when the time is over, it says what was in the way');

  const gone = await scriptedApi(t, problem(404, 'not_found'));
  t.equal(await remove(gone.client), undefined, 'nothing to do');
});

t.test('a name is taken over from what gives it up at the same time', async (t) => {
  const schema = schemaOf('vm');
  const vm = { name: 'web', project: 'prj-a' };
  const taken = problem(409, 'name_taken');
  const held = (...holders: readonly object[]) =>
    json(200, { items: holders.map((one) => item('vm-1', one)), revision: 1 });
  const make = (client: Client, graceMs = 60_000) =>
    whenNameIsFree({ client, schema, signal: new AbortController().signal }, vm, () => client.create(schema.path, vm), {
      intervalMs: 1,
      graceMs,
    });
  const elsewhere = { ...vm, project: 'prj-b' };
  const leaving = held(elsewhere, { ...vm, status: { phase: 'deleting' } });
  const stays = held(elsewhere, { ...vm, status: { phase: 'running' } });

  const deleted = await scriptedApi(t, taken, leaving, taken, leaving, taken, held(elsewhere), json(201, item('vm-2')));
  t.match(await make(deleted.client, 0), { id: 'vm-2' }, 'without a grace time: the one that has it is going');
  const keys = deleted.seen.filter(({ method }) => method === 'POST').map(({ headers }) => headers['idempotency-key']);
  t.equal(new Set(keys).size, 4, 'each attempt is a request of its own, which may be answered otherwise');

  const renamed = await scriptedApi(t, taken, stays, taken, stays, json(201, item('vm-2')));
  t.match(await make(renamed.client), { id: 'vm-2' });

  const kept = await scriptedApi(t, taken, stays, taken, stays);
  await t.rejects(make(kept.client, 0), { code: 'name_taken' }, 'a name that nobody gives up is taken');
  const other = await scriptedApi(t, problem(409, 'address_taken'));
  await t.rejects(make(other.client), { code: 'address_taken' });
  t.equal(other.seen.length, 1);
});

t.test('a later read is never older than an earlier answer', async (t) => {
  const { client, seen } = await scriptedApi(
    t,
    json(201, item('vm-1'), { 'ucloud-revision': '17' }),
    json(200, item('vm-1')),
  );
  await client.create('/v1/vms', {});
  await client.read('/v1/vms', 'vm-1');
  t.equal(seen[1]?.headers['ucloud-min-revision'], '17');
});

t.test('many waits are few requests, by long poll', async (t) => {
  const vms = Array.from({ length: 50 }, (_, i) => `vm-${i}`);
  let revision = 1;
  const done = new Set<string>();
  // Each answer comes after a change: ten more run.
  const { client, seen } = await scriptedApi(t, (request, response) => {
    const asked = new URL(request.url ?? '', 'http://x').searchParams.get('ids')?.split(',') ?? [];
    for (const id of asked.filter((one) => !done.has(one)).slice(0, 10)) done.add(id);
    revision++;
    const items = asked.map((id) => item(id, { running: done.has(id) }));
    setTimeout(() => json(200, { items, revision })(request, response), 5);
  });
  const signal = new AbortController().signal;
  const ended = await Promise.all(
    vms.map((id) => client.wait('/v1/vms', item(id, { running: false }), (now) => now?.running === true, signal)),
  );
  t.ok(ended.every((one) => one?.running === true));
  t.equal(seen.length, 5, 'fifty waits in five requests');
  t.ok(seen.every(({ url }) => Number(url.searchParams.get('after')) >= 1 && url.searchParams.get('timeout') === '30'));
});

t.test('a wait ends when it is told to, when its object is gone, and when the server fails', async (t) => {
  const never = await scriptedApi(t, () => {});
  const stop = new AbortController();
  const waiting = never.client.wait('/v1/vms', item('vm-1'), () => false, stop.signal);
  setTimeout(() => stop.abort(new Error('enough')), 100);
  await t.rejects(waiting, { message: 'enough' });

  const { signal } = new AbortController();
  const gone = await scriptedApi(t, json(200, { items: [], revision: 2 }));
  t.equal(await gone.client.wait('/v1/vms', item('vm-1'), (now) => now === undefined, signal), undefined);
  await t.rejects(
    gone.client.wait('/v1/vms', item('vm-1'), (now) => now?.running === true, signal),
    { message: 'vm-1 was deleted meanwhile' },
  );
  const refused = await scriptedApi(t, problem(401, 'unauthenticated'));
  await t.rejects(
    refused.client.wait('/v1/vms', item('vm-1'), () => false, signal),
    { code: 'unauthenticated' },
  );
});

t.test('a wait outlasts an API that is away for longer than a request would', async (t) => {
  const running = item('vm-1', { revision: 2, running: true });
  const { endpoint, seen } = await scriptedApi(t, broken, broken, json(200, { items: [running], revision: 2 }));
  const once = new Client({ endpoint, token: 'x', maxRetries: 0 });
  t.teardown(() => once.close());
  const { signal } = new AbortController();
  t.strictSame(await once.wait('/v1/vms', item('vm-1'), (now) => now?.running === true, signal), running);
  t.equal(seen.length, 3);
});

t.test('says what is wrong with what is not ucloud', async (t) => {
  for (const status of [200, 404]) {
    const { client } = await scriptedApi(
      t,
      (_request, response) => void response.writeHead(status).end('<html>It works!</html>'),
    );
    const error = await client.list('/v1/vms', {}).catch((reason: unknown) => reason);
    if (!(error instanceof ApiError)) throw error;
    t.match(error.problem, {
      title: `Unexpected answer, HTTP ${status}`,
      detail: /Check the endpoint\. The answer begins: <html>It works!/,
    });
  }

  const nobody = new Client({ endpoint: 'http://[::1]:1', token: 'x' });
  t.teardown(() => nobody.close());
  const soon = AbortSignal.timeout(600);
  await t.rejects(nobody.list('/v1/vms', {}, soon), 'keeps trying until it is told to stop');
});

t.test('says why the API cannot be reached, and what to do', async (t) => {
  const { key, pem } = createCertificate();
  const listen = async (server: Server | TlsServer): Promise<number> => {
    await new Promise<void>((resolved) => void server.listen(0, '::1', resolved));
    t.teardown(() => server.close());
    return (server.address() as AddressInfo).port;
  };
  const plain = await listen(createServer((_request, response) => void response.end('{}')));
  let handshakes = 0;
  const secure = createTlsServer({ key: key.export({ type: 'pkcs8', format: 'pem' }), cert: pem });
  secure.on('connection', () => handshakes++);
  const withTls = await listen(secure);
  const own = join(temporaryDirectory(t), 'ca.pem');
  writeFileSync(own, pem);

  const told = async (endpoint: string, more: { caFile?: string; maxRetries?: number } = {}): Promise<string> => {
    const client = new Client({ endpoint, token: 'x', ...more });
    const error = await client.list('/v1/vms', {}).catch((reason: unknown) => explain(reason, 'VMs', new Set()));
    await client.close();
    if (!(error instanceof DiagnosticError)) throw error;
    const [first] = error.diagnostics;
    t.equal(first?.summary, 'VMs: the API cannot be reached');
    return first?.detail ?? '';
  };
  const once = { maxRetries: 0 };
  t.equal(
    await told('http://[::1]:1', once),
    'http://[::1]:1: nothing listens there (ECONNREFUSED).\n\nCheck `endpoint`, and that the API is running.',
  );
  t.match(
    await told('http://nowhere.invalid', once),
    /its host name is not known.*\n\nCheck the spelling of `endpoint`/,
  );
  t.match(await told(`http://[::1]:${withTls}`, once), /closed the connection .*\n\n.*must begin with https:/);
  t.match(await told(`https://[::1]:${plain}`), /does not speak TLS.*\n\n.*begin with http:/);
  handshakes = 0;
  t.match(
    await told(`https://[::1]:${withTls}`),
    /this machine does not trust the signer of its certificate.*\n\nSet `ca_file`, or UCLOUD_CA_FILE/,
  );
  t.equal(handshakes, 1, 'what does not pass by itself is tried once');
  t.match(
    await told(`https://[::1]:${withTls}`, { caFile: own }),
    /its certificate is for another name.*\n\nUse a name in `endpoint` that the certificate contains/,
  );
});

t.test('where the API is: provider block, environment, credentials file', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'credentials.json');
  const file = { endpoint: 'https://[::1]:7780', token: 'from-file', project: 'prj-file', ca_file: '/ca.pem' };
  writeFileSync(path, JSON.stringify(file));
  const env = { UCLOUD_CREDENTIALS: path };
  const told = (run: () => unknown) => {
    try {
      return run();
    } catch (error) {
      if (error instanceof DiagnosticError) return error.diagnostics[0];
      throw error;
    }
  };

  t.strictSame(resolve({}, env), file, 'the file alone');
  t.strictSame(
    resolve({}, { ...env, UCLOUD_TOKEN: 'from-env' }),
    { endpoint: file.endpoint, token: 'from-env', project: undefined, ca_file: '/ca.pem' },
    'the environment comes first; another token has another project',
  );
  t.match(
    resolve({ token: 'from-block' }, { ...env, UCLOUD_TOKEN: 'from-env' }),
    { token: 'from-block' },
    'the block before both',
  );
  t.match(resolve({}, { ...env, UCLOUD_PROJECT: 'prj-env' }), { token: 'from-file', project: 'prj-env' });

  t.match(
    told(() => resolve({ endpoint: 'https://elsewhere.example' }, env)),
    {
      summary: 'No token is configured',
      detail: /for https:\/\/\[::1\]:7780\. The provider does not send it to https:\/\/elsewhere.example/,
      path: ['token'],
    },
    'the token of the file goes to the endpoint of the file only',
  );
  t.match(
    told(() => resolve({}, { UCLOUD_CREDENTIALS: join(directory, 'none') })),
    { summary: 'No endpoint is configured', path: ['endpoint'] },
  );
  t.match(
    told(() => resolve({ endpoint: 'ftp://x', token: 'x' }, env)),
    { detail: 'Must begin with `https://` or `http://`, not `ftp:`.' },
  );
  t.match(
    told(() => resolve({ endpoint: 'http://u:p@x', token: 'x' }, env)),
    { detail: /^Must not contain a user name/ },
  );

  const spelled = Object.fromEntries(Object.entries(file).map(([name, value]) => [name, ` ${value}\r\n`]));
  t.strictSame(resolve(spelled, {}), file, 'line ends and blanks around values mean nothing in the block');
  const environment = Object.entries(spelled).map(([name, value]) => [`UCLOUD_${name.toUpperCase()}`, value]);
  t.strictSame(resolve({}, Object.fromEntries(environment)), file, 'nor in the environment');
  writeFileSync(path, JSON.stringify(spelled));
  t.strictSame(resolve({}, { UCLOUD_CREDENTIALS: `${path}\n` }), file, 'nor in the file, nor in its path');
  for (const token of ['one two', 'one\ntwo', 'ümlaut']) {
    const named = told(() => resolve({ endpoint: 'http://x', token }, env));
    t.match(named, { summary: 'The token is not usable', detail: /a line end or another character/, path: ['token'] });
    t.notMatch(JSON.stringify(named), token);
  }

  writeFileSync(path, '{"token": "secret"');
  const wrong = told(() => resolve({}, env));
  t.match(wrong, { summary: 'The credentials file cannot be used', detail: `${path}: it is not JSON.` });
  t.notMatch(JSON.stringify(wrong), /secret/, 'what is in the file stays there');
});

t.test('blanks and line ends around a value are none of it; within it they are named', async (t) => {
  const path = join(temporaryDirectory(t), 'credentials.json');
  const wanted = { endpoint: 'https://cloud.example', token: 'secret', project: 'prj-1', ca_file: '/ca.pem' };
  const spaced = Object.fromEntries(Object.entries(wanted).map(([name, value]) => [name, ` ${value}\r\n`]));
  const none = { UCLOUD_CREDENTIALS: join(path, 'none') };
  t.strictSame(resolve(spaced, none), wanted, 'in the provider block');
  const variables = Object.entries(spaced).map(([name, value]) => [`UCLOUD_${name.toUpperCase()}`, value]);
  t.strictSame(resolve({}, { ...none, ...Object.fromEntries(variables) }), wanted, 'in the environment');
  writeFileSync(path, JSON.stringify(spaced));
  t.strictSame(
    resolve({}, { UCLOUD_CREDENTIALS: path, UCLOUD_TOKEN: ' \n' }),
    wanted,
    'in the file; blanks are nothing',
  );

  const told = (block: Settings, env: Record<string, string> = {}) => {
    try {
      resolve(block, { ...none, ...env });
    } catch (error) {
      if (error instanceof DiagnosticError) return error.message;
    }
    return 'nothing';
  };
  const endpoint = 'https://cloud.example';
  for (const token of ['two words', 'two\nlines', 'schl\u00fcssel', 'a\u0000b']) {
    t.match(told({ endpoint, token }), /^The token is not usable: It contains a blank, a line end/);
    t.match(told({ endpoint }, { UCLOUD_TOKEN: token }), /^The token is not usable: UCLOUD_TOKEN: It contains a blank/);
    t.notOk(told({ endpoint, token }).includes(token), 'and is not shown');
  }
  t.match(told({ endpoint, token: ' ' }), /It is empty/);
});

t.test('an endpoint with a path is refused, and it is said what to write', async (t) => {
  for (const [endpoint, path] of [
    ['https://cloud.example:7780/v1', '/v1'],
    [' https://cloud.example:7780/v1/ \n', '/v1/'],
    ['https://cloud.example:7780//', '//'],
  ] as const) {
    t.equal(endpointProblem(endpoint), `Must not have a path (\`${path}\`): write \`https://cloud.example:7780\`.`);
    t.throws(() => resolve({ token: 'x' }, { UCLOUD_ENDPOINT: endpoint }), {
      message: /^The endpoint is not usable: UCLOUD_ENDPOINT: Must not have a path/,
    });
  }
  t.equal(endpointProblem('https://cloud.example/'), undefined);
});

t.test('a ca_file that cannot be used is named, with where it is configured', async (t) => {
  const directory = temporaryDirectory(t);
  const { pem, key } = createCertificate();
  const file = (name: string, content: string) => {
    writeFileSync(join(directory, name), content);
    return join(directory, name);
  };
  const told = (caFile: string, caFileFrom?: string) => {
    try {
      void new Client({ endpoint: 'https://cloud.example', token: 'x', caFile, caFileFrom }).close();
    } catch (error) {
      if (error instanceof DiagnosticError) return error.diagnostics[0];
      throw error;
    }
    return undefined;
  };
  for (const [path, why] of [
    [join(directory, 'none'), /there is no such file/],
    [directory, /it is a directory/],
    [file('empty', ' \n'), /it is empty/],
    [file('words', 'hello'), /it contains no certificate in PEM/],
    [
      file('key', key.export({ type: 'pkcs8', format: 'pem' }) as string),
      /it contains a private key and no certificate/,
    ],
    [file('cut', pem.replace(/\n.{10}/, '\n')), /certificate 1 of 1 cannot be read/],
    [file('second', `${pem}${pem.replace(/\n.{10}/, '\n')}`), /certificate 2 of 2 cannot be read/],
  ] as const) {
    const said = told(path);
    t.match(said, { summary: '`ca_file` names a file that cannot be used', detail: why, path: ['ca_file'] });
    t.ok(said?.detail?.startsWith(`${path}: `), 'with its path');
    t.match(told(path, 'UCLOUD_CA_FILE'), { summary: 'UCLOUD_CA_FILE names a file that cannot be used' });
  }
  t.equal(told(file('good', `# mine\r\n${pem.replaceAll('\n', '\r\n')}\r\n${pem}`)), undefined);

  const block = { ca_file: '/a' };
  t.equal(sourceOf('ca_file', block, { UCLOUD_CA_FILE: '/b' }), '`ca_file`');
  t.equal(sourceOf('ca_file', {}, { UCLOUD_CA_FILE: '/b' }), 'UCLOUD_CA_FILE');
  t.equal(sourceOf('ca_file', {}, { UCLOUD_CREDENTIALS: '/c' }), '`ca_file` of /c');
});
