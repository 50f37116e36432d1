/** HTTPS_PROXY, HTTP_PROXY and NO_PROXY, for the provider and the command: the rules, and with a real proxy. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer, request as forward, type IncomingMessage } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import t, { type Test } from 'tap';
import { proxyFor } from '../../backend/cli/proxy.ts';
import { Client } from '../../provider/client/client.ts';
import { explain } from '../../provider/client/problem.ts';
import { makeCertificates } from '../support/etcd.ts';
import { temporaryDirectory } from '../support/stores.ts';

t.test('which requests go by a proxy', async (t) => {
  const by = (url: string, env: Record<string, string>) => proxyFor(new URL(url), env)?.url.host;
  const both = { HTTPS_PROXY: 'http://s:1', HTTP_PROXY: 'http://p:1' };
  t.equal(by('https://cloud.example', both), 's:1');
  t.equal(by('http://cloud.example', both), 'p:1');
  t.equal(by('https://cloud.example', { HTTP_PROXY: 'http://p:1' }), undefined, 'each scheme has its own');
  t.equal(
    by('https://cloud.example', { ...both, https_proxy: 'small:2' }),
    'small:2',
    'small letters first, no scheme',
  );
  t.equal(by('https://cloud.example', { HTTPS_PROXY: ' ', https_proxy: '' }), undefined);
  for (const url of [
    'https://localhost',
    'https://a.localhost',
    'https://127.1.2.3:8',
    'https://[::1]:8',
    'https://[::ffff:127.0.0.1]',
  ]) {
    t.equal(by(url, both), undefined, `${url}: this machine is asked directly`);
  }
  for (const [exception, url, direct] of [
    ['cloud.example', 'https://cloud.example', true],
    ['cloud.example', 'https://CLOUD.example.', true],
    ['cloud.example', 'https://api.cloud.example', true],
    ['cloud.example', 'https://othercloud.example', false],
    ['.cloud.example', 'https://api.cloud.example', true],
    ['*.cloud.example', 'https://api.cloud.example', true],
    ['.cloud.example', 'https://cloud.example', false],
    ['a, b  cloud.example', 'https://cloud.example', true],
    ['cloud.example:443', 'https://cloud.example', true],
    ['cloud.example:8443', 'https://cloud.example', false],
    ['cloud.example:8443', 'https://cloud.example:8443', true],
    ['*', 'https://cloud.example', true],
    ['192.0.2.0/24', 'https://192.0.2.77', true],
    ['192.0.2.0/24', 'https://192.0.3.77', false],
    ['192.0.2.7', 'https://192.0.2.7', true],
    ['192.0.2.7:444', 'https://192.0.2.7', false],
    ['2001:db8::/32', 'https://[2001:db8:1::7]:8', true],
    ['2001:db8::/32', 'https://[2001:db9::7]', false],
    ['2001:DB8:0::7', 'https://[2001:db8::7]', true],
    ['[2001:db8::7]', 'https://[2001:db8::7]', true],
    ['[2001:db8::7]:8', 'https://[2001:db8::7]:8', true],
    ['[2001:db8::7]:8', 'https://[2001:db8::7]:9', false],
    ['192.0.2.0/33', 'https://192.0.2.7', false],
    ['192.0.2.0/', 'https://192.0.2.7', false],
    [',,', 'https://cloud.example', false],
  ] as const) {
    for (const name of ['NO_PROXY', 'no_proxy']) {
      t.equal(by(url, { ...both, [name]: exception }) === undefined, direct, `${name}=${exception}: ${url}`);
    }
  }
  for (const value of ['http://', 'socks5://user:hunter2@p:1', 'http://user:hunter2@']) {
    t.throws(
      () => by('https://cloud.example', { HTTPS_PROXY: value }),
      { message: /^HTTPS_PROXY (is not|names)(?!.*hunter2)/ },
      value,
    );
    t.doesNotThrow(() => by('https://[::1]', { HTTPS_PROXY: value }), 'nobody asks it');
  }
});

/** A proxy that knows `cloud.test`, the API in this process, and takes one user; and what it was asked for. */
async function startProxy(t: Test, port: () => number) {
  const asked: string[] = [];
  let refuse = 0;
  const admitted = ({ headers }: IncomingMessage) =>
    headers['proxy-authorization'] === `Basic ${Buffer.from('user:p@ss').toString('base64')}`;
  const proxy = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    if (!admitted(request)) return void response.writeHead(407).end();
    const { pathname, search } = new URL(request.url ?? '');
    const { method, headers } = request;
    const onward = { host: '::1', port: port(), method, path: pathname + search, headers };
    request.pipe(
      forward(onward, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      }),
    );
  });
  const sockets = new Set<net.Socket>();
  proxy.on('connection', (socket) => sockets.add(socket));
  proxy.on('connect', (request, socket: net.Socket) => {
    asked.push(`CONNECT ${request.url}`);
    socket.on('error', () => {});
    const status = refuse || (admitted(request) ? 200 : 407);
    if (status !== 200) return void socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
    const onward = net.connect(port(), '::1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
    sockets.add(onward);
    onward.on('error', () => socket.destroy());
    onward.pipe(socket).pipe(onward);
  });
  proxy.listen(0, '::1');
  await once(proxy, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const address = `[::1]:${(proxy.address() as AddressInfo).port}`;
  return {
    asked,
    address,
    refuse(status: number) {
      refuse = status;
    },
  };
}

function api(request: IncomingMessage, response: import('node:http').ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ items: [], revision: 1, host: request.headers.host, path: request.url }));
}

async function startApi(t: Test) {
  const certificates = join(temporaryDirectory(t), 'tls');
  mkdirSync(certificates);
  await makeCertificates(certificates, 'DNS:cloud.test');
  const file = (name: string) => join(certificates, name);
  const plain = createServer(api);
  const secure = createSecureServer(
    { key: readFileSync(file('server-key.pem')), cert: readFileSync(file('server.pem')) },
    api,
  );
  for (const server of [plain, secure]) {
    server.listen(0, '::1');
    await once(server, 'listening');
    t.teardown(() => {
      server.closeAllConnections();
      server.close();
    });
  }
  const port = (server: net.Server) => (server.address() as AddressInfo).port;
  return { ca: file('ca.pem'), plain: port(plain), secure: port(secure) };
}

t.test('the provider asks by the proxy: through a tunnel where TLS is spoken', async (t) => {
  const { ca, plain, secure } = await startApi(t);
  let port = secure;
  const proxy = await startProxy(t, () => port);
  const list = async (endpoint: string, credentials: string) => {
    const env = {
      HTTPS_PROXY: `http://${credentials}${proxy.address}`,
      HTTP_PROXY: `http://${credentials}${proxy.address}`,
    };
    const client = new Client({
      endpoint,
      token: 'x',
      caFile: ca,
      maxRetries: 0,
      proxy: proxyFor(new URL(endpoint), env),
    });
    try {
      return await client.list('/v1/vms', { limit: 7 });
    } finally {
      await client.close();
    }
  };
  const told = async (endpoint: string, credentials = '') =>
    list(endpoint, credentials).then(
      () => 'nothing',
      (error: unknown) => String(explain(error, 'VMs', new Set())),
    );
  t.match(await list('https://cloud.test', 'user:p%40ss@'), { host: 'cloud.test', path: '/v1/vms?limit=7' });
  t.match(await list('https://cloud.test:8443', 'user:p%40ss@'), { host: 'cloud.test:8443' });
  t.strictSame(
    proxy.asked.splice(0),
    ['CONNECT cloud.test:443', 'CONNECT cloud.test:8443'],
    'it sees no more than that',
  );

  t.match(
    await told('https://cloud.test', 'user:hunter2@'),
    /https:\/\/cloud\.test by the proxy http:\/\/\[::1\]:\d+ \(HTTPS_PROXY\).*\(407\)/,
  );
  t.notMatch(await told('https://cloud.test', 'user:hunter2@'), /hunter2/);
  proxy.refuse(403);
  t.match(await told('https://cloud.test'), /the proxy does not connect to it/);
  t.match(await told('https://other.test'), /by the proxy/);
  proxy.refuse(0);
  t.match(
    await told('https://other.test', 'user:p%40ss@'),
    /its certificate is for another name/,
    'the proxy is not trusted',
  );

  port = plain;
  proxy.asked.length = 0;
  t.match(await list('http://cloud.test', 'user:p%40ss@'), { host: 'cloud.test', path: '/v1/vms?limit=7' });
  t.strictSame(proxy.asked, ['GET http://cloud.test/v1/vms?limit=7']);
  t.match(await told('http://cloud.test'), /by the proxy http:\/\/\[::1\]:\d+ \(HTTP_PROXY\).*\(407\)/);

  const nobody = { url: new URL('http://user:hunter2@[::1]:1'), text: 'http://[::1]:1 (HTTPS_PROXY)' };
  for (const endpoint of ['https://cloud.test', 'http://cloud.test']) {
    const client = new Client({ endpoint, token: 'x', maxRetries: 0, proxy: nobody });
    const error = await client.list('/v1/vms', {}).catch((reason: unknown) => explain(reason, 'VMs', new Set()));
    t.match(String(error), /by the proxy http:\/\/\[::1\]:1 \(HTTPS_PROXY\): nothing listens there.*Check the proxy/s);
    t.notMatch(String(error), /hunter2/);
    await client.close();
  }
});

t.test('so does the command', async (t) => {
  const { ca, plain, secure } = await startApi(t);
  let port = secure;
  const proxy = await startProxy(t, () => port);
  const list = (endpoint: string, more: Record<string, string>) =>
    new Promise<{ code: number | null; out: string; err: string }>((resolved) => {
      const env = {
        PATH: process.env.PATH,
        UCLOUD_CREDENTIALS: '/nowhere',
        UCLOUD_ENDPOINT: ` ${endpoint}\n`,
        UCLOUD_TOKEN: 'x\n',
        UCLOUD_CA_FILE: `${ca}\n`,
        ...more,
      };
      const child = execFile(resolve('backend/cli/ucloud'), ['vm', 'list', '--json'], { env }, (_error, out, err) =>
        resolved({ code: child.exitCode, out, err }),
      );
    });
  const address = `http://user:p%40ss@${proxy.address}`;
  t.match(await list('https://cloud.test', { HTTPS_PROXY: address }), { code: 0, err: '' });
  t.strictSame(proxy.asked.splice(0), ['CONNECT cloud.test:443']);
  port = plain;
  t.match(await list('http://cloud.test', { http_proxy: address }), { code: 0, err: '' });
  t.match(proxy.asked.splice(0), [/^GET http:\/\/cloud\.test\/v1\/vms/]);
  t.match(await list(`http://[::1]:${plain}`, { HTTP_PROXY: address }), { code: 0, err: '' });
  t.strictSame(proxy.asked, [], 'this machine is asked directly');
  const { code, err } = await list('https://cloud.test', { HTTPS_PROXY: 'http://user:hunter2@[::1]:1' });
  t.equal(code, 1);
  t.match(err, /https:\/\/cloud\.test by the proxy http:\/\/\[::1\]:1 \(HTTPS_PROXY\)/);
  t.notMatch(err, /hunter2/);
  t.match(await list('https://cloud.test/v1', {}), {
    code: 1,
    err: /must not have a path: write https:\/\/cloud\.test/,
  });
});
