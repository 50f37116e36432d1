/**
 * The metadata server of a host. It gives each guest the metadata of its VM, at http://[fe80::a9fe:a9fe]/ on the
 * guest's own link.
 *
 * Each network of a VM that is placed on this host has a listener. Level-triggered: a round compares the needed
 * networks with the existing listeners. A round follows every change of the database. The server also runs rounds at
 * intervals, which are shorter while a bridge is missing. A bridge that was removed and created again has a new
 * interface index. A socket on the old index receives nothing, so the server replaces its listener.
 */
import { readFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { Id } from '../contract/fields.ts';
import type { Component, Logger } from '../model/component.ts';
import { bridgeName } from '../model/network/interface-names.ts';
import { parsePlacementId, placementsOn } from '../model/placement/placement-id.ts';
import { images, networks, placements, sshKeys, vms } from '../model/records/index.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { createIdentify } from './identity.ts';
import { listen } from './listener.ts';

/** Options of `startMetadata`. */
export interface MetadataOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** The host whose VMs the server serves. */
  readonly hostId: Id<'host'>;
  /** The TCP port. Guests expect the default, 80. */
  readonly port?: number;
}

/** The time between rounds while a listener is missing, in milliseconds. */
const incompleteRoundMs = 200;
/** The time between rounds otherwise, in milliseconds. */
const completeRoundMs = 2000;

interface Listener {
  readonly server: Server;
  /** The interface index of the bridge to which the socket is bound. */
  readonly interfaceIndex: string;
}

const interfaceIndex = (name: string): Promise<string | undefined> =>
  readFile(`/sys/class/net/${name}/ifindex`, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );

const closeServer = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });

/**
 * Starts the metadata server. Resolves when its mirror has read the database; listeners start in the background.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function startMetadata(options: MetadataOptions): Promise<Component> {
  const { store, logger, hostId, port = 80 } = options;
  const mirror = await openMirror(store, {
    prefixes: [`placements/${hostId}/`, vms.prefix, networks.prefix, sshKeys.prefix, images.prefix],
    kinds: [placements, vms, networks, sshKeys, images],
    logger,
  });
  const identify = createIdentify(mirror, hostId);
  const listeners = new Map<string, Listener>();
  const failures = new Map<string, string>();

  /** Returns the networks of the VMs on this host, by the names of their bridges. */
  const neededNetworks = (): Map<string, Id<'network'>> => {
    const found = new Map<string, Id<'network'>>();
    for (const { id } of mirror.list(placements, placementsOn(hostId))) {
      for (const { network } of mirror.get(vms, parsePlacementId(id).vm)?.value.interfaces ?? []) {
        const vni = mirror.get(networks, network)?.value.vni;
        if (vni !== undefined) found.set(bridgeName(vni), network);
      }
    }
    return found;
  };

  const closeListener = async (bridge: string): Promise<void> => {
    const listener = listeners.get(bridge);
    listeners.delete(bridge);
    if (listener) await closeServer(listener.server);
  };

  /** Starts the listener of the bridge unless it exists. Returns true if it exists now. */
  const ensureListener = async (bridge: string, network: Id<'network'>): Promise<boolean> => {
    const index = await interfaceIndex(bridge);
    if (listeners.get(bridge)?.interfaceIndex !== index) await closeListener(bridge);
    if (index === undefined) return false;
    if (listeners.has(bridge)) return true;
    try {
      const server = await listen({ network, bridge, port, identify, mirror, store, logger });
      listeners.set(bridge, { server, interfaceIndex: index });
      failures.delete(bridge);
      logger.info({ network, bridge }, 'metadata is served');
      return true;
    } catch (err) {
      // The bridge gets its address shortly after its creation. Other errors are logged once.
      const code = (err as NodeJS.ErrnoException).code ?? '';
      const expected = code === 'EADDRNOTAVAIL' || code === 'EINVAL';
      if (!expected && failures.get(bridge) !== code)
        logger.warn({ err, network, bridge }, 'the metadata server cannot listen on the bridge');
      failures.set(bridge, code);
      return false;
    }
  };

  /** Starts and closes listeners. Returns true if all needed listeners exist. */
  const round = async (): Promise<boolean> => {
    const now = neededNetworks();
    for (const bridge of listeners.keys()) if (!now.has(bridge)) await closeListener(bridge);
    for (const bridge of failures.keys()) if (!now.has(bridge)) failures.delete(bridge);
    const present = await Promise.all([...now].map(([bridge, network]) => ensureListener(bridge, network)));
    return present.every(Boolean);
  };

  const closing = new AbortController();
  let wake = () => {};
  const unsubscribe = mirror.subscribe(() => wake());
  const loop = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      let changed = false;
      const change = new Promise<void>((resolve) => {
        wake = () => {
          changed = true;
          resolve();
        };
      });
      const complete = await round();
      if (changed) continue;
      await Promise.race([change, pause(complete ? completeRoundMs : incompleteRoundMs, closing.signal)]);
    }
  };
  const running = loop();

  return {
    close: async () => {
      closing.abort();
      unsubscribe();
      await running;
      await Promise.all([...listeners.keys()].map(closeListener));
      await mirror.close();
    },
  };
}

const pause = (delayMs: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
