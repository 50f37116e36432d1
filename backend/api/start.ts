/** The API component. Any number of them may run on one database. */
import type { AddressInfo } from 'node:net';
import { endpoints } from '../contract/index.ts';
import type { Component, Logger } from '../model/component.ts';
import type { Store } from '../store/store.ts';
import { buildApp, type SentResponse } from './app.ts';
import { KeyedMutex } from './concurrency/keyed-mutex.ts';
import { ProjectTurns } from './concurrency/project-turns.ts';
import { defaultFailuresPerMinute } from './http/authentication.ts';
import { Callers } from './http/callers.ts';
import { defaultHttpLimits, type HttpLimits } from './http/limits.ts';
import { defaultRequestsPerMinute } from './http/rate-limit.ts';
import { startTrails } from './jobs/trails.ts';
import { startCollector } from './jobs/vm-collector.ts';
import { openProviderDirectory } from './provider-registry/provider-directory.ts';
import { HostPoolFeed } from './read-model/host-pool-feed.ts';
import { openApiMirror } from './read-model/mirror.ts';
import { ObjectRevisions } from './read-model/object-revisions.ts';
import { QuotaUsage } from './read-model/quota-usage.ts';
import type { ApiContext } from './requests/context.ts';
import { Resources } from './requests/descriptor.ts';
import { handlersFor, resources } from './resources/index.ts';
import type { StateKeys } from './terraform-state/keys.ts';
import { StateWorkerPool } from './terraform-state/worker-pool.ts';

export interface ApiOptions {
  readonly store: Store;
  /** `::` and port 0 mean any address and any free port. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly logger: Logger;
  /** PEM. Without it the API speaks plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Directory of packages to serve as a registry of Terraform providers. It may change, and be missing. */
  readonly providerDirectory?: string;
  readonly rateLimit?: {
    /** Of one project, all its tokens together. Default: 6000. */
    readonly requestsPerMinute?: number;
    /** Without a valid token, from one network: a /64 of IPv6. Default: 120. */
    readonly failuresPerMinute?: number;
  };
  /** Milliseconds in which a request must have arrived. Default: 30,000. */
  readonly arrivalTimeout?: number;
  /** The limits of one client of the server. Default: see http/limits.ts. */
  readonly limits?: Partial<HttpLimits>;
  /** Without them states of Terraform can be neither written nor read. */
  readonly stateKeys?: StateKeys;
  /** Sees every response as it leaves; for tests. */
  readonly onResponse?: (response: SentResponse) => void;
}

export interface Api extends Component {
  /** Where it listens: `http://[::1]:7780`. */
  readonly url: string;
}

export async function startApi(options: ApiOptions): Promise<Api> {
  const {
    store,
    listen,
    logger,
    tls,
    providerDirectory,
    rateLimit,
    arrivalTimeout = 30_000,
    limits,
    stateKeys,
    onResponse,
  } = options;
  const mirror = await openApiMirror(store, resources, logger);
  const revisions = new ObjectRevisions(mirror, resources);
  const usage = new QuotaUsage(mirror, resources);
  const hostPool = new HostPoolFeed(mirror);
  const callers = new Callers(mirror);
  const stateWorkers = new StateWorkerPool();
  const closing = new AbortController();
  const context: ApiContext = {
    resources: new Resources(resources),
    store,
    mirror,
    revisions,
    usage,
    hostPool,
    mutexes: new KeyedMutex(),
    turns: new ProjectTurns(),
    callers,
    stateWorkers,
    logger,
    ...(stateKeys ? { stateKeys } : {}),
    closing: closing.signal,
  };
  const collector = startCollector(context);
  const trails = startTrails(context);
  const stop = async () => {
    await collector.close();
    await trails.close();
    revisions.close();
    usage.close();
    hostPool.close();
    callers.close();
    await stateWorkers.close();
    await mirror.close();
  };
  try {
    const providers =
      providerDirectory === undefined ? undefined : await openProviderDirectory(providerDirectory, logger);
    const app = await buildApp(context, {
      endpoints,
      handlers: handlersFor(endpoints),
      requestsPerMinute: rateLimit?.requestsPerMinute ?? defaultRequestsPerMinute,
      failuresPerMinute: rateLimit?.failuresPerMinute ?? defaultFailuresPerMinute,
      arrivalTimeout,
      limits: { ...defaultHttpLimits, ...limits },
      ...(tls ? { tls } : {}),
      ...(providers ? { providers } : {}),
      ...(onResponse ? { onResponse } : {}),
    });
    await app.listen(listen);
    const { address, family, port } = app.server.address() as AddressInfo;
    const url = `${tls ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
    logger.info({ url }, 'the API listens');
    return {
      url,
      async close() {
        // Who waits in a long poll is answered, then the server ends.
        closing.abort();
        await app.close();
        await stop();
      },
    };
  } catch (error) {
    closing.abort();
    await stop();
    throw error;
  }
}
