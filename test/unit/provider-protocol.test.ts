/** The plugin protocol: messages, certificate, handshake, gRPC. Only the calling Terraform can connect. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { createCertificate } from '../../provider/protocol/certificate.ts';
import { encodeStatusMessage, frame, serveSession } from '../../provider/protocol/grpc.ts';
import { Diagnostic, RPCS, Schema } from '../../provider/protocol/messages.ts';
import { COOKIE_NAME, COOKIE_VALUE, servePlugin } from '../../provider/protocol/plugin.ts';
import { STATUS } from '../../provider/protocol/status.ts';
import { decode, encode, map, message, one, optional, repeated, WireError } from '../../provider/protocol/wire.ts';
import { CallFailed, PluginClient } from '../support/plugin-client.ts';

const Inner = message('Inner', { text: one(1, 'string'), flag: one(16, 'bool') });
const Outer = message('Outer', {
  number: one(1, 'int'),
  maybe: optional(2, 'int'),
  data: one(3, 'bytes'),
  inner: one(4, Inner),
  many: repeated(5, Inner),
  words: repeated(6, 'string'),
  named: map(7, Inner),
  texts: map(2000, 'string'),
});

const plain = { noNullPrototype: true };
const inner = fc.record({ text: fc.string({ unit: 'grapheme' }), flag: fc.boolean() }, plain);
const key = fc.oneof(fc.string(), fc.constant('__proto__'));
const outer = fc.record(
  {
    number: fc.maxSafeInteger(),
    maybe: fc.option(fc.integer(), { nil: undefined }),
    data: fc.uint8Array(),
    inner: fc.option(inner, { nil: undefined }),
    many: fc.array(inner, { maxLength: 4 }),
    words: fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 4 }),
    named: fc.dictionary(key, inner, { maxKeys: 4 }).map((d) => Object.fromEntries(Object.entries(d))),
    texts: fc.dictionary(key, fc.string(), { maxKeys: 4 }).map((d) => Object.fromEntries(Object.entries(d))),
  },
  plain,
);

t.test('messages', async (t) => {
  // Examples of https://protobuf.dev/programming-guides/encoding/
  const example = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  t.equal(example(encode(Outer, { number: 150 })), '089601');
  t.equal(example(encode(message('M', { b: one(2, 'string') }), { b: 'testing' })), '120774657374696e67');
  t.equal(example(encode(message('M', { n: one(1, 'int') }), { n: -2 })), '08feffffffffffffffff01');
  t.equal(example(encode(Outer, { number: 0, maybe: 0 })), '1000', 'only an optional zero is written');

  fc.assert(
    fc.property(outer, (value) => {
      const back = decode(Outer, encode(Outer, value));
      assert.deepStrictEqual({ ...back, data: [...back.data] }, { ...value, data: [...value.data] });
    }),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(outer, fc.uint8Array({ maxLength: 20 }), (value, junk) => {
      // A later version's field between ours is skipped.
      const extended = message('Extended', { ...Outer.fields, later: one(99, 'bytes') });
      const back = decode(Outer, encode(extended, { ...value, later: junk }));
      return back.number === value.number && !('later' in back);
    }),
  );
  t.throws(() => decode(Outer, Buffer.from('0a', 'hex')), WireError);
  t.throws(() => decode(Outer, Buffer.from('2aff01', 'hex')), WireError, 'longer than the message');
  t.throws(() => decode(Outer, Buffer.from('08ffffffffffffffffffffff01', 'hex')), WireError, 'an endless integer');
  t.throws(() => decode(Outer, Buffer.from('3201ff', 'hex')), WireError, 'text that is not UTF-8');
  t.throws(() => encode(Outer, { number: 2 ** 60 }), WireError);
  t.same(decode(Outer, encode(Outer, { words: ['\ufeffa'] })).words, ['\ufeffa'], 'a byte order mark is text');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.constantFrom(...Object.values(RPCS)), (bytes, { request }) => {
      try {
        decode(request, bytes);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
  t.same(decode(Schema, encode(Schema, { version: 3, block: { deprecated: true } })).block?.deprecated, true);
  t.equal(decode(Diagnostic, encode(Diagnostic, { summary: 'x' })).attribute, undefined);
});

t.test('the certificate is what Terraform and everybody else accept', async (t) => {
  const { der, pem, key } = createCertificate();
  const certificate = new X509Certificate(der);
  t.equal(new X509Certificate(pem).fingerprint256, certificate.fingerprint256);
  t.ok(certificate.verify(certificate.publicKey), 'signed by itself');
  t.ok(certificate.checkPrivateKey(key));
  t.ok(certificate.ca);
  t.equal(certificate.subjectAltName, 'DNS:localhost');
  t.equal(certificate.checkHost('localhost'), 'localhost');
  t.same(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'], 'extended: server and client');
  t.ok(certificate.validFromDate.getTime() < Date.now());
  t.ok(certificate.validToDate.getTime() > Date.now() + 300 * 24 * 60 * 60 * 1000);
  t.not(new X509Certificate(createCertificate().der).serialNumber, certificate.serialNumber);
});

t.test('status messages survive any text', async () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (text) => {
      const encoded = encodeStatusMessage(text);
      return /^[\x20-\x7e]*$/.test(encoded) && decodeURIComponent(encoded) === text;
    }),
  );
});

/** A plugin with one method, and the certificate of the Terraform that it serves. */
async function plugin(
  t: { teardown(f: () => void): unknown },
  unary: Record<string, (b: Uint8Array) => Promise<Uint8Array>>,
) {
  const terraform = createCertificate();
  const refused: string[] = [];
  const server = await servePlugin({
    connect: () => ({ unary }),
    environment: { ...process.env, PLUGIN_CLIENT_CERT: terraform.pem },
    onError: (error) => refused.push(error.message),
  });
  t.teardown(() => server.close());
  const [, , , socketPath = '', , certificate = ''] = server.line.split('|');
  const serverPem = new X509Certificate(Buffer.from(certificate, 'base64')).toString();
  return { server, terraform, refused, socketPath, serverPem };
}

t.test('only the Terraform that started the plugin may talk to it', async (t) => {
  const { server, terraform, refused, socketPath, serverPem } = await plugin(t, {
    '/test/echo': async (request) => request,
  });
  t.match(server.line, /^1\|6\|unix\|\/.+\|grpc\|[A-Za-z0-9+/]+$/, 'no padding in the certificate');
  t.equal(statSync(path.dirname(socketPath)).mode & 0o777, 0o700);

  const client = await PluginClient.connect(socketPath, { own: terraform, serverPem });
  t.equal(String(await client.raw('/test/echo', frame(Buffer.from('hello')))), 'hello');

  const attempts: [string, Promise<PluginClient>][] = [
    ['a certificate of its own', PluginClient.connect(socketPath, { own: createCertificate(), serverPem })],
    ['no certificate', PluginClient.connect(socketPath, { serverPem })],
    ['no TLS', PluginClient.connect(socketPath)],
  ];
  for (const [who, attempt] of attempts) {
    await t.rejects(
      attempt.then(async (stranger) => stranger.raw('/test/echo', frame(Buffer.from('hello')))),
      `a stranger with ${who} gets no answer`,
    );
  }
  t.ok(refused.some((reason) => reason.includes('without the certificate')));
  t.equal(String(await client.raw('/test/echo', frame(Buffer.from('still there')))), 'still there');

  await client.raw('/plugin.GRPCController/Shutdown', frame(new Uint8Array()));
  await server.closed;
  t.notOk(existsSync(path.dirname(socketPath)), 'Shutdown removes the socket');
});

/** Returns the status with which a call fails. */
async function statusOf(call: Promise<unknown>): Promise<number> {
  try {
    await call;
  } catch (error) {
    if (error instanceof CallFailed) return error.status;
    throw error;
  }
  return STATUS.OK;
}

t.test('a plugin whose Terraform was killed does not stay behind', async (t) => {
  const terraform = createCertificate();
  const server = await servePlugin({
    connect: () => ({ unary: { '/test/echo': async (request) => request } }),
    environment: { ...process.env, PLUGIN_CLIENT_CERT: terraform.pem },
    onError: () => {},
    orphanedAfter: 50,
  });
  const [, , , socketPath = '', , certificate = ''] = server.line.split('|');
  const serverPem = new X509Certificate(Buffer.from(certificate, 'base64')).toString();
  const client = await PluginClient.connect(socketPath, { own: terraform, serverPem });
  await client.raw('/test/echo', frame(new Uint8Array()));
  client.close();
  await server.closed;
  t.notOk(existsSync(path.dirname(socketPath)));
});

t.test('gRPC: sizes, broken frames, unknown methods, parallel calls', async (t) => {
  let running = 0;
  let most = 0;
  const crowd = Promise.withResolvers<void>();
  const { terraform, socketPath, serverPem } = await plugin(t, {
    '/test/echo': async (request) => request,
    '/test/slow': async (request) => {
      most = Math.max(most, ++running);
      // Each waits for the others: calls that ran one after the other would never end.
      if (running > 10) crowd.resolve();
      await crowd.promise;
      running--;
      return request;
    },
    '/test/broken': async () => {
      throw new Error('50 % of the côde is wrong');
    },
  });
  const client = await PluginClient.connect(socketPath, { own: terraform, serverPem });
  t.teardown(() => client.close());
  const large = Buffer.alloc(20 * 1024 * 1024, 'x');
  t.ok(large.equals(await client.raw('/test/echo', frame(large))), '20 MiB go through in both directions');
  t.equal((await client.raw('/test/echo', frame(new Uint8Array()))).length, 0);

  t.equal(await statusOf(client.raw('/test/none', frame(new Uint8Array()))), STATUS.UNIMPLEMENTED);
  t.equal(await statusOf(client.raw('/toString', frame(new Uint8Array()))), STATUS.UNIMPLEMENTED);
  t.equal(await statusOf(client.raw('/test/broken', frame(new Uint8Array()))), STATUS.INTERNAL);
  await t.rejects(client.raw('/test/broken', frame(new Uint8Array())), { message: '50 % of the côde is wrong' });
  t.equal(await statusOf(client.raw('/test/echo', Buffer.from('0100000000', 'hex'))), STATUS.UNIMPLEMENTED);
  t.equal(await statusOf(client.raw('/test/echo', Buffer.from('00ffffffff', 'hex'))), STATUS.RESOURCE_EXHAUSTED);
  t.equal(await statusOf(client.raw('/test/echo', Buffer.from('0000000005aa', 'hex'))), STATUS.INTERNAL);
  t.equal(await statusOf(client.raw('/test/echo', Buffer.from('00000000000000000000', 'hex'))), STATUS.INTERNAL);
  t.equal(await statusOf(client.raw('/test/echo', new Uint8Array())), STATUS.INTERNAL);
  await t.rejects(client.raw('/test/echo', frame(new Uint8Array()), { 'content-type': 'text/plain' }), CallFailed);

  await Promise.all(Array.from({ length: 50 }, () => client.raw('/test/slow', frame(Buffer.from('x')))));
  t.ok(most > 10, `calls run at the same time: ${most}`);
  const health = message('Health', { status: one(1, 'int') });
  const service = (name: string) => frame(encode(message('Check', { service: one(1, 'string') }), { service: name }));
  t.equal(decode(health, await client.raw('/grpc.health.v1.Health/Check', service('plugin'))).status, 1);
  t.equal(decode(health, await client.raw('/grpc.health.v1.Health/Check', service('other'))).status, 3);
});

t.test('a refused call does not cost others the connection', async (t) => {
  const held = Promise.withResolvers<void>();
  const cancelled = Promise.withResolvers<void>();
  const server = net.createServer((socket) => {
    serveSession(
      socket,
      {
        unary: {
          '/test/echo': async (request) => request,
          '/test/held': async (request) => {
            await held.promise;
            return request;
          },
          '/test/endless': (_request, signal) =>
            new Promise((_resolve, reject) => {
              signal.addEventListener('abort', () => {
                cancelled.resolve();
                reject(signal.reason);
              });
            }),
        },
        held: new Set(['/test/stream']),
      },
      { maxMessage: 1024 },
    );
  });
  const directory = mkdtempSync(path.join(tmpdir(), 'grpc-'));
  const socketPath = path.join(directory, 's');
  await new Promise<void>((resolve) => void server.listen(socketPath, resolve));
  const client = await PluginClient.connect(socketPath);
  t.teardown(() => {
    client.close();
    server.close();
    rmSync(directory, { recursive: true });
  });
  const waiting = client.raw('/test/held', frame(Buffer.from('patience')));
  const streaming = client.session.request({
    ':method': 'POST',
    ':path': '/test/stream',
    'content-type': 'application/grpc',
  });
  await new Promise((resolve) => streaming.once('response', resolve));

  const large = frame(Buffer.alloc(64 * 1024 * 1024));
  t.equal(await statusOf(client.raw('/test/echo', large)), STATUS.RESOURCE_EXHAUSTED);
  const compressed = Buffer.concat([Buffer.from([1]), large.subarray(1, 1029)]);
  t.equal(await statusOf(client.raw('/test/echo', compressed, { 'grpc-encoding': 'gzip' })), STATUS.UNIMPLEMENTED);
  for (const type of ['application/grpc-web', 'text/plain', 'application/grpcfoo']) {
    await t.rejects(client.raw('/test/echo', frame(new Uint8Array()), { 'content-type': type }), {
      message: 'HTTP 415',
    });
  }
  const proto = await client.raw('/test/echo', frame(Buffer.from('a')), { 'content-type': 'application/grpc+proto' });
  t.equal(String(proto), 'a');

  const stream = client.session.request({
    ':method': 'POST',
    ':path': '/test/endless',
    'content-type': 'application/grpc',
  });
  stream.on('error', () => {});
  stream.end(frame(new Uint8Array()));
  // Half a message, and then the caller thinks better of it.
  const half = client.session.request({ ':method': 'POST', ':path': '/test/echo', 'content-type': 'application/grpc' });
  half.on('error', () => {});
  half.write(frame(Buffer.alloc(100)).subarray(0, 20));
  t.equal(String(await client.raw('/test/echo', frame(Buffer.from('between')))), 'between');
  half.close(http2.constants.NGHTTP2_CANCEL);
  stream.close(http2.constants.NGHTTP2_CANCEL);
  await cancelled.promise;
  t.pass('a call that was reset is cancelled');

  const crowd = await Promise.all(
    Array.from({ length: 3000 }, () => client.raw('/test/echo', frame(Buffer.from('x')))),
  );
  t.equal(crowd.length, 3000, 'calls beyond the number of streams wait for their turn');
  await new Promise<void>((resolve, reject) => client.session.ping((error) => (error ? reject(error) : resolve())));
  held.resolve();
  t.equal(String(await waiting), 'patience', 'the call that was running all the time has its answer');
  t.notOk(streaming.closed, 'and the stream is still open');
});

t.test('a plugin that nobody reads any more still answers', async (t) => {
  const terraform = createCertificate();
  const program = fileURLToPath(new URL('../terraform/fixtures/shelf-main.ts', import.meta.url));
  const environment = { [COOKIE_NAME]: COOKIE_VALUE, PLUGIN_CLIENT_CERT: terraform.pem, TF_LOG: 'trace' };
  const child = spawn(process.execPath, [program], { env: { PATH: process.env.PATH, ...environment } });
  t.teardown(() => child.kill('SIGKILL'));
  const line = await new Promise<string>((resolve) => child.stdout.once('data', (text) => resolve(String(text))));
  const [, , , socketPath = '', , certificate = ''] = line.trim().split('|');
  const serverPem = new X509Certificate(Buffer.from(certificate, 'base64')).toString();
  const client = await PluginClient.connect(socketPath, { own: terraform, serverPem });
  child.stdout.destroy();
  child.stderr.destroy();
  // Each of these is logged, to a pipe that is broken.
  for (let i = 0; i < 3; i++) await client.call('StopProvider', {});
  t.equal((await client.call('GetMetadata', {})).resources.length, 2);
  const exit = new Promise((resolve) => child.on('exit', resolve));
  await client.raw('/plugin.GRPCController/Shutdown', frame(new Uint8Array()));
  t.equal(await exit, 0);
  client.close();
});

t.test('a person who starts the plugin is told what it is', async (t) => {
  const program = fileURLToPath(new URL('../terraform/fixtures/shelf-main.ts', import.meta.url));
  const debug = spawn(process.execPath, [program, '--debug'], { env: { PATH: process.env.PATH } });
  t.teardown(() => debug.kill('SIGKILL'));
  const printed = await new Promise<string>((resolve) => {
    let text = '';
    debug.stdout.on('data', (chunk) => {
      text += chunk;
      if (text.includes('Ctrl-C')) resolve(text);
    });
  });
  const reattach = JSON.parse(/TF_REATTACH_PROVIDERS='(.*)'/.exec(printed)?.[1] ?? '{}') as {
    [address: string]: { Pid: number; Addr: { String: string } };
  };
  t.match(reattach['shelf.localhost/test/shelf'], { Pid: debug.pid, ProtocolVersion: 6, Protocol: 'grpc' });
  const client = await PluginClient.connect(reattach['shelf.localhost/test/shelf']?.Addr.String ?? '');
  t.match((await client.call('GetMetadata', {})).resources, [
    { type_name: 'shelf_item' },
    { type_name: 'shelf_thing' },
  ]);
  debug.kill('SIGINT');
  t.equal(await new Promise((resolve) => debug.on('exit', resolve)), 0, 'Ctrl-C ends the debug mode');

  const run = async (environment: NodeJS.ProcessEnv) => {
    const child = spawn(process.execPath, [program], { env: { PATH: process.env.PATH, ...environment } });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (text) => {
      stdout += text;
    });
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    return { code, stdout, stderr };
  };
  t.match(await run({}), { code: 1, stdout: '', stderr: /Terraform provider shelf.localhost\/test\/shelf.*plugin/ });
  const withoutTls = await run({ [COOKIE_NAME]: COOKIE_VALUE });
  t.not(withoutTls.code, 0);
  t.match(withoutTls.stdout, /PLUGIN_CLIENT_CERT/, 'Terraform shows what is on standard output');
});
