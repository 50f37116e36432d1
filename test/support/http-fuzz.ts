/** A fuzzer for HTTP: it sends wrong requests over bare connections, and checks that each answer is documented. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startApi } from '../../backend/api/start.ts';
import { newStateKeyFile, parseStateKeys } from '../../backend/api/terraform-state/keys.ts';
import { ensureOperatorToken, ensureProject } from '../../backend/api/tokens/first-operator-token.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { RawConnection, responsesIn } from './hostile-tenant.ts';
import { type Operation, operations, violation } from './openapi.ts';
import { Random } from './random.ts';
import { silentLogger } from './silent-logger.ts';

export interface FuzzReport {
  readonly requests: number;
  readonly statuses: Readonly<Record<string, number>>;
  /** The faults, each after its seed. */
  readonly faults: readonly string[];
}

const methods = ['GET', 'POST', 'PATCH', 'DELETE', 'HEAD', 'PUT', 'OPTIONS', 'TRACE', 'QUERY', 'BREW', 'get', ''];
const texts = [
  '',
  'a',
  '\0',
  '\u001b[2J',
  '😀',
  '\\ud800',
  '../..',
  '%00',
  "';--",
  '$(reboot)',
  'ﬀ',
  'a'.repeat(300),
  '-0',
  '1e999',
];
const numbers = [
  '0',
  '-1',
  '1.5',
  '1e999',
  '-1e999',
  '9007199254740993',
  '1e-400',
  '00',
  '0x1',
  'NaN',
  '1'.repeat(400),
];
const headerLines = [
  'Content-Type: text/plain',
  'Content-Type: application/json; charset=utf-16',
  'Content-Type: ',
  'Content-Encoding: gzip',
  'Transfer-Encoding: gzip',
  'Transfer-Encoding: chunked, chunked',
  'Expect: 100-continue',
  'Expect: x',
  'Host: y',
  'Upgrade: websocket',
  'Connection: upgrade',
  'If-Match: x',
  'If-Match: "1"',
  'If-None-Match: *',
  'Range: bytes=0-1',
  'Idempotency-Key: a b',
  'Idempotency-Key: a',
  'UCloud-Min-Revision: x',
  'UCloud-Min-Revision: 99999999',
  'Content-MD5: x',
  'Request-Id: a',
  'X-Forwarded-For: ::1',
  'Accept: text/html',
  'Accept-Encoding: br',
  'X-HTTP-Method-Override: DELETE',
  'Cookie: a=b',
  'bad header',
  'X: \x01',
  ': x',
  'Content-Length: 5',
  'Content-Length: -1',
  'Content-Length: 1e3',
];

function diceOf(seed: number) {
  const random = new Random(seed);
  return {
    int: (below: number): number => random.below(below),
    // There are values in all lists here.
    pick: <T>(values: readonly T[]): T => values[random.below(values.length)] as T,
  };
}
type Dice = ReturnType<typeof diceOf>;

function wildValue(random: Dice, depth = 0): string {
  switch (random.int(9)) {
    case 0:
      return random.pick(numbers);
    case 1:
      return 'null';
    case 2:
      return random.pick(['true', 'false']);
    case 3:
      return depth > 3 ? '[]' : `[${Array.from({ length: random.int(4) }, () => wildValue(random, depth + 1)).join()}]`;
    case 4:
      return depth > 3
        ? '{}'
        : `{${Array.from({ length: random.int(4) }, () => `${JSON.stringify(random.pick([...texts, '__proto__', 'name', 'constructor']))}:${wildValue(random, depth + 1)}`).join()}}`;
    case 5:
      return `${'['.repeat(random.pick([60, 70, 5000]))}${']'.repeat(random.pick([60, 70, 5000]))}`;
    default:
      return JSON.stringify(random.pick(texts)).replace('\\\\ud800', '\\ud800');
  }
}

/** Returns the example of the operation with random values in some fields. */
function wildBody(random: Dice, operation: Operation | undefined): string {
  if (random.int(12) === 0)
    return random.pick(['', '{', '{}x', '\xff\xfe', '[]', '"x"', '{"a":1,"a":2}', ' '.repeat(5000)]);
  const example: Record<string, unknown> = { ...(operation?.body ?? { name: 'x' }) };
  const fields = Object.entries(example).map(([name, value]) => [name, JSON.stringify(value)] as const);
  const changed = fields.map(
    ([name, text]) => `${JSON.stringify(name)}:${random.int(4) === 0 ? wildValue(random) : text}`,
  );
  if (random.int(6) === 0) changed.push(`${JSON.stringify(random.pick(texts))}:${wildValue(random)}`);
  return `{${changed.join()}}`;
}

function wildPath(random: Dice, operation: Operation | undefined, ids: readonly string[]): string {
  if (!operation)
    return random.pick([
      '/',
      '/docs',
      '/openapi.yaml',
      '/healthz',
      '/v1',
      '/v1/x',
      '//',
      '*',
      'x',
      '/v1/vms/../..',
      '/%',
      '/\x7f',
      'http://x/v1/vms',
      '/.well-known/terraform.json',
      '/terraform/files/a/b/c',
    ]);
  const part = () =>
    random.pick([...ids, 'vm-0123456789abcdef', 'x', '%00', '..%2f', '%zz', 'a'.repeat(120), '1', '%F0%9F%98%80']);
  const path = operation.path.replace(/\{\w+\}/g, part);
  const query = Array.from({ length: random.int(3) }, () => {
    const name = random.pick([
      'limit',
      'page_token',
      'after',
      'timeout',
      'selector',
      'name',
      'ids',
      'project',
      'x',
      '__proto__',
      'force',
      'ID',
      'target',
      'order',
    ]);
    return `${name}=${random.pick(['0', '1', '-1', '1e9', '%00', 'x', 'a%3Db', '%27', '', ...ids])}`;
  });
  return path + (query.length > 0 ? `?timeout=0&${query.join('&')}` : '');
}

function wildRequest(random: Dice, token: string, ids: readonly string[], last: boolean): string {
  const operation = random.int(10) === 0 ? undefined : random.pick([...operations.values()]);
  const usual = operation?.method ?? 'GET';
  const method = random.int(10) === 0 ? random.pick(methods) : usual;
  const hasBody = random.int(8) === 0 ? random.int(2) === 0 : operation?.body !== undefined;
  const body = hasBody ? wildBody(random, operation) : '';
  const chunked = hasBody && random.int(8) === 0;
  const bytes = Buffer.from(body);
  const lines = [
    ...(random.int(50) === 0 ? [] : ['Host: x']),
    ...(random.int(15) === 0
      ? [`Authorization: ${random.pick(['Basic eDp5', 'Bearer x', 'Bearer', '', `bearer ${token}x`])}`]
      : [`Authorization: Bearer ${token}`]),
    ...(hasBody && random.int(20) > 0 ? ['Content-Type: application/json'] : []),
    ...(chunked
      ? ['Transfer-Encoding: chunked']
      : hasBody
        ? [`Content-Length: ${bytes.length + (random.int(60) === 0 ? random.pick([-1, 1, 100]) : 0)}`]
        : []),
    ...(random.int(5) === 0 ? [random.pick(headerLines)] : []),
    ...(last ? ['Connection: close'] : []),
  ];
  const sent = bytes.toString('latin1');
  const content = chunked ? `${bytes.length.toString(16)}\r\n${sent}\r\n0\r\n\r\n` : sent;
  const version = random.int(40) === 0 ? random.pick(['1.0', '2.0', '9', '0.9']) : '1.1';
  const text = `${method} ${wildPath(random, operation, ids)} HTTP/${version}\r\n${lines.join('\r\n')}\r\n\r\n${content}`;
  if (random.int(60) > 0) return text;
  // One byte of it is another.
  const at = random.int(text.length);
  return text.slice(0, at) + String.fromCharCode(random.int(256)) + text.slice(at + 1);
}

/** Sends this number of requests, and reports the faults. The same seed sends the same requests. */
export async function fuzz(count: number, seed: number): Promise<FuzzReport> {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-fuzz-'));
  const store = await openEmbeddedStore({ path: join(directory, 'store.db') });
  const faults: string[] = [];
  const statuses: Record<string, number> = {};
  const logger = {
    ...silentLogger,
    error: (fields: object, message: string) => {
      const { err } = fields as { err?: Error };
      faults.push(`${message}: ${err?.stack ?? JSON.stringify(fields)}`);
    },
  };
  const token = (await ensureOperatorToken(store, 'fuzz'))?.secret ?? '';
  const project = await ensureProject(store, 'default');
  const api = await startApi({
    store,
    logger,
    listen: { host: '::1', port: 0 },
    stateKeys: parseStateKeys(newStateKeyFile()),
    rateLimit: { requestsPerMinute: 1e9, failuresPerMinute: 1e9 },
    arrivalTimeout: 2000,
    // A changed byte may be in the header that ends the connection.
    limits: { keepAliveTimeout: 1000 },
    onResponse: (response) => {
      statuses[response.status] = (statuses[response.status] ?? 0) + 1;
      const wrong = violation(response);
      if (wrong !== undefined) faults.push(wrong);
    },
  });
  let sent = 0;
  const round = async (number: number) => {
    const random = diceOf(seed + number);
    const requests = Array.from({ length: random.int(4) }, () => wildRequest(random, token, [project], false));
    requests.push(wildRequest(random, token, [project], true));
    sent += requests.length;
    const connection = new RawConnection(api.url).send(requests.join(''));
    const timer = setTimeout(() => {
      faults.push(`seed ${seed + number}: no end after a minute: ${JSON.stringify(requests).slice(0, 2000)}`);
      connection.end();
    }, 60_000);
    const text = await connection.toEnd();
    clearTimeout(timer);
    try {
      for (const { status, headers } of responsesIn(text)) {
        const wrong = status >= 400 && !/^application\/problem\+json/.test(headers['content-type'] ?? '');
        if (wrong || status === 500 || !headers['request-id'])
          faults.push(`seed ${seed + number}: ${status} ${JSON.stringify(headers)}`);
      }
    } catch (error) {
      // This reader cannot tell the next answer from a body after HEAD.
      if (!requests.some((request) => request.startsWith('HEAD')))
        faults.push(`seed ${seed + number}: ${(error as Error).message}`);
    }
  };
  let next = 0;
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      while (sent < count) await round(next++);
    }),
  );
  const alive = await fetch(`${api.url}/healthz`);
  if (alive.status !== 200) faults.push(`the server does not live: ${alive.status}`);
  await api.close();
  await store.close();
  rmSync(directory, { recursive: true, force: true });
  return { requests: sent, statuses, faults };
}
