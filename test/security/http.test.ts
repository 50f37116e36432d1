/** Each request on a connection gets its own answer, and every answer is documented. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { startTestApi, type TestApi } from '../support/api.ts';
import { bound } from '../support/bound-store.ts';
import { head, largeState, RawConnection, type RawResponse, responsesIn } from '../support/hostile-tenant.ts';
import { openApiDocument, violation } from '../support/openapi.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { withStore } from '../support/stores.ts';

interface Problem {
  readonly code: string;
  readonly status: number;
  readonly request_id: string;
}

/** It is a problem of the document, with the id that its header says. */
function checkProblem(t: Test, response: RawResponse | undefined, status: number, what: string): void {
  t.equal(response?.status, status, what);
  if (!response) return;
  t.match(response.headers['content-type'], /^application\/problem\+json/, what);
  const problem: Problem = JSON.parse(response.body);
  t.equal(problem.status, status, what);
  t.equal(problem.request_id, response.headers['request-id'], what);
  t.ok(response.headers.date, what);
  const wrong = violation({ method: '', url: what, operation: undefined, ...response });
  t.equal(wrong, undefined, what);
}

async function answersTo(test: TestApi, bytes: string): Promise<readonly RawResponse[]> {
  return responsesIn(await new RawConnection(test.url).send(bytes).toEnd());
}

t.test('malformed bytes behind a request take the answer of no request', async (t) => {
  const test = await startTestApi(t);
  const good = head('GET', '/v1/token', test.operatorToken);
  const list = head('GET', '/v1/vms', test.operatorToken);
  const { revision } = await test.operator.list('vms');
  const waits = head('GET', `/v1/vms?after=${revision}&timeout=1`, test.operatorToken);
  const garbage: readonly (readonly [what: string, bytes: string, status: number])[] = [
    ['no HTTP', 'EHLO example.net\r\n\r\n', 400],
    ['no method', ' / HTTP/1.1\r\n\r\n', 400],
    ['two lengths', `POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400],
    [
      'length and chunks',
      `POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}`,
      400,
    ],
    ['a length that is none', `POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n`, 400],
    ['a header without a colon', `GET /v1/vms HTTP/1.1\r\nHost x\r\n\r\n`, 400],
    ['a header that is folded', `GET /v1/vms HTTP/1.1\r\nHost: x\r\n y: z\r\n\r\n`, 400],
    ['NUL in a header', `GET /v1/vms HTTP/1.1\r\nHost: x\0\r\n\r\n`, 400],
    ['headers of 64 kB', `GET /v1/vms HTTP/1.1\r\nX: ${'x'.repeat(65_536)}\r\n\r\n`, 431],
    ['a path of 64 kB', `GET /${'x'.repeat(65_536)} HTTP/1.1\r\n\r\n`, 431],
    ['a version from the future', 'GET / HTTP/9.9\r\n\r\n', 400],
    ['CONNECT', 'CONNECT example.net:443 HTTP/1.1\r\nHost: x\r\n\r\n', 405],
  ];
  for (const [what, bytes, status] of garbage) {
    for (const before of [[], [good], [good, list], [waits, good]]) {
      const answers = await answersTo(test, before.join('') + bytes);
      t.same(
        answers.map((answer) => answer.status),
        [...before.map(() => 200), status],
        `${before.length} and ${what}`,
      );
      checkProblem(t, answers.at(-1), status, what);
      if (before.length === 1) t.match(JSON.parse(answers[0]?.body ?? ''), { role: 'operator' }, what);
      t.equal(answers.at(-1)?.headers.connection, 'close');
    }
  }
});

t.test('requests that are sent ahead are answered one after the other, in their order', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, operatorToken } = test;
  const key = (name: string) => JSON.stringify({ name, project, public_key: testPublicKey });
  const post = (name: string) =>
    head('POST', '/v1/ssh-keys', operatorToken, [
      'Content-Type: application/json',
      `Content-Length: ${key(name).length}`,
    ]) + key(name);
  const { revision } = await operator.list('ssh-keys');
  const connection = new RawConnection(test.url).send(
    head('GET', `/v1/vms?after=${revision}&timeout=1`, operatorToken) +
      post('a') +
      head('GET', '/v1/ssh-keys', operatorToken) +
      head('GET', '/v1/nothing', operatorToken) +
      post('b') +
      head('GET', '/v1/ssh-keys', operatorToken, ['Connection: close']),
  );
  const answers = responsesIn(await connection.toEnd());
  t.same(
    answers.map(({ status }) => status),
    [200, 201, 200, 404, 201, 200],
  );
  t.same(
    answers.map(({ body }) =>
      (JSON.parse(body).items as { name: string }[] | undefined)?.map(({ name }) => name).sort(),
    ),
    [[], undefined, ['a'], undefined, undefined, ['a', 'b']],
    'the first list does not see what was sent behind it',
  );
  const many = new RawConnection(test.url).send(head('GET', '/healthz').repeat(100));
  t.equal((await many.responses(100)).filter(({ status }) => status === 200).length, 100);
  many.end();
  const flood = new RawConnection(test.url).send(
    head('GET', `/v1/vms?after=${1e15}&timeout=60`, operatorToken) + head('GET', '/healthz').repeat(5000),
  );
  await flood.closed;
  t.equal(flood.text, '', 'who sends thousands ahead is not served');
});

t.test('every answer of the server is a documented problem, or what was asked for', async (t) => {
  const test = await startTestApi(t, { arrivalTimeout: 1500 });
  const { operator, project, operatorToken: token } = test;
  const made = await operator.create('ssh-keys', { name: 'k', project, public_key: testPublicKey });
  const path = `/v1/ssh-keys/${made.id}`;
  const json = 'Content-Type: application/json';
  const close = 'Connection: close';
  const cases: readonly (readonly [what: string, bytes: string, ...statuses: number[]])[] = [
    ['a body on DELETE', `${head('DELETE', path, token, [json, 'Content-Length: 2', close])}{}`, 400],
    [
      'text on DELETE',
      `${head('DELETE', path, token, ['Content-Type: text/plain', 'Content-Length: 2', close])}{}`,
      400,
    ],
    ['no JSON on DELETE', `${head('DELETE', path, token, [json, 'Content-Length: 2', close])}x}`, 400],
    ['a large body on DELETE', head('DELETE', path, token, [json, 'Content-Length: 99999999', close]), 400],
    ['chunks on DELETE', `${head('DELETE', path, token, [json, 'Transfer-Encoding: chunked', close])}0\r\n\r\n`, 400],
    ['a body on GET', `${head('GET', path, token, [json, 'Content-Length: 2', close])}{}`, 400],
    [
      'a body on a path that is not there',
      `${head('POST', '/v1/x', token, ['Content-Type: a/b', 'Content-Length: 2', close])}{}`,
      404,
    ],
    ['an expectation', head('GET', path, token, ['Expect: tea', close]), 417],
    ['an expectation that is met', head('GET', path, token, ['Expect: 100-continue', close]), 200],
    ['no Host', `GET ${path} HTTP/1.1\r\nAuthorization: Bearer ${token}\r\n${close}\r\n\r\n`, 400],
    ['two Hosts', head('GET', path, token, ['Host: y', close]), 400],
    ['HTTP/1.0', `GET ${path} HTTP/1.0\r\nAuthorization: Bearer ${token}\r\n\r\n`, 200],
    ['an upgrade', head('GET', path, token, ['Upgrade: websocket', 'Connection: Upgrade, close']), 200],
    [
      'an upgrade to HTTP/2',
      head('GET', path, token, ['Upgrade: h2c', 'HTTP2-Settings: AAA', 'Connection: Upgrade, close']),
      200,
    ],
    ['an absolute target', head('GET', `http://x${path}`, token, [close]), 200],
    ['an absolute target that is not there', head('GET', 'http://x/v1/x', token, [close]), 404],
    ['a method that an absolute target has not', head('DELETE', 'http://x/v1/vms', token, [close]), 405],
    ['an asterisk', head('OPTIONS', '*', token, [close]), 404],
    ['OPTIONS', head('OPTIONS', '/v1/vms', token, [close]), 405],
    ['TRACE', head('TRACE', '/v1/vms', token, [close]), 405],
    ['PUT', head('PUT', path, token, [close]), 405],
    ['QUERY', head('QUERY', '/v1/vms', token, [close]), 405],
    ['POST to a document', head('POST', '/openapi.yaml', token, ['Content-Length: 0', close]), 405],
    [
      'a coding that is not read',
      `${head('POST', '/v1/ssh-keys', token, [json, 'Content-Encoding: gzip', 'Content-Length: 2', close])}{}`,
      415,
    ],
    [
      'a transfer coding that is not read',
      `${head('POST', '/v1/ssh-keys', token, [json, 'Transfer-Encoding: gzip, chunked', close])}0\r\n\r\n`,
      400,
    ],
    [
      'a chunk that is none',
      `${head('POST', '/v1/ssh-keys', token, [json, 'Transfer-Encoding: chunked', close])}zz\r\n`,
      400,
    ],
    ['a body that does not come', head('POST', '/v1/ssh-keys', token, [json, 'Content-Length: 10', close]), 408],
    ['headers that do not end', `GET ${path} HTTP/1.1\r\nHost: x\r\nX-Slow: `, 408],
    ['nothing at all', '', 408],
    ['a percent sign', head('GET', '/v1/vms/%', token, [close]), 400],
    ['a parameter of 5 kB', head('GET', `/v1/vms/${'a'.repeat(5000)}`, token, [close]), 400],
    ['trailing garbage', `${head('GET', path, token)}\0\0\0`, 200, 400],
    [
      'more than the length says',
      `${head('POST', '/v1/ssh-keys', token, [json, 'Content-Length: 2'])}{}{}{}`,
      400,
      400,
    ],
    [
      'two requests with a blank line between',
      `${head('GET', path, token)}\r\n${head('GET', path, token, [close])}`,
      200,
      200,
    ],
  ];
  const documented = new Set([
    ...Object.keys(openApiDocument['x-other-responses'] as object),
    ...Object.values(openApiDocument.paths as Record<string, Record<string, { responses?: object }>>).flatMap((item) =>
      Object.values(item).flatMap(({ responses }) => Object.keys(responses ?? {})),
    ),
  ]);
  await Promise.all(
    cases.map(async ([what, bytes, ...statuses]) => {
      const answers = await answersTo(test, bytes);
      t.same(
        answers.map(({ status }) => status),
        statuses,
        what,
      );
      for (const answer of answers) {
        t.ok(documented.has(String(answer.status)), `${what}: ${answer.status} is documented`);
        if (answer.status >= 400) checkProblem(t, answer, answer.status, what);
        if (answer.status === 405) t.match(answer.headers.allow, /GET/, what);
      }
    }),
  );
  const { headers } = await operator.expect(200, 'HEAD', path);
  t.ok(Number(headers.get('content-length')) > 100, 'HEAD says what GET would send');
  t.equal((await operator.get('ssh-keys', made.id)).name, 'k', 'nothing has changed');
});

t.test('HEAD of a large state makes nothing of it', async (t) => {
  const store = await withStore(t);
  let pieces = 0;
  const counting = (key: string) => {
    if (key.startsWith('terraform-state-chunks/')) pieces++;
    return store.get(key);
  };
  const test = await startTestApi(t, { store: { ...bound(store), get: counting } });
  const { url, project } = test;
  const member = await test.member(project);
  const text = largeState(1, 4_000_000, randomBytes);
  await member.expect(200, 'POST', '/v1/terraform-states/s', text);
  const connection = new RawConnection(url).send(
    head('HEAD', '/v1/terraform-states/s', member.token, ['Connection: close']),
  );
  const answer = await connection.toEnd();
  t.match(answer, /^HTTP\/1.1 200 .*\r\n\r\n$/s);
  t.match(answer, new RegExp(`content-length: ${text.length}\r\n`, 'i'));
  t.match(answer, /content-md5/i);
  const read = pieces;
  t.ok(read <= 1, `${read} pieces were read`);
  await member.expect(200, 'GET', '/v1/terraform-states/s');
  const whole = pieces - read;
  t.ok(whole > 4, `GET reads ${whole}`);
  await member.expect(200, 'HEAD', '/v1/terraform-states/s');
  t.ok(pieces <= read + whole + 1, 'no more was read meanwhile');
});
