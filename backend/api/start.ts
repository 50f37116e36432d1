/** The API component. Any number of API servers may use one database. */
import type { AddressInfo } from 'node:net';
import { endpoints } from '../contract/index.ts';
import type { Component, Logger } from '../model/component.ts';
import type { Allowances } from '../model/quota/order-allowance.ts';
import type { Store } from '../store/store.ts';
import { buildApp, type SentResponse } from './app.ts';
import { OrderTurnover } from './billing/order-turnover.ts';
import { orderingStore } from './billing/ordering-store.ts';
import { KeyedMutex } from './concurrency/keyed-mutex.ts';
import { ProjectTurns } from './concurrency/project-turns.ts';
import { defaultFailuresPerMinute } from './http/authentication.ts';
import { Callers } from './http/callers.ts';
import { defaultHttpLimits, type HttpLimits } from './http/limits.ts';
import { defaultRequestsPerMinute } from './http/rate-limit.ts';
import { startCollector } from './jobs/collector.ts';
import { type ScheduleClock, startSnapshotSchedules } from './jobs/snapshot-schedules.ts';
import { startTrails } from './jobs/trails.ts';
import { startUploadSweeper } from './jobs/uploads.ts';
import { openProviderDirectory } from './provider-registry/provider-directory.ts';
import { HostPoolFeed } from './read-model/host-pool-feed.ts';
import { openApiMirror } from './read-model/mirror.ts';
import { ObjectRevisions } from './read-model/object-revisions.ts';
import { PriceLists } from './read-model/price-lists.ts';
import { ProjectUse } from './read-model/project-use.ts';
import { QuotaUsage } from './read-model/quota-usage.ts';
import type { ApiContext } from './requests/context.ts';
import { Resources } from './requests/descriptor.ts';
import { convertOldBudgets } from './resources/budgets.ts';
import { handlersFor, resources } from './resources/index.ts';
import { createBuiltInPool } from './resources/storage-pools.ts';
import type { StateKeys } from './terraform-state/keys.ts';
import { StateWorkerPool } from './terraform-state/worker-pool.ts';
import { UploadServer } from './uploads/server.ts';

/** The options of an API server. */
export interface ApiOptions {
  readonly store: Store;
  /** The address and the port. `::` is every address, and port 0 a free port. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly logger: Logger;
  /** Certificate and key in PEM. Without them the API speaks plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** The directory of Terraform provider packages. It may change or be missing. */
  readonly providerDirectory?: string;
  readonly rateLimit?: {
    /** The requests per minute of all tokens of one project. Default: 6000. */
    readonly requestsPerMinute?: number;
    /** The requests per minute without a valid token from one network (a /64 of IPv6). Default: 120. */
    readonly failuresPerMinute?: number;
  };
  /** Milliseconds in which a request must arrive. Default: 30,000. */
  readonly arrivalTimeout?: number;
  /** The limits of one client of the server. Default: see http/limits.ts. */
  readonly limits?: Partial<HttpLimits>;
  /** The keys of Terraform states. Without them states can be neither written nor read. */
  readonly stateKeys?: StateKeys;
  /** The directory of the file server for uploads. Without it uploads are not possible. */
  readonly filesDir?: string;
  /** The clock of snapshot schedules, for tests. */
  readonly scheduleClock?: ScheduleClock;
  /** The bytes of orders that a project may leave, for tests. */
  readonly orderAllowances?: Allowances;
  /** True for objects without orders, to measure the cost of orders. Only for benches. */
  readonly withoutOrders?: boolean;
  /** Receives every response, for tests. */
  readonly onResponse?: (response: SentResponse) => void;
}

/** A running API server. */
export interface Api extends Component {
  /** The base URL: `http://[::1]:7780`. */
  readonly url: string;
}

/** Starts an API server. Resolves when it listens. */
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
    filesDir,
    onResponse,
  } = options;
  await createBuiltInPool(store, new Date());
  const mirror = await openApiMirror(store, resources, logger);
  const revisions = new ObjectRevisions(mirror, resources);
  const usage = new QuotaUsage(mirror, resources);
  const prices = new PriceLists(mirror);
  const projectUse = new ProjectUse(mirror);
  const turnover = new OrderTurnover(mirror, options.orderAllowances);
  const hostPool = new HostPoolFeed(mirror);
  const callers = new Callers(mirror);
  const stateWorkers = new StateWorkerPool();
  const closing = new AbortController();
  const context: ApiContext = {
    resources: new Resources(resources),
    store: options.withoutOrders ? store : orderingStore(store, mirror),
    mirror,
    revisions,
    usage,
    prices,
    projectUse,
    turnover,
    hostPool,
    mutexes: new KeyedMutex(),
    turns: new ProjectTurns(),
    callers,
    stateWorkers,
    logger,
    ...(stateKeys ? { stateKeys } : {}),
    ...(filesDir === undefined ? {} : { uploads: new UploadServer(store, mirror, filesDir, closing.signal) }),
    closing: closing.signal,
  };
  await convertOldBudgets(context);
  const collector = startCollector(context, { repairsOrders: !options.withoutOrders });
  const trails = startTrails(context);
  const sweeper = startUploadSweeper(context);
  const schedules = startSnapshotSchedules(context, options.scheduleClock);
  const stop = async () => {
    await collector.close();
    await trails.close();
    await sweeper.close();
    await schedules.close();
    revisions.close();
    usage.close();
    prices.close();
    projectUse.close();
    turnover.close();
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
        // The waiting long polls are answered first, and then the server ends.
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
