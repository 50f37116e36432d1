/**
 * API servers that die at a commit, before or after it takes effect, and whose answers from the database get lost. A dead server
 * writes nothing more.
 */

import { type Api, type ApiOptions, startApi } from '../../backend/api/start.ts';
import { UcloudError } from '../../backend/contract/errors.ts';
import type { Store } from '../../backend/store/store.ts';
import type { TestDatabase } from './both-stores.ts';
import { bound } from './bound-store.ts';
import type { Random } from './random.ts';
import { silentLogger } from './silent-logger.ts';

const unavailable = () => new UcloudError('store_unavailable', 'the database does not answer');

/** An API server that can be killed and restarted. */
export class KillableApi {
  readonly #database: TestDatabase;
  readonly #random: Random;
  readonly #options: Partial<ApiOptions>;
  #api: Api | undefined;
  #die: () => Promise<void> = async () => undefined;
  /** The ends of former servers, which still answer the requests that they had. */
  readonly #ends: Promise<void>[] = [];
  /** The number of deaths and of lost answers of all its servers. */
  deaths = 0;
  losses = 0;

  constructor(database: TestDatabase, random: Random, options: Partial<ApiOptions> = {}) {
    this.#database = database;
    this.#random = random;
    this.#options = options;
  }

  /** The URL of the living server; undefined after its death. */
  get url(): string | undefined {
    return this.#api?.url;
  }

  /**
   * Starts a server.
   * @param life the number of commits after which the server dies, before or after the last one takes effect
   * @param loss the share of commits whose answer gets lost
   */
  async start(life = Number.POSITIVE_INFINITY, loss = 0): Promise<void> {
    await this.#die();
    let isDead = false;
    let left = life;
    const session = await this.#database.connect();
    let api: Api | undefined;
    const die = async () => {
      if (isDead) return;
      isDead = true;
      if (this.#api === api) this.#api = undefined;
      await session.close();
    };
    const crash = () => {
      this.deaths++;
      void die().then(() => this.#end(api));
    };
    const alive = () => {
      if (isDead) throw unavailable();
    };
    const store: Store = {
      ...bound(session),
      get: async (key) => {
        alive();
        return session.get(key);
      },
      list: async (prefix, options) => {
        alive();
        return session.list(prefix, options);
      },
      commit: async (commit) => {
        alive();
        const isLast = --left <= 0;
        const isLost = this.#random.next() < loss;
        const before = this.#random.below(2) === 0;
        if (!isLast && !isLost) {
          const result = await session.commit(commit);
          alive();
          return result;
        }
        if (!isLast) this.losses++;
        if (!before) await session.commit(commit);
        if (isLast) crash();
        throw unavailable();
      },
      close: async () => undefined,
    };
    this.#die = async () => {
      await die();
      await this.#end(api);
    };
    try {
      api = await startApi({
        listen: { host: '::1', port: 0 },
        logger: silentLogger,
        rateLimit: { requestsPerMinute: 1_000_000, failuresPerMinute: 1_000_000 },
        ...this.#options,
        store,
      });
      if (isDead) await this.#end(api);
      else this.#api = api;
    } catch (error) {
      await die();
      if (!(error instanceof UcloudError)) throw error;
    }
  }

  #end(api: Api | undefined): Promise<void> {
    const end = api?.close().catch(() => undefined) ?? Promise.resolve();
    this.#ends.push(end);
    return end;
  }

  /** Ends the server, as a kill does. */
  async close(): Promise<void> {
    await this.#die();
    await Promise.all(this.#ends);
  }
}
