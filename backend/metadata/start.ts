/**
 * The metadata server of a host: tells each VM about itself, at http://[fe80::a9fe:a9fe]/ on its own link.
 *
 * One listener for each network that a VM placed on this host uses. Level-triggered: a round compares the networks
 * wanted with the listeners there are; rounds follow every change in the database and come by themselves, often while
 * a bridge is missing (its agent is still making it), seldom otherwise. A bridge that was removed and made anew has
 * another index; a socket bound to the old one hears nothing, so the listener is replaced.
 */
import { readFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { Id } from '../contract/fields.ts';
import type { Component, Logger } from '../model/component.ts';
import { bridgeName } from '../model/network/interface-names.ts';
import { parsePlacementId, placementsOn } from '../model/placement/placement-id.ts';
import { networks, placements, sshKeys, vms } from '../model/records/index.ts';
import { openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { identifier } from './identity.ts';
import { listen } from './listener.ts';

export interface MetadataOptions {
  readonly store: Store;
  readonly logger: Logger;
  /** The host whose placements are served. */
  readonly hostId: Id<'host'>;
  /** TCP port. Default: 80, which guests expect. */
  readonly port?: number;
}

/** Milliseconds between rounds: while something is missing, and when all is well. */
const soon = 200;
const later = 2000;

interface Listener {
  readonly server: Server;
  /** Index of the bridge that the socket is bound to. */
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

export async function startMetadata(options: MetadataOptions): Promise<Component> {
  const { store, logger, hostId, port = 80 } = options;
  const mirror = await openMirror(store, {
    prefixes: [`placements/${hostId}/`, vms.prefix, networks.prefix, sshKeys.prefix],
    kinds: [placements, vms, networks, sshKeys],
    logger,
  });
  const identify = identifier(mirror, hostId);
  const listeners = new Map<string, Listener>();
  const failures = new Map<string, string>();

  /** Networks of the VMs here, by the name of their bridge. */
  const wanted = (): Map<string, Id<'network'>> => {
    const found = new Map<string, Id<'network'>>();
    for (const { id } of mirror.list(placements, placementsOn(hostId))) {
      for (const { network } of mirror.get(vms, parsePlacementId(id).vm)?.value.interfaces ?? []) {
        const vni = mirror.get(networks, network)?.value.vni;
        if (vni !== undefined) found.set(bridgeName(vni), network);
      }
    }
    return found;
  };

  const drop = async (bridge: string): Promise<void> => {
    const listener = listeners.get(bridge);
    listeners.delete(bridge);
    if (listener) await closeServer(listener.server);
  };

  /** @returns whether a listener is there. */
  const ensure = async (bridge: string, network: Id<'network'>): Promise<boolean> => {
    const index = await interfaceIndex(bridge);
    if (listeners.get(bridge)?.interfaceIndex !== index) await drop(bridge);
    if (index === undefined) return false;
    if (listeners.has(bridge)) return true;
    try {
      const server = await listen({ network, bridge, port, identify, mirror, store, logger });
      listeners.set(bridge, { server, interfaceIndex: index });
      failures.delete(bridge);
      logger.info({ network, bridge }, 'metadata is served');
      return true;
    } catch (err) {
      // The address comes a moment after the bridge. What persists is said, once.
      const code = (err as NodeJS.ErrnoException).code ?? '';
      const expected = code === 'EADDRNOTAVAIL' || code === 'EINVAL';
      if (!expected && failures.get(bridge) !== code) logger.warn({ err, network, bridge }, 'cannot serve metadata');
      failures.set(bridge, code);
      return false;
    }
  };

  /** @returns whether every listener is there. */
  const round = async (): Promise<boolean> => {
    const now = wanted();
    for (const bridge of listeners.keys()) if (!now.has(bridge)) await drop(bridge);
    for (const bridge of failures.keys()) if (!now.has(bridge)) failures.delete(bridge);
    const there = await Promise.all([...now].map(([bridge, network]) => ensure(bridge, network)));
    return there.every(Boolean);
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
      await Promise.race([change, pause(complete ? later : soon, closing.signal)]);
    }
  };
  const running = loop();

  return {
    close: async () => {
      closing.abort();
      unsubscribe();
      await running;
      await Promise.all([...listeners.keys()].map(drop));
      await mirror.close();
    },
  };
}

const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
