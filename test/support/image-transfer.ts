/** Images that hosts fetch: honest and hostile image servers, and hosts that need the images. */
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import type { FetchStep } from '../../backend/host/images/fetch.ts';
import type { HostImageLimits } from '../../backend/host/images/host-images.ts';
import { ImageFiles } from '../../backend/host/images/image-files.ts';
import type { Logger } from '../../backend/model/component.ts';
import { newId } from '../../backend/model/ids.ts';
import { imageCopyId, imageTransferTls } from '../../backend/model/image/transfer.ts';
import { placementId } from '../../backend/model/placement/placement-id.ts';
import {
  imageCopies,
  imageReports,
  imageServers,
  images,
  placements,
  schedules,
  vms,
} from '../../backend/model/records/index.ts';
import { type ImageServerLimits, startImageServer } from '../../backend/scanner/image-server.ts';
import { put, remove } from '../../backend/store/collection.ts';
import type { Store } from '../../backend/store/store.ts';
import type { Cluster } from './cluster.ts';
import { silentLogger } from './silent-logger.ts';
import { startSimulatedHost } from './simulated-host.ts';
import { temporaryDirectory } from './stores.ts';

/** A file of an image, with its secret. */
export interface TestImage {
  readonly id: Id<'image'>;
  readonly content: Buffer;
  readonly sha256: string;
  readonly secret: string;
}

export const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

/** Makes an image with random content. */
export function testImage(bytes = 4 * 2 ** 20, id = newId('image')): TestImage {
  const content = randomBytes(bytes);
  return { id, content, sha256: sha256(content), secret: randomBytes(32).toString('hex') };
}

/** Declares the image as one that is available, with the record of a server's file. */
export async function declare(store: Store, image: TestImage, server = 'scanner'): Promise<void> {
  const at = new Date().toISOString();
  const { id, sha256, secret } = image;
  const common = { project: newId('project'), name: id, labels: {}, description: '', created_at: at, updated_at: at };
  const more = { source: 'file:a', architecture: 'x86_64', visibility: 'project', delete_protection: false } as const;
  await store.commit({
    write: [
      put(images, id, { ...common, ...more, id }),
      put(imageReports, id, { phase: 'available', size: image.content.length, at }),
      put(imageCopies, imageCopyId(id, server), { sha256, secret, bytes: image.content.length, at }),
    ],
  });
}

/** Records the URLs of a server. */
export async function announce(store: Store, urls: readonly string[], server = 'scanner', name = 'none') {
  const record = { urls: [...urls], store: name, at: new Date().toISOString() };
  await store.commit({ write: [put(imageServers, server, record)] });
}

/** Starts the image server of the scanner for these images, in a directory of its own. */
export async function serve(t: Test, served: readonly TestImage[], limits: Partial<ImageServerLimits> = {}) {
  const directory = temporaryDirectory(t);
  const all = new Map<string, TestImage>();
  for (const image of served) {
    writeFileSync(join(directory, `${image.id}.qcow2`), image.content);
    all.set(image.id, image);
  }
  const server = await startImageServer({
    listen: { host: '::1', port: 0 },
    logger: silentLogger,
    limits,
    find: (id) => {
      const image = all.get(id);
      return image && { path: join(directory, `${id}.qcow2`), bytes: image.content.length, secret: image.secret };
    },
  });
  t.teardown(() => server.close());
  return { ...server, directory, url: `https://[::1]:${server.port}` };
}

/** Starts a server that knows the secret and answers as it likes. */
export async function hostileServer(
  t: Test,
  { secret }: { readonly secret: string },
  answer: (request: IncomingMessage, response: ServerResponse) => void,
) {
  const requests: (string | undefined)[] = [];
  const server = createServer(
    { ...imageTransferTls, pskCallback: () => Buffer.from(secret, 'hex') },
    (request, response) => {
      requests.push(request.headers.range);
      answer(request, response);
    },
  );
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => {
    server.listen(0, '::1', resolve);
  });
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `https://[::1]:${(server.address() as AddressInfo).port}`, requests };
}

/** The limits of fast tests. */
export const fast: Partial<HostImageLimits> = {
  retryMs: 10,
  maxRetryMs: 100,
  progressIntervalMs: 0,
  rateWindowMs: 300,
  answerTimeoutMs: 2000,
  sweepIntervalMs: 200,
};

/** Starts a host that fetches images, with simulated VMs. */
export async function startFetchingHost(
  t: Test,
  store: Store,
  options: {
    readonly limits?: Partial<HostImageLimits>;
    readonly dataDir?: string;
    readonly copies?: string;
    readonly imageStore?: string;
    readonly onStep?: (step: FetchStep) => void;
    readonly logger?: Logger;
  } = {},
) {
  const dataDir = options.dataDir ?? temporaryDirectory(t);
  const copies = options.copies ?? join(dataDir, 'images');
  const files = new ImageFiles(options.imageStore ?? join(dataDir, 'no-image-store'), copies);
  const limits = { ...fast, ...options.limits };
  const { onStep, logger = silentLogger } = options;
  const host = await startSimulatedHost(t, store, {
    dataDir,
    logger,
    images: { files, limits, ...(onStep && { onStep }) },
  });
  return { ...host, files, copies };
}

/** Declares a VM of the image, and places it on the host. */
export async function place(cluster: Cluster<Store>, host: Id<'host'>, image: Id<'image'>): Promise<Id<'vm'>> {
  const at = new Date().toISOString();
  const vm = cluster.newVm({ image });
  const { id, cpus, memory, disk_size: disk } = vm;
  await cluster.store.commit({
    write: [
      put(vms, id, vm),
      put(schedules, id, { host, fence: 1, at }),
      put(placements, placementId(host, id), { fence: 1, cpus, memory, disk, at }),
    ],
  });
  return id;
}

/** Deletes the VM, and removes its records after the host has removed the VM. */
export async function removeVm(cluster: Cluster<Store>, host: Id<'host'>, vm: Id<'vm'>): Promise<void> {
  await cluster.deleteVm(vm);
  await cluster.until('the VM is gone', () => cluster.phase(vm) === 'gone');
  await cluster.write(remove(placements, placementId(host, vm)), remove(schedules, vm), remove(vms, vm));
}
