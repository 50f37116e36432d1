/** A host fetches the images of its VMs by itself, and removes them when nobody needs them. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { imageServers, images } from '../../backend/model/records/index.ts';
import { remove } from '../../backend/store/collection.ts';
import { type Cluster, MiB, withCluster } from '../support/cluster.ts';
import { until } from '../support/eventually.ts';
import {
  announce,
  declare,
  hostileServer,
  place,
  removeVm,
  serve,
  startFetchingHost,
  testImage,
} from '../support/image-transfer.ts';
import { temporaryDirectory } from '../support/stores.ts';

const running = (cluster: Cluster, vm: Parameters<Cluster['phase']>[0]) =>
  cluster.until('the VM runs', () => cluster.phase(vm) === 'running');

t.test('ten VMs wait for one image, and the host fetches it once', async (t) => {
  const cluster = await withCluster(t);
  const image = testImage();
  const server = await serve(t, [image]);
  await declare(cluster.store, image);
  await announce(cluster.store, [server.url]);
  const host = await startFetchingHost(t, cluster.store);
  const placed = await Promise.all(Array.from({ length: 10 }, () => place(cluster, host.id, image.id)));
  for (const vm of placed) await running(cluster, vm);
  t.equal(server.sentBytes(), image.content.length, 'the bytes of the file, once');
  t.same(readdirSync(host.copies), [`${image.id}.qcow2`], 'no temporary file is left');
  const path = join(host.copies, `${image.id}.qcow2`);
  t.ok(readFileSync(path).equals(image.content));
  t.equal(statSync(path).mode & 0o777, 0o400, 'nobody writes to it');

  await host.close();
  const again = await startFetchingHost(t, cluster.store, { dataDir: host.dataDir });
  const late = await place(cluster, again.id, image.id);
  await running(cluster, late);
  t.equal(server.sentBytes(), image.content.length, 'a restarted agent has the image');
});

t.test('the status of a waiting VM tells the progress, and how the fetch failed', async (t) => {
  const cluster = await withCluster(t);
  const image = testImage(2 * MiB);
  await declare(cluster.store, image);
  const host = await startFetchingHost(t, cluster.store, { limits: { rateWindowMs: 60_000 } });
  const vm = await place(cluster, host.id, image.id);
  const tells = (text: RegExp) => cluster.until(`${text}`, () => text.test(cluster.report(vm)?.message ?? ''));
  await tells(/cannot fetch the image: no image server offers it at the moment\. It tries again\./);
  t.match(cluster.report(vm), { phase: 'preparing', reason: 'image_not_available' });

  let finish = () => {};
  const half = await hostileServer(t, image, (_request, response) => {
    response.writeHead(200, { 'content-length': image.content.length });
    response.write(image.content.subarray(0, MiB));
    finish = () => response.end(image.content.subarray(MiB));
  });
  await announce(cluster.store, [half.url]);
  await tells(/^The host fetches the image: (4\d|50) %\.$/);
  finish();
  await running(cluster, vm);
});

t.test('an interrupted fetch continues where it was, also after a restart of the agent', async (t) => {
  const cluster = await withCluster(t);
  const image = testImage(3 * MiB);
  await declare(cluster.store, image);
  const cut = await hostileServer(t, image, (_request, response) => {
    response.writeHead(200, { 'content-length': image.content.length });
    response.write(image.content.subarray(0, MiB), () => response.destroy());
  });
  await announce(cluster.store, [cut.url]);
  const host = await startFetchingHost(t, cluster.store, { limits: { retryMs: 60_000, maxRetryMs: 60_000 } });
  const vm = await place(cluster, host.id, image.id);
  await cluster.until('it failed', () => /ended the connection/.test(cluster.report(vm)?.message ?? ''));
  await host.close();
  const [part = ''] = readdirSync(host.copies);
  const kept = statSync(join(host.copies, part)).size;
  t.ok(kept > 0 && kept <= MiB, 'the beginning stays');

  const server = await serve(t, [image]);
  await announce(cluster.store, [server.url]);
  await startFetchingHost(t, cluster.store, { dataDir: host.dataDir });
  await running(cluster, vm);
  t.equal(server.sentBytes(), image.content.length - kept, 'only the rest is sent');
  t.ok(readFileSync(join(host.copies, `${image.id}.qcow2`)).equals(image.content));
});

t.test('a server that is gone for ever, by its record or without one, does not keep a host from another', async (t) => {
  const cluster = await withCluster(t);
  const image = testImage(MiB);
  const server = await serve(t, [image]);
  const dead = await serve(t, [image]);
  await dead.close();
  await declare(cluster.store, image, 'gone');
  await declare(cluster.store, image, 'silent');
  await declare(cluster.store, image);
  await announce(cluster.store, [dead.url], 'silent');
  await announce(cluster.store, ['https://[::1]:1', server.url]);
  const host = await startFetchingHost(t, cluster.store);
  await running(cluster, await place(cluster, host.id, image.id));
  t.equal(server.sentBytes(), image.content.length);
});

t.test('an image whose VM goes away during the fetch leaves nothing', async (t) => {
  const cluster = await withCluster(t);
  const image = testImage(MiB);
  await declare(cluster.store, image);
  const slow = await hostileServer(t, image, (_request, response) => {
    response.writeHead(200, { 'content-length': image.content.length });
    response.write(image.content.subarray(0, 1000));
  });
  await announce(cluster.store, [slow.url]);
  const host = await startFetchingHost(t, cluster.store, { limits: { rateWindowMs: 60_000 } });
  const vm = await place(cluster, host.id, image.id);
  await cluster.until('it is fetched', () => /fetches the image/.test(cluster.report(vm)?.message ?? ''));
  await removeVm(cluster, host.id, vm);
  await cluster.write(remove(images, image.id));
  await until('nothing is left', () => readdirSync(host.copies).length === 0);
});

t.test('a copy of a deleted image goes when no VM uses it any more', async (t) => {
  const cluster = await withCluster(t);
  const [deleted, kept] = [testImage(MiB), testImage(MiB)];
  const server = await serve(t, [deleted, kept]);
  await declare(cluster.store, deleted);
  await declare(cluster.store, kept);
  await announce(cluster.store, [server.url]);
  const host = await startFetchingHost(t, cluster.store);
  const [vm, other] = await Promise.all([place(cluster, host.id, deleted.id), place(cluster, host.id, kept.id)]);
  await running(cluster, vm);
  await running(cluster, other);
  await cluster.write(remove(images, deleted.id));
  await removeVm(cluster, host.id, other);
  t.same(readdirSync(host.copies).length, 2, 'a VM still uses the deleted image');
  await removeVm(cluster, host.id, vm);
  await until('its copy is gone', () => readdirSync(host.copies).join() === `${kept.id}.qcow2`);
});

/** Mounts a small file system. */
function smallFileSystem(t: Test, size: number): string {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'mount');
  mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', path]);
  t.teardown(() => execFileSync('umount', [path]));
  return path;
}

const needsRoot = process.getuid?.() === 0 ? {} : { skip: 'needs root, for a small file system' };

t.test(
  'the least recently used copy goes when space is short, and never one that a disk uses',
  needsRoot,
  async (t) => {
    const cluster = await withCluster(t);
    const all = Array.from({ length: 4 }, () => testImage(8 * MiB));
    const server = await serve(t, all);
    for (const image of all) await declare(cluster.store, image);
    await announce(cluster.store, [server.url]);
    const copies = smallFileSystem(t, 32 * MiB);
    const host = await startFetchingHost(t, cluster.store, { copies, limits: { sweepIntervalMs: 60_000 } });
    const [first, second, third, fourth] = all as [(typeof all)[0], (typeof all)[0], (typeof all)[0], (typeof all)[0]];
    const used = await place(cluster, host.id, first.id);
    await running(cluster, used);
    for (const { id } of [second, third]) {
      const vm = await place(cluster, host.id, id);
      await running(cluster, vm);
      await removeVm(cluster, host.id, vm);
    }
    const at = (image: { id: string }, seconds: number) =>
      utimesSync(join(copies, `${image.id}.qcow2`), seconds, seconds);
    at(first, 1);
    at(third, 2);
    at(second, 3);
    const last = await place(cluster, host.id, fourth.id);
    await running(cluster, last);
    t.same(
      new Set(readdirSync(copies)),
      new Set([first, second, fourth].map(({ id }) => `${id}.qcow2`)),
      'the third was unused for longest; the first is older, and in use',
    );

    const unfit = testImage(16 * MiB);
    await declare(cluster.store, unfit);
    const waiting = await place(cluster, host.id, unfit.id);
    await cluster.until('the reason is told', () => /it needs 1.*MiB/.test(cluster.report(waiting)?.message ?? ''));
    t.match(
      cluster.report(waiting)?.message,
      /^The host cannot fetch the image: it needs 16\.\dMiB of free space, and the host has 1\d.*MiB\. It tries again\.$/,
    );
    t.notOk(readdirSync(copies).some((name) => name.endsWith('.part')));
  },
);

t.test(
  'a file system that fills up during a fetch keeps no temporary file, and the VM starts later',
  needsRoot,
  async (t) => {
    const cluster = await withCluster(t);
    const image = testImage(8 * MiB);
    await declare(cluster.store, image);
    const copies = smallFileSystem(t, 16 * MiB);
    const ballast = join(copies, 'ballast');
    let first = true;
    const server = await hostileServer(t, image, (_request, response) => {
      response.writeHead(200, { 'content-length': image.content.length });
      response.write(image.content.subarray(0, MiB));
      // Another program takes the space that was free at the beginning.
      if (first) writeFileSync(ballast, Buffer.alloc(12 * MiB));
      first = false;
      response.end(image.content.subarray(MiB));
    });
    await announce(cluster.store, [server.url]);
    const host = await startFetchingHost(t, cluster.store, { copies });
    const vm = await place(cluster, host.id, image.id);
    await cluster.until('the reason is told', () => /no space|free space/.test(cluster.report(vm)?.message ?? ''));
    await until('no part is left', () => readdirSync(copies).join() === 'ballast');
    execFileSync('rm', [ballast]);
    await running(cluster, vm);
  },
);

t.test('a host that sees the image store copies nothing, and removes nothing there', async (t) => {
  const cluster = await withCluster(t);
  const image = testImage(MiB);
  const server = await serve(t, [image]);
  await declare(cluster.store, image);
  // The image store as the leading scanner has it, before the file of the image is in it.
  const imageStore = temporaryDirectory(t);
  mkdirSync(join(imageStore, '.staging-one'));
  await announce(cluster.store, [server.url], 'scanner', 'one');
  const host = await startFetchingHost(t, cluster.store, { imageStore });
  const vm = await place(cluster, host.id, image.id);
  const waits = 'The VM waits until its image is in the image store of this host.';
  await cluster.until('it waits', () => cluster.report(vm)?.message === waits);
  const stored = join(imageStore, `${image.id}.qcow2`);
  writeFileSync(stored, image.content);
  await running(cluster, vm);
  await removeVm(cluster, host.id, vm);
  await cluster.write(remove(images, image.id), remove(imageServers, 'scanner'));
  const marker = testImage(MiB);
  await declare(cluster.store, marker);
  await announce(cluster.store, [(await serve(t, [marker])).url]);
  await running(cluster, await place(cluster, host.id, marker.id));
  t.same(readdirSync(host.copies), [`${marker.id}.qcow2`]);
  t.equal(server.sentBytes(), 0);
  t.ok(readFileSync(stored).equals(image.content), 'the file of the image store stays');
});
