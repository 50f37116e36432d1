/** HTTP/2 of the provider: requests of another implementation arrive, and a violation of the rules ends the connection. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { encodeHeaders, HpackDecoder, HpackError } from '../../provider/protocol/hpack.ts';
import { Connection, type Stream } from '../../provider/protocol/http2.ts';
import { CODE } from '../../provider/protocol/http2-frames.ts';
import { eventually } from '../support/eventually.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

t.test('header blocks are read as RFC 7541 shows them', async (t) => {
  // Appendix C.4: requests with Huffman coding, on one connection.
  const decoder = new HpackDecoder();
  const common = { ':method': 'GET', ':scheme': 'http', ':path': '/', ':authority': 'www.example.com' };
  const read = (block: string) => Object.fromEntries(decoder.decode(hex(block)));
  t.same(read('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff'), common);
  t.same(read('8286 84be 5886 a8eb 1064 9cbf'), { ...common, 'cache-control': 'no-cache' });
  t.same(read('8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf'), {
    ...common,
    ':scheme': 'https',
    ':path': '/index.html',
    'custom-key': 'custom-value',
  });
  t.same(Object.fromEntries(decoder.decode(encodeHeaders({ a: 'x'.repeat(500) }))), { a: 'x'.repeat(500) });
  for (const [what, block] of Object.entries({
    'a field that is not in the table': 'ff00',
    'index 0': '80',
    'a table larger than allowed': '3fe2 1f',
    'a text that goes on behind the block': '000a 6162',
    'an integer without end': 'ffff ffff ffff ffff ff7f',
    'the end of the Huffman code within a text': '0001 6184 ffff ffff',
    'padding that is not of ones': '0001 6181 00',
    'padding of a whole byte': '0001 6182 1fff',
  })) {
    t.throws(() => new HpackDecoder().decode(hex(block)), HpackError, what);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        new HpackDecoder().decode(bytes);
      } catch (error) {
        if (!(error instanceof HpackError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
});

/** Starts a server that answers each request with its body, and reports each request. */
async function serve(t: { teardown(f: () => void): unknown }, onRequest: (stream: Stream) => void = () => {}) {
  const errors: string[] = [];
  const server = net.createServer((socket) => {
    new Connection(socket, {
      maxBody: 1024 * 1024,
      onError: (error) => errors.push(error.message),
      onRequest(stream) {
        onRequest(stream);
        stream.onBody = (body) =>
          stream.answer({ headers: encodeHeaders({ ':status': '200' }), body: body ?? Buffer.from('too large') });
      },
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '::1', resolve));
  t.teardown(() => server.close());
  return { port: (server.address() as net.AddressInfo).port, errors };
}

function ask(session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders, body: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':method': 'POST', ':path': '/', ...headers });
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => resolve(Buffer.concat(chunks)));
    stream.on('error', reject);
    stream.end(body);
  });
}

t.test('headers and bodies of any kind arrive as another implementation sends them', async (t) => {
  const seen: ReadonlyMap<string, string>[] = [];
  const { port } = await serve(t, (stream) => seen.push(stream.headers));
  const session = http2.connect(`http://[::1]:${port}`, { settings: { initialWindowSize: 100 } });
  t.teardown(() => session.destroy());
  const value = fc.stringMatching(/^[!-~\u0080-\u00ff]([ -~\u0080-\u00ff]{0,60}[!-~\u0080-\u00ff])?$/);
  await fc.assert(
    fc.asyncProperty(
      fc.dictionary(fc.stringMatching(/^x-[a-z0-9-]{1,20}$/), value, { maxKeys: 8 }),
      fc.uint8Array({ maxLength: 2000 }),
      async (headers, body) => {
        const answer = await ask(session, headers, Buffer.from(body));
        const received = Object.fromEntries(seen.at(-1) ?? []);
        for (const [name, text] of Object.entries(headers)) assert.equal(received[name], text);
        assert.deepEqual([...answer], [...body], 'through a window of 100 bytes');
      },
    ),
    { numRuns: 200 },
  );
  // As many as go into several frames.
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`x-${i}`, `${i} `.repeat(80).trim()]));
  await ask(session, many, Buffer.alloc(0));
  t.equal(seen.at(-1)?.get('x-99'), many['x-99'], 'a header block of several frames');
  const large = Buffer.alloc(1024 * 1024, 'y');
  t.ok(large.equals(await ask(session, {}, large)));
  t.equal(String(await ask(session, {}, Buffer.alloc(40 * 1024 * 1024))), 'too large', 'and is read to its end');
});

const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), hex('000000 04 00 00000000')]);
const request = encodeHeaders({ ':method': 'POST', ':path': '/' });

function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Returns the error code with which a connection ends after these bytes. */
async function farewell(port: number, bytes: Buffer): Promise<number | undefined> {
  const socket = net.connect(port, '::1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => {});
  socket.write(bytes);
  await once(socket, 'close');
  let rest = Buffer.concat(chunks);
  while (rest.length >= 9) {
    const end = 9 + rest.readUIntBE(0, 3);
    if (rest[3] === 7) return rest.readUInt32BE(13);
    rest = rest.subarray(end);
  }
  return undefined;
}

t.test('a violation of HTTP/2 ends its connection, with the reason', async (t) => {
  const { port } = await serve(t);
  const open = frame(1, 4, 1, request);
  const attacks: Readonly<Record<string, readonly [code: number, ...frames: Buffer[]]>> = {
    'a frame that is too large': [CODE.frameSize, frame(0, 0, 1, Buffer.alloc(16_385))],
    'data of no stream': [CODE.protocol, frame(0, 0, 1, Buffer.from('x'))],
    'a stream that is the server’s': [CODE.protocol, frame(1, 5, 2, request)],
    'a stream 0': [CODE.protocol, frame(1, 5, 0, request)],
    'headers that something interrupts': [CODE.protocol, frame(1, 0, 1, request), frame(6, 0, 0, Buffer.alloc(8))],
    'headers that go on without having begun': [CODE.protocol, frame(9, 4, 1, request)],
    'headers without end': [CODE.calm, frame(1, 0, 1), ...Array.from({ length: 70 }, () => frame(9, 0, 1))],
    'headers that are too large': [
      CODE.calm,
      frame(1, 0, 1),
      ...Array.from({ length: 5 }, () => frame(9, 0, 1, Buffer.alloc(16_384))),
    ],
    'a small block that stands for much': [
      CODE.compression,
      frame(1, 4, 1, Buffer.concat([hex('40 01 61 7f a1 1e'), Buffer.alloc(4000, 'a'), Buffer.alloc(3000, 0xbe)])),
    ],
    'a block that is not HPACK': [CODE.compression, frame(1, 4, 1, hex('ff ff ff ff ff ff'))],
    'more padding than frame': [CODE.protocol, open, frame(0, 8, 1, hex('05 00'))],
    'a window of nothing': [CODE.protocol, frame(8, 0, 0, Buffer.alloc(4))],
    'a window that is too large': [CODE.flowControl, frame(8, 0, 0, hex('7fffffff'))],
    'a setting of a window that is too large': [CODE.flowControl, frame(4, 0, 0, hex('0004 ffffffff'))],
    'settings of a wrong size': [CODE.frameSize, frame(4, 0, 0, hex('00'))],
    'a ping of a wrong size': [CODE.frameSize, frame(6, 0, 0, hex('00'))],
    'a push': [CODE.protocol, frame(5, 4, 1, request)],
    'no HTTP/2': [CODE.protocol],
  };
  for (const [what, [code, ...frames]] of Object.entries(attacks)) {
    const bytes = what === 'no HTTP/2' ? Buffer.from('GET / HTTP/1.1\r\n\r\n') : Buffer.concat([preface, ...frames]);
    t.equal(await farewell(port, bytes), code, what);
  }
  const session = http2.connect(`http://[::1]:${port}`);
  t.teardown(() => session.destroy());
  t.equal(String(await ask(session, {}, Buffer.from('well'))), 'well', 'others are served');
});

t.test('frames of any kind and order leave the server alive', async (t) => {
  const { port } = await serve(t);
  const any = fc
    .tuple(fc.integer({ min: 0, max: 10 }), fc.nat(255), fc.nat(7), fc.uint8Array({ maxLength: 40 }))
    .map(([type, flags, stream, payload]) => frame(type, flags, stream, payload));
  await fc.assert(
    fc.asyncProperty(fc.array(any, { maxLength: 20 }), async (frames) => {
      const socket = net.connect(port, '::1');
      socket.on('error', () => {});
      socket.resume();
      socket.end(Buffer.concat([preface, ...frames]));
      await once(socket, 'close');
    }),
    { numRuns: 300 },
  );
  const session = http2.connect(`http://[::1]:${port}`);
  t.teardown(() => session.destroy());
  t.equal(String(await ask(session, {}, Buffer.from('well'))), 'well');
});

t.test('one who does not read gets no more answers to pings', async (t) => {
  let accepted: net.Socket | undefined;
  const server = net.createServer((socket) => {
    accepted = socket;
    new Connection(socket, { maxBody: 1024, onRequest() {} });
  });
  await new Promise<void>((resolve) => server.listen(0, '::1', resolve));
  const socket = net.connect((server.address() as net.AddressInfo).port, '::1');
  t.teardown(() => {
    socket.destroy();
    accepted?.destroy();
    server.close();
  });
  socket.pause();
  socket.write(preface);
  socket.write(Buffer.alloc(40 * 1024 * 1024, frame(6, 0, 0, Buffer.alloc(8))));
  await eventually(async () => {
    if (!accepted?.isPaused()) throw new Error('the server still reads');
  });
  t.ok((accepted?.writableLength ?? 0) < 1024 * 1024, `${accepted?.writableLength} bytes wait`);
});
