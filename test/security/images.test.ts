/** Attacks on the image scanner by a declared image or by its server. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { newId } from '../../backend/model/ids.ts';
import { type ImageRecord, imageReports, images } from '../../backend/model/records/index.ts';
import { ImageRejected, SourceUnavailable } from '../../backend/scanner/failures.ts';
import { FairSlots } from '../../backend/scanner/fair-slots.ts';
import { startImageScanner } from '../../backend/scanner/images.ts';
import { defaultLimits, type ImportLimits } from '../../backend/scanner/limits.ts';
import { put } from '../../backend/store/collection.ts';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import type { Store } from '../../backend/store/store.ts';
import { hostileImages, rawDisk } from '../support/disk-images.ts';
import { until, within } from '../support/eventually.ts';
import { faultOf, imageOf, importer, needsQemuImg } from '../support/importer.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { temporaryDirectory } from '../support/stores.ts';

const MiB = 1024 ** 2;
t.test(
  'an image that uses parts of its file more than once, or is not there, is refused with the reason',
  async (t) => {
    const scanner = importer(t);
    for (const { name, image, why } of hostileImages) {
      const fault = await faultOf(scanner.importBytes(image));
      t.ok(fault instanceof ImageRejected, name);
      t.match(fault, { message: why }, name);
    }
    t.strictSame(
      readdirSync(scanner.imageStore).filter((name) => name.endsWith('.qcow2')),
      [],
    );
  },
);

/** Images as qemu-img makes them, small ones of each kind. */
function realImages(t: Test): Map<string, Buffer> {
  const directory = temporaryDirectory(t);
  const raw = join(directory, 'disk.raw');
  const disk = rawDisk(2 * MiB);
  for (let at = MiB; at < disk.length; at += 4) disk.writeUInt32LE(Math.imul(at, 2_654_435_761) >>> 0, at);
  writeFileSync(raw, disk);
  const kinds: Record<string, readonly string[]> = {
    plain: [],
    'version 2': ['-o', 'compat=0.10'],
    compressed: ['-c'],
    'compressed with zstd': ['-c', '-o', 'compression_type=zstd'],
    'extended tables': ['-o', 'extended_l2=on'],
    'the smallest clusters': ['-o', 'cluster_size=512'],
    'the largest clusters': ['-o', 'cluster_size=2M'],
    'a preallocated table': ['-o', 'preallocation=metadata'],
    'a disk that is allocated in full': ['-o', 'preallocation=falloc'],
    'lazy reference counts': ['-o', 'lazy_refcounts=on'],
  };
  return new Map(
    Object.entries(kinds).map(([name, options]) => {
      const path = join(directory, 'disk.qcow2');
      execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, path]);
      return [name, readFileSync(path)];
    }),
  );
}

t.test('images of every kind that qemu-img makes are taken', needsQemuImg, async (t) => {
  const scanner = importer(t);
  for (const [name, image] of realImages(t)) t.match(await scanner.importBytes(image), { virtualSize: 2 * MiB }, name);
});

t.test('any bytes are an image or the fault of their owner, and never a fault of ours', needsQemuImg, async (t) => {
  const scanner = importer(t);
  const originals = [...realImages(t).values()];
  // Fields of the header, its extensions, and the tables, which begin at a cluster.
  const place = fc.oneof(
    fc.integer({ min: 4, max: 120 }),
    fc.integer({ min: 0, max: 40 }).map((cluster) => cluster * 65_536),
    fc.nat(8_192),
  );
  const value = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 9 }),
    fc
      .constantFrom('00000000', 'ffffffffffffffff', '7fffffff', '00000070', '4000000000000000', '8000000000010000')
      .map((hex) => new Uint8Array(Buffer.from(hex, 'hex'))),
  );
  const change = fc.tuple(place, value);
  let taken = 0;
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...originals),
      fc.array(change, { minLength: 1, maxLength: 4 }),
      fc.option(fc.oneof(fc.nat(200), fc.nat(4 * MiB)), { freq: 2 }),
      async (original, changes, length) => {
        const bytes = Buffer.from(original);
        for (const [at, patch] of changes)
          bytes.set(patch.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length));
        const fault = await faultOf(scanner.importBytes(bytes.subarray(0, length ?? bytes.length)));
        if (fault === undefined) taken++;
        else refused++;
        if (fault !== undefined && !(fault instanceof ImageRejected)) throw fault;
        return fault === undefined || (fault.message.length > 10 && fault.message.length < 5_000);
      },
    ),
    { numRuns: 80, endOnFailure: true },
  );
  t.ok(refused > 0, `${refused} were refused, ${taken} taken`);
});

t.test('a small image that becomes large is stopped before it fills the disk', needsQemuImg, async (t) => {
  const directory = temporaryDirectory(t);
  const [raw, packed] = [join(directory, 'raw'), join(directory, 'packed')];
  const disk = Buffer.alloc(16 * MiB, 'a');
  disk.writeUInt16LE(0xaa55, 510);
  writeFileSync(raw, disk);
  execFileSync('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, packed]);
  t.ok(statSync(packed).size < MiB);
  const scanner = importer(t, { maxExpansion: 4, expansionBaseBytes: MiB });
  const fault = await faultOf(scanner.importBytes(readFileSync(packed)));
  t.ok(fault instanceof ImageRejected);
  t.match(fault, { message: /Unpacked, it takes more than 4 times its size/ });
  t.match(await scanner.importBytes(disk), { virtualSize: disk.length }, 'the same, unpacked, is taken');
});

t.test('an import takes no more than its part of the free space', needsQemuImg, async (t) => {
  const disk = Buffer.alloc(16 * MiB, 'a');
  disk.writeUInt16LE(0xaa55, 510);
  const directory = temporaryDirectory(t);
  const [raw, packed] = [join(directory, 'raw'), join(directory, 'packed')];
  writeFileSync(raw, disk);
  execFileSync('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, packed]);
  const small = readFileSync(packed);
  const { bavail, bsize } = statfsSync(directory);
  // Room for the packed source and not for the copy.
  const between = (4 * MiB * defaultLimits.maxImports) / (bavail * bsize);
  const cases: readonly (readonly [string, Partial<ImportLimits>, Buffer])[] = [
    ['its part is small', { maxFreeShare: 1e-9 }, disk],
    ['it shares with as many as may run', { maxImports: 1e9 }, disk],
    ['the copy counts as well', { maxFreeShare: between }, small],
  ];
  for (const [what, limits, bytes] of cases) {
    const fault = await faultOf(importer(t, limits).importBytes(bytes));
    t.ok(fault instanceof SourceUnavailable, `it may pass by itself: ${what}`);
    t.match(fault, { message: /not enough free space/ }, what);
  }
  t.match(await importer(t).importBytes(small), { virtualSize: disk.length });
});

async function serve(t: Test, handle: RequestListener): Promise<string> {
  const server: Server = createServer(handle).listen(0, '::1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://[::1]:${(server.address() as AddressInfo).port}`;
}

t.test('answers that are no HTTP are the fault of their server', async (t) => {
  for (const answer of [
    'garbage\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n',
    'HTTP/9.9 999\r\n\r\n',
    '',
  ]) {
    const server = createTcpServer((socket) => {
      socket.on('error', () => undefined);
      socket.end(answer);
    }).listen(0, '::1');
    await once(server, 'listening');
    t.teardown(() => server.close());
    const url = `http://[::1]:${(server.address() as AddressInfo).port}/`;
    t.ok((await faultOf(importer(t).import(url))) instanceof SourceUnavailable, JSON.stringify(answer));
  }
});

/** Sends a byte now and then, for ever. */
const slowly: RequestListener = (_request, response) => {
  response.write('x');
  const timer = setInterval(() => response.write('x'), 20);
  response.on('close', () => clearInterval(timer));
};

t.test('a server that is too slow is ended, and its user is told', async (t) => {
  const url = await serve(t, slowly);
  const fault = await within(
    'the end',
    faultOf(importer(t, { rateWindowMs: 300, minBytesPerSecond: 1024 }).import(url)),
  );
  t.ok(fault instanceof ImageRejected);
  t.match(fault, { message: 'The server sends less than 1KiB a second, which is too slow.' });
  const late = await within('the end', faultOf(importer(t, { maxFetchMs: 200 }).import(url)));
  t.match(late, { message: 'Fetching the URL took too long.' });
});

async function declare(store: Store, image: ImageRecord): Promise<string> {
  const { ok } = await store.commit({ write: [put(images, image.id, image)] });
  if (!ok) throw new Error('not declared');
  return image.id;
}

t.test('slow sources of one project do not keep another from its imports', async (t) => {
  const directory = temporaryDirectory(t);
  const store = await openEmbeddedStore({ path: join(directory, 'store.db') });
  t.teardown(() => store.close());
  let asked = 0;
  const slow = await serve(t, (_request, response) => {
    asked++;
    response.write('x');
  });
  const disk = rawDisk();
  const quick = await serve(t, (_request, response) => response.end(disk));
  const [hostile, honest] = [newId('project'), newId('project')];
  for (let number = 0; number < 20; number++) await declare(store, imageOf(hostile, slow));
  const scanner = await startImageScanner({
    store,
    logger: silentLogger,
    filesDir: join(directory, 'files'),
    imageStore: join(directory, 'images'),
    allowPrivateAddresses: true,
    mode: 'simulated',
  });
  t.teardown(() => scanner.close());
  await until('the slow sources are asked', () => asked === defaultLimits.maxImportsPerProject);
  const id = await declare(store, imageOf(honest, quick));
  await until('the other project has its image', async () =>
    (await store.get(imageReports.prefix + id))?.value.includes('"available"'),
  );
  t.equal(asked, defaultLimits.maxImportsPerProject);
});

t.test('no project has all conversions while others wait, and those that give up leave their place', async (t) => {
  const slots = new FairSlots(2);
  const signal = new AbortController().signal;
  const order: string[] = [];
  const ends: (() => void)[] = [];
  const work = (project: string) => () => {
    order.push(project);
    return new Promise<void>((resolve) => ends.push(resolve));
  };
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const all = [slots.use('a', signal, work('a')), slots.use('a', signal, work('a'))];
  const leaving = new AbortController();
  const left = faultOf(slots.use('c', leaving.signal, work('c')));
  all.push(slots.use('b', signal, work('b')));
  await turn();
  t.strictSame(order, ['a', 'c'], 'one each');
  leaving.abort(new Error('gone'));
  ends[1]?.();
  t.equal(await left, undefined, 'work that has begun ends by itself');
  await turn();
  t.strictSame(order, ['a', 'c', 'b']);
  const given = new AbortController();
  const waiting = faultOf(slots.use('d', given.signal, work('d')));
  given.abort(new Error('gone'));
  t.match(await waiting, { message: 'gone' });
  for (const end of ends) end();
  await turn();
  ends.at(-1)?.();
  await Promise.all(all);
  t.strictSame(order, ['a', 'c', 'b', 'a']);
});
