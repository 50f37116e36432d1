/** Attacks on the import of snapshots: by guests that wrote their disks, and by strangers at the image server. */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { type RequestOptions, request } from 'node:https';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { ConnectionOptions } from 'node:tls';
import { zstdCompressSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { deliverDisk } from '../../backend/host/images/deliver.ts';
import { newId } from '../../backend/model/ids.ts';
import {
  deliveryIdentity,
  deliveryUrlPath,
  diskBytesHeader,
  diskDigestTrailer,
  imageTransferTls,
  imageUrlPath,
} from '../../backend/model/image/transfer.ts';
import {
  alive,
  type ImageRecord,
  imageDeliveries,
  images,
  snapshotReports,
  snapshots,
} from '../../backend/model/records/index.ts';
import { Deliveries } from '../../backend/scanner/deliveries.ts';
import { FairSlots } from '../../backend/scanner/fair-slots.ts';
import { startImageServer } from '../../backend/scanner/image-server.ts';
import { imageFile, importImage } from '../../backend/scanner/import.ts';
import { defaultLimits } from '../../backend/scanner/limits.ts';
import { put } from '../../backend/store/collection.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import { until } from '../support/eventually.ts';
import { faultOf, imageOf, needsQemuImg } from '../support/importer.ts';
import { silentLogger as logger } from '../support/silent-logger.ts';
import { temporaryDirectory, withStore } from '../support/stores.ts';

const MiB = 1024 ** 2;
const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

/** An image server that waits for the disk of a snapshot with one disk of so many bytes. */
async function desk(t: Test, bytes: number, { maxBytes = 64 * MiB, idleTimeoutMs = 30_000 } = {}) {
  const store = await withStore(t);
  const { source: _source, ...image } = imageOf(newId('project'), '');
  const [snapshot, host, at] = [newId('snapshot'), newId('host'), new Date().toISOString()];
  const record: ImageRecord = { ...image, snapshot, snapshot_disk: 'root' };
  const common = { project: image.project, name: 's', labels: {}, description: '', created_at: at, updated_at: at };
  const more = { host, disks: [{ size: bytes }], consistency: 'crash' as const, delete_protection: false };
  await store.commit({
    write: [
      put(images, image.id, record),
      put(snapshots, snapshot, { ...common, ...more, id: snapshot }),
      put(snapshotReports, snapshot, { host, phase: 'available', taken_at: at, at }),
    ],
  });
  const kinds = [images, snapshots, snapshotReports, imageDeliveries, alive] as const;
  const mirror = await openMirror(store, { prefixes: [''], kinds: [...kinds], logger });
  t.teardown(() => mirror.close());
  const deliveries = new Deliveries({
    ...{ mirror, limits: { ...defaultLimits, maxDeliveryWaitMs: 5_000 }, isListening: () => true },
    commit: async (commit) => void (await store.commit(commit)),
  });
  const server = await startImageServer({
    ...{ listen: { host: '::1', port: 0 }, logger, find: () => undefined, deliveries },
    limits: { idleTimeoutMs },
  });
  t.teardown(() => server.close());
  const target = join(temporaryDirectory(t), 'disk');
  const { signal } = new AbortController();
  return {
    ...{ image: record, mirror, target, server, url: `https://[::1]:${server.port}` },
    /** Begins to wait. */
    wait: () => deliveries.fetch(record, target, maxBytes, signal, () => undefined),
    secret: async () => {
      await until('the secret is recorded', () => deliveries.secretOf(record.id) !== undefined);
      return deliveries.secretOf(record.id) ?? '';
    },
  };
}

interface Sent {
  readonly url: string;
  readonly image: string;
  readonly secret: string;
  readonly path?: string;
  readonly method?: string;
  readonly bytes?: string;
  readonly digest?: string;
  readonly body: Buffer;
  /** False for a body without an end. */
  readonly ends?: boolean;
}

/** Sends a request as a host could. Returns the status of the answer, or the error. */
async function send({ url, image, secret, path, method = 'PUT', bytes, digest = '', body, ends = true }: Sent) {
  const options: RequestOptions & Pick<ConnectionOptions, 'pskCallback'> = {
    ...imageTransferTls,
    ...{ host: '::1', port: new URL(url).port, path: path ?? deliveryUrlPath(image), method, agent: false },
    headers: {
      ...(bytes !== undefined && { [diskBytesHeader]: bytes }),
      ...(method === 'PUT' && { trailer: diskDigestTrailer }),
    },
    pskCallback: () => ({ identity: deliveryIdentity(image), psk: Buffer.from(secret, 'hex') }),
    checkServerIdentity: () => undefined,
  };
  const sent = request(options);
  if (method === 'PUT') sent.setHeader('transfer-encoding', 'chunked');
  const answer = once(sent, 'response').then(
    ([response]) => {
      response.resume();
      return response.statusCode as number;
    },
    (error: Error) => error.message,
  );
  if (method === 'PUT') sent.write(body);
  if (method === 'PUT' && digest !== '') sent.addTrailers({ [diskDigestTrailer]: digest });
  if (ends) sent.end();
  const status = await answer;
  sent.destroy();
  return status;
}

t.test('a disk arrives as it is, with holes instead of zeros', async (t) => {
  const disk = Buffer.alloc(8 * MiB);
  randomBytes(100_000).copy(disk, 3 * MiB + 12_345);
  const { url, image, target, wait, secret, mirror } = await desk(t, disk.length);
  const arrived = wait();
  const delivery = { url, image: image.id, secret: await secret(), bytes: disk.length, idleMs: 5_000 };
  const { signal } = new AbortController();
  await deliverDisk({ ...delivery, content: Readable.from([disk], { objectMode: false }), signal });
  t.strictSame(await arrived, { sha256: sha256(disk), sha512: undefined, size: disk.length });
  t.ok(readFileSync(target).equals(disk));
  t.ok(statSync(target).blocks * 512 < MiB, 'zeros take no space');
  await until('the secret is removed', () => mirror.get(imageDeliveries, image.id) === undefined);
});

t.test('a delivery that is no honest disk is refused in time', async (t) => {
  const disk = randomBytes(MiB);
  const body = zstdCompressSync(disk);
  const bomb = zstdCompressSync(Buffer.alloc(256 * MiB));
  const right = { bytes: `${MiB}`, digest: sha256(disk), body };
  const attacks: Readonly<Record<string, [object, RegExp]>> = {
    'no size': [{ bytes: undefined }, /another size of the disk/],
    'no number': [{ bytes: '1e6' }, /another size of the disk/],
    'more than the snapshot has': [{ bytes: `${2 * MiB + 1}` }, /another size of the disk/],
    'more than it announces': [{ body: zstdCompressSync(Buffer.alloc(2 * MiB)) }, /more bytes than the disk/],
    'a bomb': [{ body: bomb, bytes: `${2 * MiB}` }, /more bytes than the disk/],
    'less than it announces': [{ bytes: `${2 * MiB}` }, /other bytes than those/],
    'other bytes': [{ digest: 'a'.repeat(64) }, /other bytes than those/],
    'no digest': [{ digest: '' }, /other bytes than those/],
    'not compressed': [{ body: disk }, /ended the delivery/],
    'an end in the middle': [{ body: body.subarray(0, body.length / 2) }, /ended the delivery/],
    'no end': [{ ends: false, body: body.subarray(0, 1000) }, /ended the delivery/],
  };
  for (const [name, [change, message]] of Object.entries(attacks)) {
    const { url, image, target, wait, secret } = await desk(t, 2 * MiB, {
      idleTimeoutMs: name === 'no end' ? 200 : 30_000,
    });
    const fault = faultOf(wait());
    const before = process.memoryUsage().rss;
    const status = await send({ url, image: image.id, secret: await secret(), ...right, ...change });
    t.not(status, 204, name);
    t.match(await fault, { name: 'SourceUnavailable', message }, name);
    t.ok(process.memoryUsage().rss - before < 128 * MiB, `${name}: it needs little memory`);
    t.ok(!existsSync(target) || statSync(target).size <= 2 * MiB, `${name}: no more than the disk is written`);
  }
});

t.test('a disk with more data than there is space for is refused', async (t) => {
  const disk = randomBytes(2 * MiB);
  const { url, image, wait, secret } = await desk(t, disk.length, { maxBytes: MiB });
  const fault = faultOf(wait());
  const sent = { url, image: image.id, bytes: `${disk.length}`, digest: sha256(disk), body: zstdCompressSync(disk) };
  await send({ ...sent, secret: await secret() });
  t.match(await fault, { name: 'SourceUnavailable', message: /not enough free space/ });
});

t.test('only the secret of the delivery opens the server, and for nothing else', async (t) => {
  const disk = randomBytes(MiB);
  const { url, image, wait, secret } = await desk(t, disk.length);
  const right = { url, image: image.id, bytes: `${MiB}`, digest: sha256(disk), body: zstdCompressSync(disk) };
  t.type(await send({ ...right, secret: 'ab'.repeat(32) }), 'string', 'without a delivery, the handshake fails');
  const arrived = wait();
  const known = await secret();
  t.type(await send({ ...right, secret: 'ab'.repeat(32) }), 'string', 'as with a wrong secret');
  t.type(await send({ ...right, image: newId('image'), secret: known }), 'string', 'or for another image');
  t.equal(await send({ ...right, secret: known, path: imageUrlPath(image.id), method: 'GET' }), 404);
  t.equal(await send({ ...right, secret: known, path: deliveryUrlPath(newId('image')) }), 404);
  t.equal(await send({ ...right, secret: known, method: 'GET' }), 405);
  t.equal(await send({ ...right, secret: known }), 204, 'the right one still works');
  await arrived;
  t.type(await send({ ...right, secret: known }), 'string', 'and only once');
});

t.test('a host that begins again replaces its earlier connection', async (t) => {
  const disk = randomBytes(MiB);
  const { url, image, wait, secret, server } = await desk(t, disk.length);
  const arrived = wait();
  const right = { url, image: image.id, secret: await secret(), bytes: `${MiB}`, digest: sha256(disk) };
  const body = zstdCompressSync(disk);
  const hanging = send({ ...right, body: body.subarray(0, 1000), ends: false });
  await until('it is connected', async () => (await server.openConnections()) > 0);
  t.equal(await send({ ...right, body }), 204);
  t.match(await arrived, { sha256: sha256(disk) });
  t.not(await hanging, 204);
});

t.test('a format that a guest writes into its disk is not interpreted', needsQemuImg, async (t) => {
  const directory = temporaryDirectory(t);
  const [secretFile, disk] = [join(directory, 'secret'), join(directory, 'disk')];
  writeFileSync(secretFile, 'secret'.repeat(1_000));
  truncateSync(secretFile, MiB);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', secretFile, disk, '512M']);
  const [content, vmdk] = [Buffer.alloc(MiB), Buffer.alloc(MiB)];
  readFileSync(disk).copy(content);
  vmdk.write(`# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 2048 FLAT "${secretFile}" 0\n`);
  const gzip = Buffer.concat([Buffer.from('1f8b0800', 'hex'), Buffer.alloc(MiB - 4)]);
  for (const [name, bytes] of Object.entries({ qcow2: content, vmdk, gzip })) {
    const { source: _source, ...rest } = imageOf(newId('project'), '');
    const image: ImageRecord = { ...rest, snapshot: newId('snapshot') };
    const fetchSnapshot = async (_image: ImageRecord, target: string) => {
      writeFileSync(target, bytes);
      return { sha256: sha256(bytes), sha512: undefined, size: bytes.length };
    };
    const [limits, conversions] = [defaultLimits, new FairSlots(1)];
    const places = { filesDir: directory, imageStore: directory, staging: directory, allowPrivateAddresses: false };
    const options = { ...places, storeImage: true, limits, conversions, fetchSnapshot };
    const { virtualSize } = await importImage(image, options, new AbortController().signal, () => true);
    t.equal(virtualSize, MiB, `${name}: the size is that of the disk`);
    const raw = join(directory, 'raw');
    execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', imageFile(directory, image.id), raw]);
    t.ok(readFileSync(raw).equals(bytes), `${name}: the image has the bytes of the disk`);
  }
});
