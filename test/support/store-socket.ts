/**
 * The store of a test for processes in network namespaces: etcd behind a Unix socket, which every namespace reaches. So
 * the network of a namespace carries nothing but the traffic of the test.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Server } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import { openEmbeddedStore } from '../../backend/store/embedded.ts';
import { openStore } from '../../backend/store/open.ts';
import type { Store } from '../../backend/store/store.ts';
import { startEtcd } from './etcd.ts';
import { temporaryDirectory } from './stores.ts';

/** Passes connections on. */
function passOn(target: NetConnectOpts): Server {
  return createServer((socket) => {
    const other = connect(target);
    socket.pipe(other).pipe(socket);
    for (const [each, peer] of [
      [socket, other],
      [other, socket],
    ] as const)
      each.on('error', () => peer.destroy()).on('close', () => peer.destroy());
  });
}

/** Starts etcd. Returns a store of the test, and the text by which other processes open the same store. */
export async function startSharedStore(t: Test): Promise<{ readonly store: Store; readonly text: string }> {
  const { endpoint } = await startEtcd(t);
  const port = Number(endpoint.split(':').at(-1));
  const path = join(temporaryDirectory(t), 'store');
  const server = passOn({ host: '::1', port }).listen(path);
  await once(server, 'listening');
  const store = await openStore(`etcd://${endpoint}`);
  t.teardown(async () => {
    await store.close();
    server.close();
  });
  return { store, text: `unix:${path}` };
}

/** Opens the store of such a text, or an embedded store. */
export async function openSharedStore(text: string): Promise<Store> {
  if (!text.startsWith('unix:')) return openEmbeddedStore({ path: text });
  const server = passOn({ path: text.slice('unix:'.length) }).listen(0, '::1');
  await once(server, 'listening');
  server.unref();
  return openStore(`etcd://[::1]:${(server.address() as AddressInfo).port}`);
}
