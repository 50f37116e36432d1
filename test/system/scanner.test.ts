/** The image scanner, from declaration to clean disk: honest sources, hostile ones, and crashes. */
import { execFileSync, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { operationRecord } from '../../backend/api/resources/operation-requests.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import {
  events,
  type ImageRecord,
  type ImageReportRecord,
  imageReports,
  images,
  latestOperations,
  type OperationRecord,
  operations,
} from '../../backend/model/records/index.ts';
import { type ImageScannerOptions, startImageScanner } from '../../backend/scanner/images.ts';
import { put, read, readAll, remove } from '../../backend/store/collection.ts';
import { type EmbeddedStore, openEmbeddedStore } from '../../backend/store/embedded.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import type { Store } from '../../backend/store/store.ts';
import { qcow2Image, rawDisk } from '../support/disk-images.ts';
import { until } from '../support/eventually.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { temporaryDirectory } from '../support/stores.ts';

const project = newId('project');
const digest = (algorithm: string, data: Buffer): string => createHash(algorithm).update(data).digest('hex');
const sha256 = (data: Buffer): string => digest('sha256', data);
const hasQemuImg = (() => {
  try {
    execFileSync('qemu-img', ['--version']);
    return true;
  } catch {
    return false;
  }
})();
const needsQemuImg = hasQemuImg ? {} : { skip: 'qemu-img is not installed (package qemu-utils)' };

interface Place {
  readonly store: EmbeddedStore;
  readonly storePath: string;
  /** The project's directory of files. */
  readonly files: string;
  readonly filesDir: string;
  readonly imageStore: string;
}

async function place(t: Test): Promise<Place> {
  const directory = temporaryDirectory(t);
  const storePath = join(directory, 'store.db');
  const store = await openEmbeddedStore({ path: storePath });
  t.teardown(() => store.close());
  const filesDir = join(directory, 'files');
  const files = join(filesDir, project);
  mkdirSync(files, { recursive: true });
  return { store, storePath, files, filesDir, imageStore: join(directory, 'images') };
}

async function scan(t: Test, { store, filesDir, imageStore }: Place, options: Partial<ImageScannerOptions> = {}) {
  const limits = { retryAfterMs: 20, ...options.limits };
  const logger = silentLogger;
  const scanner = await startImageScanner({ store, logger, filesDir, imageStore, ...options, limits });
  t.teardown(() => scanner.close());
  return scanner;
}

async function declare(store: Store, fields: Pick<ImageRecord, 'source'> & Partial<ImageRecord>): Promise<Id<'image'>> {
  const now = new Date().toISOString();
  const image: ImageRecord = {
    id: newId('image'),
    project,
    name: 'image',
    labels: {},
    description: '',
    architecture: 'x86_64',
    visibility: 'project',
    delete_protection: false,
    created_at: now,
    updated_at: now,
    ...fields,
  };
  const operation = operationRecord({ project, kind: 'image_import', target: image.id, options: {} }, new Date());
  const { ok } = await store.commit({ write: [put(images, image.id, image), ...operation.writes] });
  if (!ok) throw new Error('not declared');
  return image.id;
}

/** Returns the operation of the image's import. */
async function operationOf(store: Store, id: string): Promise<OperationRecord | undefined> {
  const latest = await read(store, latestOperations, id);
  return (latest && (await read(store, operations, latest.value.id)))?.value;
}

/** Waits until `done` says so. */
async function report(
  store: Store,
  id: string,
  done: (report: ImageReportRecord) => boolean,
): Promise<ImageReportRecord> {
  const mirror = await openMirror(store, { prefixes: [imageReports.prefix], kinds: [imageReports] });
  try {
    const signal = AbortSignal.timeout(60_000);
    for (let after = mirror.revision; ; after = mirror.revision) {
      const found = mirror.get(imageReports, id)?.value;
      if (found && done(found)) return found;
      const changed = await mirror.waitForChange({ of: [{ kind: imageReports, id }], after, signal });
      if (!changed) throw new Error(`the report of ${id} stays ${JSON.stringify(found)}`);
    }
  } finally {
    await mirror.close();
  }
}
const final = (found: ImageReportRecord) => found.phase !== 'importing';

const info = (path: string) =>
  JSON.parse(execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' }));

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '::1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://[::1]:${(server.address() as AddressInfo).port}`;
}

t.test('files and URLs become clean disks that VMs share', needsQemuImg, async (t) => {
  const here = await place(t);
  const disk = rawDisk(3 * 1024 * 1024);
  writeFileSync(join(here.files, 'disk.raw'), disk);
  execFileSync('qemu-img', [
    'convert',
    '-c',
    '-O',
    'qcow2',
    '-f',
    'raw',
    join(here.files, 'disk.raw'),
    join(here.files, 'disk.qcow2'),
  ]);
  execFileSync('qemu-img', [
    'convert',
    '-O',
    'vdi',
    '-f',
    'raw',
    join(here.files, 'disk.raw'),
    join(here.files, 'disk.vdi'),
  ]);
  const packed = gzipSync(readFileSync(join(here.files, 'disk.vdi')));
  const url = await serve(t, (request, response) => {
    if (request.url === '/moved') response.writeHead(302, { location: '/disk' }).end();
    else if (request.url === '/packed') response.end(packed);
    else response.end(disk);
  });
  const { store, imageStore } = here;
  const ids = [
    await declare(store, { source: 'file:disk.raw' }),
    await declare(store, { source: 'file:disk.qcow2' }),
    await declare(store, { source: `${url}/moved`, sha256: sha256(disk) }),
    await declare(store, { source: `${url}/packed`, sha512: digest('sha512', packed) }),
  ];
  await scan(t, here, { allowPrivateAddresses: true });
  for (const id of ids) {
    const found = await report(store, id, final);
    t.match(found, { phase: 'available', size: disk.length, sha256: /^[0-9a-f]{64}$/ }, 'reported');
    const path = join(imageStore, `${id}.qcow2`);
    t.match(info(path), { format: 'qcow2', 'virtual-size': disk.length });
    t.notOk('backing-filename' in info(path));
    t.equal(statSync(path).mode & 0o777, 0o444, 'nobody writes to it');
    if (process.getuid?.() === 0) t.equal(statSync(path).uid, 0, 'and it is not the converter that owns it');
    const copy = join(here.files, `${id}.raw`);
    execFileSync('qemu-img', ['convert', '-O', 'raw', path, copy]);
    t.ok(readFileSync(copy).equals(disk), 'with the content of the source');
  }
  t.same(readdirSync(imageStore).filter((name) => !name.endsWith('.qcow2')).length, 1, 'one staging directory');
  const reasons = [];
  for await (const event of readAll(store, events)) reasons.push(event.value.reason);
  t.same(reasons, new Array(4).fill('imported'), 'and their owner can read of it');

  const [first = ''] = ids;
  await store.commit({ write: [remove(images, first)] });
  await t.resolves(
    until('it is gone', () => !existsSync(join(imageStore, `${first}.qcow2`))),
    'the file goes when the image is deleted',
  );
  await until('so is its report', async () => (await store.get(imageReports.prefix + first)) === undefined);
});

t.test('hostile and broken sources end in an error that says why, and leave nothing', needsQemuImg, async (t) => {
  const here = await place(t);
  const { store, files, imageStore } = here;
  const write = (name: string, data: Buffer | string) => writeFileSync(join(files, name), data);
  const secret = join(files, 'secret');
  writeFileSync(secret, rawDisk());
  const make = (...args: string[]) => execFileSync('qemu-img', args, { cwd: files, stdio: 'ignore' });
  make('create', '-f', 'qcow2', '-b', secret, '-F', 'raw', 'backing.qcow2');
  make('create', '-f', 'qcow2', '-o', `data_file=${join(files, 'data.raw')},data_file_raw=on`, 'data-file.qcow2', '1M');
  make(
    'create',
    '-f',
    'qcow2',
    '-b',
    'json:{"driver":"file","filename":"/etc/passwd"}',
    '-F',
    'raw',
    '-u',
    'json.qcow2',
    '1M',
  );
  make('create', '-f', 'qcow2', 'bomb.qcow2', '500T');
  make('create', '-f', 'vpc', 'disk.vhd', '1M');
  write(
    'text.vmdk',
    '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 8 FLAT "/etc/passwd" 0\n',
  );
  symlinkSync(secret, join(files, 'link.raw'));
  symlinkSync('/etc', join(files, 'directory'));
  execFileSync('mkfifo', [join(files, 'pipe')]);
  write('large.raw', rawDisk());
  truncateSync(join(files, 'large.raw'), 64 * 1024 * 1024);
  // The header is in order; the table of the second level is not where one can be.
  const broken = qcow2Image();
  broken.writeBigUInt64BE((1n << 63n) | 0x10200n, 3 * 65536);
  write('broken.qcow2', broken);
  write('right.raw', rawDisk());
  mkdirSync(join(here.filesDir, 'prj-other'));
  const url = await serve(t, (request, response) => {
    if (request.url === '/endless') {
      const chunk = Buffer.alloc(1024 * 1024);
      const more = () => {
        while (response.write(chunk));
      };
      response.on('drain', more);
      more();
    } else if (request.url === '/loop') response.writeHead(301, { location: '/loop' }).end();
    else if (request.url === '/to-file') response.writeHead(302, { location: 'file:///etc/passwd' }).end();
    else response.writeHead(404).end('<html>');
  });

  const sources: [string, RegExp, Pick<ImageRecord, 'sha256' | 'sha512'>?][] = [
    ['file:backing.qcow2', /backing file/],
    ['file:data-file.qcow2', /external/],
    ['file:json.qcow2', /backing file/],
    ['file:bomb.qcow2', /disk of 500TiB; the limit is 1GiB/],
    ['file:disk.vhd', /VHD image/],
    ['file:text.vmdk', /VMDK descriptor/],
    ['file:link.raw', /symbolic link/],
    ['file:directory', /symbolic link/],
    ['file:pipe', /not a regular file/],
    ['file:large.raw', /larger than 32MiB/],
    ['file:broken.qcow2', /table of clusters is damaged/],
    ['file:absent', /no file absent/],
    ['file:../prj-other/x', /not the name of a file/],
    ['file:.', /not the name of a file/],
    ['file:right.raw', /has the SHA-256/, { sha256: '0'.repeat(64) }],
    ['file:right.raw', /has the SHA-512/, { sha512: '0'.repeat(128) }],
    ['file:right.raw', /has the SHA-512/, { sha256: sha256(rawDisk()), sha512: '0'.repeat(128) }],
    [`${url}/endless`, /larger than 32MiB/],
    [`${url}/loop`, /redirects more than/],
    [`${url}/to-file`, /not an http or https URL/],
    [`${url}/absent`, /answers 404/],
    ['http://user:secret@example.net/', /password/],
  ];
  const declared = [];
  for (const [source, why, digests] of sources)
    declared.push({ source, why, id: await declare(store, { source, ...digests }) });
  await scan(t, here, {
    allowPrivateAddresses: true,
    limits: { maxSourceBytes: 32 * 1024 ** 2, maxVirtualBytes: 1024 ** 3, maxAttempts: 1, maxImports: 4 },
  });
  for (const { source, why, id } of declared) {
    const found = await report(store, id, final);
    t.equal(found.phase, 'error', source);
    t.match(found.message, why, source);
  }
  t.same(
    readdirSync(imageStore).filter((name) => name.endsWith('.qcow2')),
    [],
    'no image was made',
  );
  const [staging = ''] = readdirSync(imageStore);
  t.same(readdirSync(join(imageStore, staging)), [], 'nothing is left over');
});

t.test('a URL reaches the public internet only', async (t) => {
  const here = await place(t);
  let asked = 0;
  const inside = await serve(t, (_request, response) => {
    asked++;
    response.end(rawDisk());
  });
  const port = new URL(inside).port;
  await scan(t, here, { mode: 'simulated', limits: { maxAttempts: 1 } });
  for (const host of [
    '[::1]',
    'localhost',
    '[::ffff:127.0.0.1]',
    '127.1',
    '0x7f000001',
    '169.254.169.254',
    '[fd00:ec2::254]',
  ]) {
    const id = await declare(here.store, { source: `http://${host}:${port}/` });
    const found = await report(here.store, id, final);
    t.match(found, { phase: 'error', message: /not on the public internet/ }, host);
  }
  t.equal(asked, 0, 'nothing was asked inside');
});

t.test('the scanner tries again after a temporary failure', async (t) => {
  const here = await place(t);
  let asked = 0;
  const url = await serve(t, (_request, response) => {
    if (++asked < 3) response.writeHead(503).end();
    else response.end(rawDisk());
  });
  await scan(t, here, { mode: 'simulated', allowPrivateAddresses: true });
  const id = await declare(here.store, { source: url });
  t.match(await report(here.store, id, final), { phase: 'available', sha256: sha256(rawDisk()), size: 1024 * 1024 });
  t.equal(asked, 3);
  t.same(
    readdirSync(here.imageStore).filter((name) => name.endsWith('.qcow2')),
    [],
    'simulated hosts read no images',
  );
});

t.test('the report of a running import says its step and how far it is, at most once a second', async (t) => {
  const here = await place(t);
  const disk = rawDisk(1024 * 1024);
  let finish = () => {};
  const url = await serve(t, (_request, response) => {
    response.writeHead(200, { 'content-length': disk.length });
    let sent = 0;
    const timer = setInterval(() => {
      if (sent >= disk.length / 2) return;
      response.write(disk.subarray(sent, sent + 16_384));
      sent += 16_384;
    }, 20);
    finish = () => {
      clearInterval(timer);
      response.end(disk.subarray(sent));
    };
    response.on('close', () => clearInterval(timer));
  });
  const mirror = await openMirror(here.store, { prefixes: [imageReports.prefix], kinds: [imageReports] });
  t.teardown(() => mirror.close());
  const seen: ImageReportRecord[] = [];
  mirror.subscribe(() => {
    for (const { value } of mirror.list(imageReports)) seen.push(value);
  });
  await scan(t, here, { mode: 'simulated', allowPrivateAddresses: true });
  const id = await declare(here.store, { source: url });
  const half = await report(here.store, id, ({ percent }) => percent === 25);
  const bytes = { bytes: disk.length / 2, total_bytes: disk.length };
  t.match(half, { phase: 'importing', step: 'downloading', ...bytes });
  const running = { kind: 'image_import', state: 'running', progress: 25, step: 'downloading', ...bytes };
  t.match(await operationOf(here.store, id), running, 'the operation shows the same');
  finish();
  const end = await report(here.store, id, final);
  t.equal(end.phase, 'available');
  t.notOk('step' in end || 'percent' in end || 'bytes' in end, 'a finished import has no step');
  const ended = await operationOf(here.store, id);
  t.match(ended, { state: 'succeeded', progress: 100 });
  t.type(ended?.finished_at, 'string');
  t.notOk(ended && ('step' in ended || 'bytes' in ended || 'total_bytes' in ended));
  const progress = seen.filter(({ percent = 0 }) => percent > 0);
  t.ok(progress.length >= 1);
  for (const [index, { at, percent = 0 }] of progress.entries()) {
    const before = progress[index - 1];
    t.ok(percent >= (before?.percent ?? 0), 'it only grows');
    t.ok(before === undefined || Date.parse(at) - Date.parse(before.at) > 900, 'no flood of reports');
  }
});

t.test('the operation of an import fails with the import, and goes on while its file is missing', async (t) => {
  const here = await place(t);
  await scan(t, here, { mode: 'simulated' });
  const missing = await declare(here.store, { source: 'file:later.raw' });
  await report(here.store, missing, ({ phase }) => phase === 'error');
  t.match(await operationOf(here.store, missing), { state: 'running', progress: 0 });
  writeFileSync(join(here.files, 'later.raw'), rawDisk());
  await report(here.store, missing, ({ phase }) => phase === 'available');
  t.match(await operationOf(here.store, missing), { state: 'succeeded' });
  const wrong = await declare(here.store, { source: 'file:later.raw', sha256: 'a'.repeat(64) });
  const { message } = await report(here.store, wrong, final);
  t.match(await operationOf(here.store, wrong), { state: 'failed', error: { code: 'rule_violated', message } });
});

t.test('one scanner works at a time; another takes over', async (t) => {
  const here = await place(t);
  let asked = 0;
  const url = await serve(t, (_request, response) => {
    asked++;
    response.end(rawDisk());
  });
  const other = { ...here, store: here.store.session() as EmbeddedStore };
  const first = await scan(t, here, { mode: 'simulated', allowPrivateAddresses: true });
  await scan(t, other, { mode: 'simulated', allowPrivateAddresses: true });
  const before = await declare(here.store, { source: url });
  t.match(await report(here.store, before, final), { phase: 'available' });
  t.equal(asked, 1, 'one of them asked');
  await first.close();
  const after = await declare(here.store, { source: url });
  t.match(await report(here.store, after, final), { phase: 'available' });
  t.equal(asked, 2, 'then the other');
});

t.test('killed in the middle of an import, it starts over and leaves nothing', needsQemuImg, async (t) => {
  const here = await place(t);
  const disk = rawDisk();
  let complete = false;
  let stalled = () => {};
  const stall = new Promise<void>((resolve) => {
    stalled = resolve;
  });
  const url = await serve(t, (_request, response) => {
    if (complete) return response.end(disk);
    response.write(disk.subarray(0, 65536), () => stalled());
    return undefined;
  });
  const id = await declare(here.store, { source: url, sha256: sha256(disk) });
  await here.store.close();

  const script = new URL('../support/scanner-process.ts', import.meta.url).pathname;
  const child = fork(script, [here.storePath, here.filesDir, here.imageStore]);
  const exited = once(child, 'exit');
  await stall;
  const [staging = ''] = readdirSync(here.imageStore);
  await until('a part has come', () => existsSync(join(here.imageStore, staging, id, 'source')));
  child.kill('SIGKILL');
  await exited;
  t.ok(lstatSync(join(here.imageStore, staging)).isDirectory(), 'half of it lies in staging');

  complete = true;
  const store = await openEmbeddedStore({ path: here.storePath });
  t.teardown(() => store.close());
  await scan(t, { ...here, store }, { allowPrivateAddresses: true });
  t.match(await report(store, id, final), { phase: 'available', sha256: sha256(disk) });
  t.equal(info(join(here.imageStore, `${id}.qcow2`))['virtual-size'], disk.length);
  t.notOk(existsSync(join(here.imageStore, staging)), 'what the dead one had begun is gone');
});

t.test('a file may come after its declaration', async (t) => {
  const here = await place(t);
  const first = await scan(t, here, { mode: 'simulated' });
  const id = await declare(here.store, { source: 'file:late.raw' });
  t.match(await report(here.store, id, final), { phase: 'error', message: /There is no file late.raw/ });
  await first.close();
  writeFileSync(join(here.files, 'late.raw'), rawDisk());
  await scan(t, here, { mode: 'simulated' });
  const found = await report(here.store, id, ({ phase }) => phase === 'available');
  t.match(found, { sha256: sha256(rawDisk()) });
  t.notOk(found.reason);
  const still = await declare(here.store, { source: 'file:later.raw' });
  await report(here.store, still, ({ phase }) => phase === 'error');
  writeFileSync(join(here.files, 'later.raw'), rawDisk());
  t.ok(await report(here.store, still, ({ phase }) => phase === 'available'), 'while the scanner runs, too');
});

t.test('an image whose file has vanished is imported again', needsQemuImg, async (t) => {
  const here = await place(t);
  writeFileSync(join(here.files, 'disk.raw'), rawDisk());
  const id = await declare(here.store, { source: 'file:disk.raw' });
  const first = await scan(t, here);
  await report(here.store, id, final);
  await first.close();
  const path = join(here.imageStore, `${id}.qcow2`);
  execFileSync('rm', [path]);
  await scan(t, here);
  await until('the file is back', () => existsSync(path));
  t.equal(info(path)['virtual-size'], 1024 * 1024);
});
