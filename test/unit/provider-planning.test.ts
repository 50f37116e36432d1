/** What the provider asks the API while it plans: much at once, and nothing twice. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { Client } from '../../provider/client/client.ts';

interface Question {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

/** A server that gives these answers in turn, and the last one from then on. */
async function scripted(t: Test, ...answers: readonly (readonly [status: number, body: object])[]) {
  const asked: Question[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    request.on('end', () => {
      const [status, body] = answers[Math.min(asked.length, answers.length - 1)] ?? [500, {}];
      asked.push({ method: request.method ?? '', path: request.url ?? '', body: text ? JSON.parse(text) : undefined });
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
  });
  await new Promise<void>((resolved) => void server.listen(0, '::1', resolved));
  const { port } = server.address() as AddressInfo;
  const client = new Client({ endpoint: `http://[::1]:${port}`, token: 'secret' });
  t.teardown(async () => {
    await client.close();
    server.closeAllConnections();
    await new Promise((resolved) => server.close(resolved));
  });
  return { client, asked };
}

const notFound = [404, { code: 'not_found', title: 'x', detail: 'x', status: 404 }] as const;

t.test('what is planned asks together whether there is room, and counts with what was planned before', async (t) => {
  const told = {
    refusals: [
      { pointer: '/vms/0', first: 0, count: 9, reason: 'no_host', message: 'told before' },
      { pointer: '/vms/1/memory', first: 1, count: 2, reason: 'no_host', message: 'too large' },
      { pointer: '/vms/3/memory', first: 1, count: 15, reason: 'no_host', message: 'too large' },
      { pointer: '/networks', first: 0, count: 4, reason: 'quota_exceeded', message: 'too many' },
    ],
    revision: 1,
  };
  const { client, asked } = await scripted(t, [200, { refusals: [], revision: 1 }], [200, told]);
  const { capacity } = client;
  const small = { cpus: 1, memory: '1GiB' };
  const large = { cpus: 1, memory: '64GiB' };
  const first = await Promise.all(Array.from({ length: 1000 }, () => capacity.check('prj-1', { ...small })));
  t.strictSame(first.flat(), []);
  const thousand = { ...small, count: 1000 };
  t.strictSame(
    asked,
    [
      {
        method: 'POST',
        path: '/v1/capacity-checks',
        body: { project: 'prj-1', vms: [thousand, thousand], leaving: [] },
      },
    ],
    'one request, for as many again',
  );

  capacity.exists('vms', 'prj-1', 'web', 'vm-1');
  capacity.replacesNamed('vms', 'prj-1', 'web');
  capacity.replacesNamed('vms', 'prj-1', 'other');
  capacity.leaves('net-1');
  const second = await Promise.all(
    [large, large, large, 'networks' as const, small].map((what) => capacity.check('prj-1', what)),
  );
  t.strictSame(asked[1]?.body, {
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
  t.equal(asked.length, 2, 'what was said of the next ones is told without a request');
  capacity.leaves('vm-2');
  await capacity.check('prj-1', large);
  t.match(
    asked[2]?.body,
    { vms: [{ count: 1001 }, { ...large, count: 8 }, { ...large, count: 1 }] },
    'until one leaves',
  );

  capacity.end();
  t.strictSame(await capacity.check('prj-1', large), []);
  t.equal(asked.length, 3, 'what is being applied is not asked for any more');
});

t.test('an API that does not know the question is asked once', async (t) => {
  const { client, asked } = await scripted(t, notFound);
  t.strictSame(await client.capacity.check('prj-1', 'networks'), []);
  t.strictSame(await client.capacity.check('prj-1', { cpus: 1 }), []);
  t.equal(asked.length, 1);
});

t.test('a question that fails is not sent again, and fails for who asked', async (t) => {
  const unavailable = { code: 'store_unavailable', title: 'x', detail: 'x', status: 503 };
  const { client, asked } = await scripted(t, [503, unavailable], [200, { refusals: [], revision: 1 }]);
  await t.rejects(client.capacity.check('prj-1', { cpus: 1 }), { code: 'store_unavailable' });
  t.equal(asked.length, 1);
  t.strictSame(await client.capacity.check('prj-1', { cpus: 1 }), []);
  t.match(asked[1]?.body, { vms: [{ count: 1 }, { count: 1 }, { count: 16 }] }, 'what was planned then counts');
});

t.test('what was found once is not asked for again', async (t) => {
  const item = (id: string) => [200, { id, revision: 1 }] as const;
  const { client, asked } = await scripted(t, item('img-1'), notFound, item('img-2'));
  for (let i = 0; i < 3; i++) t.match(await client.known('/v1/images', 'img-1'), { id: 'img-1' });
  t.equal(await client.known('/v1/images', 'img-2'), undefined);
  t.match(await client.known('/v1/images', 'img-2'), { id: 'img-2' }, 'what was not there may have come');
  t.strictSame(
    asked.map(({ path }) => path),
    ['/v1/images/img-1', '/v1/images/img-2', '/v1/images/img-2'],
  );
});
