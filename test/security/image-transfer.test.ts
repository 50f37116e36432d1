/** Images on their way to hosts: strangers at the image server, and servers that are hostile to a host. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { request } from 'node:https';
import { connect, type Socket } from 'node:net';
import type { NetworkInterfaceInfo } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import type { Logger } from '../../backend/model/component.ts';
import { imageTransferTls } from '../../backend/model/image/transfer.ts';
import { defaultServerLimits } from '../../backend/scanner/image-server.ts';
import { listenUrls } from '../../backend/scanner/listen-urls.ts';
import { startTestApi } from '../support/api.ts';
import { type Cluster, clusterOn, MiB, withCluster } from '../support/cluster.ts';
import { until, within } from '../support/eventually.ts';
import {
  announce,
  declare,
  hostileServer,
  place,
  serve,
  startFetchingHost,
  type TestImage,
  testImage,
} from '../support/image-transfer.ts';

interface Asked {
  readonly identity: string;
  readonly secret: string;
  readonly path: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
}

/** Returns the status and the body, or the code of the error. */
function ask(port: number, { identity, secret, path, method = 'GET', headers = {} }: Asked) {
  return new Promise<{ status?: number; body: Buffer; error?: string | undefined }>((resolve) => {
    const options = {
      ...imageTransferTls,
      ...{ host: '::1', port, path, method, headers, agent: false },
      pskCallback: () => ({ identity, psk: Buffer.from(secret, 'hex') }),
      checkServerIdentity: () => undefined,
    };
    const sent = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
      response.on('error', () => resolve({ body: Buffer.concat(chunks), error: 'cut' }));
    });
    sent.on('error', (error: NodeJS.ErrnoException) => resolve({ body: Buffer.alloc(0), error: error.code }));
    sent.end();
  });
}

const get = (port: number, image: TestImage, more: Partial<Asked> = {}) =>
  ask(port, { identity: image.id, secret: image.secret, path: `/images/${image.id}`, ...more });

t.test('without the secret of an image, no request reaches the image server', async (t) => {
  const [image, other] = [testImage(1000), testImage(1000)];
  const { port } = await serve(t, [image, other]);
  t.match(await get(port, image), { status: 200, body: image.content });
  const random = randomBytes(32).toString('hex');
  const refused = [
    await get(port, image, { secret: random }),
    await get(port, image, { secret: other.secret }),
    await get(port, image, { identity: 'img-0000000000000000', secret: random }),
    await get(port, image, { identity: '__proto__', secret: random }),
  ];
  const codes = refused.map(({ error }) => error);
  t.same(codes, [codes[0], codes[0], codes[0], codes[0]], 'an unknown image fails like a wrong secret');
  t.ok(codes[0], 'all of them fail in the handshake');
  t.ok(refused.every(({ body }) => body.length === 0));

  const plain = await within(
    'an ordinary TLS client fails',
    new Promise((resolve) => {
      const socket = connectTls({ host: '::1', port, rejectUnauthorized: false }, () => resolve('connected'));
      socket.on('error', () => resolve('refused'));
    }),
  );
  t.equal(plain, 'refused');
});

t.test('the secret of an image opens this image only, by one path, method and form of range', async (t) => {
  const [image, other] = [testImage(1000), testImage(1000)];
  const { port } = await serve(t, [image, other]);
  const paths = [
    `/images/${other.id}`,
    `/images/${image.id}/../${other.id}`,
    '/images/../../../../etc/passwd',
    '/images/%2e%2e/%2e%2e/etc/passwd',
    `/images/${image.id}.qcow2`,
    `/images/${image.id}?`,
    '/',
    '*',
  ];
  for (const path of paths) t.match(await get(port, image, { path }), { status: 404, body: Buffer.alloc(0) }, path);
  t.match(await get(port, image, { method: 'DELETE' }), { status: 405 });
  for (const range of ['bytes=1000-', 'bytes=-1', 'bytes=0-1,5-6', 'bytes=9999999999999999-', 'x'])
    t.match(await get(port, image, { headers: { range } }), { status: 416, body: Buffer.alloc(0) }, range);
  t.match(await get(port, image, { headers: { range: 'bytes=990-' } }), {
    status: 206,
    body: image.content.subarray(990),
  });
  const huge = await get(port, image, { headers: { a: 'x'.repeat(10_000) } });
  t.notOk(huge.body.includes(image.content), 'large headers get nothing');
});

t.test('many silent and slow connections of strangers do not keep a host from its image', async (t) => {
  const image = testImage(MiB);
  const { port } = await serve(t, [image], { handshakeTimeoutMs: 500, maxStrangersPerSource: 8 });
  const sockets: Socket[] = [];
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  let open = 0;
  for (let i = 0; i < 300; i++) {
    const socket = connect(port, '::1');
    socket.on('error', () => undefined).on('connect', () => open++);
    // The beginning of a handshake, which never goes on.
    socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]));
    sockets.push(socket);
  }
  await until('they are there', () => open === 300);
  t.match(await get(port, image), { status: 200 }, 'the host gets its image meanwhile');
  await until('the server has closed all of them', () => sockets.every((socket) => socket.closed));
  t.ok(
    defaultServerLimits.maxStrangers + 100 < defaultServerLimits.maxConnections,
    'hosts have connections of their own',
  );
});

t.test('a client that knows a secret and reads nothing is cut off', async (t) => {
  const image = testImage(32 * MiB);
  const { port, sentBytes, openConnections } = await serve(t, [image], { idleTimeoutMs: 300 });
  const socket = connectTls({
    ...imageTransferTls,
    ...{ host: '::1', port, checkServerIdentity: () => undefined },
    pskCallback: () => ({ identity: image.id, psk: Buffer.from(image.secret, 'hex') }),
  });
  socket.on('error', () => undefined);
  socket.pause();
  socket.write(`GET /images/${image.id} HTTP/1.1\r\nHost: a\r\n\r\n`);
  await until('the server sends', () => sentBytes() > 0);
  await until('the server has cut it off', async () => (await openConnections()) === 0);
  let read = 0;
  socket.on('data', (chunk: Buffer) => {
    read += chunk.length;
  });
  await within('it is closed', new Promise((resolve) => socket.on('close', resolve).resume()));
  t.ok(read < image.content.length, 'it did not get all of the image');
  t.match(await get(port, image), { status: 200 });
});

/** Starts a host whose VM needs an image that this server offers. */
async function victim(t: Test, answer: Parameters<typeof hostileServer>[2], secret?: string) {
  const cluster = await withCluster(t);
  const image = testImage(2 * MiB);
  const hostile = await hostileServer(t, secret === undefined ? image : { secret }, (request, response) =>
    answer(request, response),
  );
  await declare(cluster.store, image, 'hostile');
  await announce(cluster.store, [hostile.url], 'hostile');
  const host = await startFetchingHost(t, cluster.store);
  const vm = await place(cluster, host.id, image.id);
  return { cluster, image, hostile, host, vm };
}

/** Adds an honest server, and waits until the VM runs with the right bytes. */
async function rescue(t: Test, { cluster, image, host, vm }: Awaited<ReturnType<typeof victim>>) {
  const server = await serve(t, [image]);
  await declare(cluster.store, image);
  await announce(cluster.store, [server.url]);
  await cluster.until('the VM runs', () => cluster.phase(vm) === 'running');
  t.same(readdirSync(host.copies), [`${image.id}.qcow2`]);
  t.ok(readFileSync(join(host.copies, `${image.id}.qcow2`)).equals(image.content));
}

const tells = ({ cluster, vm }: { cluster: Cluster; vm: Awaited<ReturnType<typeof place>> }, text: RegExp) =>
  cluster.until(`${text}`, () => text.test(cluster.report(vm)?.message ?? ''));

t.test('wrong bytes never become an image, and their server is not asked again', async (t) => {
  const wrong = randomBytes(2 * MiB);
  const all = await victim(t, (_request, response) => response.end(wrong));
  await tells(all, /wrong bytes/);
  t.notOk(await all.host.files.has(all.image.id));
  t.same(readdirSync(all.host.copies), []);
  await tells(all, /all image servers have sent other bytes/);
  t.equal(all.hostile.requests.length, 1, 'it is asked once');
  await rescue(t, all);
  t.equal(all.hostile.requests.length, 1);
});

t.test('a wrong beginning of one server does not discredit the server that sends the rest', async (t) => {
  const all = await victim(t, (request, response) => {
    if (request.headers.range !== undefined) return response.destroy();
    response.writeHead(200, { 'content-length': 2 * MiB });
    response.write(randomBytes(MiB), () => response.destroy());
  });
  await tells(all, /cannot be used/);
  await rescue(t, all);
});

t.test(
  'endless, slow, large, encoded and redirected answers end, and the host never writes more than the recorded size',
  async (t) => {
    const answers: Record<string, Parameters<typeof hostileServer>[2]> = {
      'an endless body': (_request, response) => {
        response.writeHead(200, { 'content-length': 2 * MiB });
        response.write(randomBytes(2 * MiB));
        response.socket?.write(randomBytes(4 * MiB));
      },
      'chunks without a length': (_request, response) => {
        const more = () => response.write(randomBytes(MiB), more);
        more();
      },
      'a larger length': (_request, response) => response.end(randomBytes(3 * MiB)),
      'a slow body': (_request, response) => {
        response.writeHead(200, { 'content-length': 2 * MiB });
        const timer = setInterval(() => response.write('x'), 50).unref();
        response.on('close', () => clearInterval(timer));
      },
      'no answer': () => undefined,
      'a redirect': (_request, response) => response.writeHead(302, { location: 'https://[::1]/' }).end(),
      'an early end': (_request, response) => {
        response.writeHead(200, { 'content-length': 2 * MiB });
        response.write(randomBytes(10), () => response.destroy());
      },
      'no HTTP': (_request, response) => response.socket?.end('x'.repeat(100_000)),
      'large headers': (_request, response) => response.writeHead(200, { a: 'x'.repeat(100_000) }).end(),
      'another range': (_request, response) =>
        response.writeHead(206, { 'content-range': `bytes 5-9/${2 * MiB}`, 'content-length': 5 }).end('12345'),
    };
    for (const [name, answer] of Object.entries(answers)) {
      await t.test(name, async (t) => {
        const all = await victim(t, answer);
        await tells(all, /cannot be used|wrong bytes/);
        const sizes = readdirSync(all.host.copies).map((file) => readFileSync(join(all.host.copies, file)).length);
        t.ok(
          sizes.every((size) => size <= all.image.content.length),
          `${sizes}`,
        );
        t.notOk(await all.host.files.has(all.image.id));
        t.notMatch(all.cluster.report(all.vm)?.message, /::1/, 'the owner sees no address of the operator');
        await rescue(t, all);
      });
    }
  },
);

t.test('a server without the secret gets no request, and its bytes are not used', async (t) => {
  const all = await victim(t, (_request, response) => response.end('x'), randomBytes(32).toString('hex'));
  await tells(all, /does not know the secret/);
  t.equal(all.hostile.requests.length, 0);
  await rescue(t, all);
});

t.test('the secret of an image is in no answer of the API, no log and no command line', async (t) => {
  const api = await startTestApi(t);
  const image = testImage(MiB);
  const server = await serve(t, [image]);
  await declare(api.store, image);
  await announce(api.store, [server.url, 'https://[::1]:1']);
  const lines: string[] = [];
  const write = (fields: object, message: string) => lines.push(inspect([fields, message], { depth: 20 }));
  const logger: Logger = { debug: write, info: write, warn: write, error: write, child: () => logger };
  const host = await startFetchingHost(t, api.store, { logger });
  const cluster = await clusterOn(t, api.store);
  const vm = await place(cluster, host.id, image.id);
  await cluster.until('the VM runs', () => cluster.phase(vm) === 'running');
  // The copy is usable, and the VM may start, before the host writes to its log.
  await cluster.until('the log tells of the fetch', () => lines.some((line) => line.includes('image fetched')));
  for (const path of [`images/${image.id}`, 'images', 'events', 'audit-records', 'hosts', `vms/${vm}`, 'vms'])
    lines.push(
      await (
        await fetch(`${api.url}/v1/${path}`, { headers: { authorization: `Bearer ${api.operator.token}` } })
      ).text(),
    );
  t.ok(
    lines.some((line) => line.includes(`"id":"${image.id}"`)),
    'the API shows the image',
  );
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      lines.push(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    } catch {
      // The process has ended.
    }
  }
  t.same(
    lines.filter((line) => line.includes(image.secret) || line.includes(image.secret.slice(0, 16))),
    [],
  );
});

t.test('the image server tells hosts no address of a network of guests', async (t) => {
  const at = (address: string, internal = false) => [{ address, internal } as NetworkInterfaceInfo];
  const interfaces = {
    lo: at('::1', true),
    ub4711: at('2001:db8:1::1'),
    ut005e100001: at('2001:db8:2::1'),
    eth0: [...at('192.0.2.1'), ...at('fe80::1'), ...at('2001:db8::1')],
  };
  t.same(listenUrls('::', 7781, interfaces), ['https://[2001:db8::1]:7781', 'https://192.0.2.1:7781']);
  t.same(listenUrls('0.0.0.0', 7781, interfaces), ['https://192.0.2.1:7781']);
  t.same(listenUrls('2001:db8::5', 7781, interfaces), ['https://[2001:db8::5]:7781']);
  t.same(listenUrls('::', 7781, {}), ['https://[::1]:7781']);
});
