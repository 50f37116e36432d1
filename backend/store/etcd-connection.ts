/**
 * The connection to etcd: deadlines, keep-alive, and which failure means what.
 *
 * etcd3 by itself waits for ever, and retries a transaction whose answer was lost: the second try then finds its own
 * conditions broken and would report a commit that happened as one that did not. So its retries are off. Here reads are
 * retried freely, writes only when they surely never left the process; any other failure is store_unavailable.
 */
import { setTimeout as delay } from 'node:timers/promises';
import {
  type CircuitBreakerPolicy,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  type NoopPolicy,
  noop,
} from 'cockatiel';
import { Etcd3, EtcdLeaseInvalidError, type IOptions, isRecoverableError } from 'etcd3';
import { UcloudError } from '../contract/errors.ts';
import type { StoreLogger } from './logger.ts';
import { CompactedError } from './store.ts';

export interface EtcdOptions {
  /** `host:port` each; members of one cluster. */
  readonly endpoints: readonly string[];
  /** Under which prefix of etcd's keys this store lies. Ends with `/`. */
  readonly keyPrefix?: string;
  /** PEM. Without `ca`, the authorities that Node trusts. `cert` and `key` identify this client to the server. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
  readonly username?: string;
  readonly password?: string;
  /** How long one call may take with all its retries. */
  readonly requestTimeoutMs?: number;
  readonly logger?: StoreLogger;
}

const defaultTimeout = 5000;
/** etcd refuses pings more often than every 5 s. A silent connection is noticed after 10 + 4 s. */
const keepAlive = { time: 10_000, timeout: 4000 };
/**
 * Calls under way at once. More make etcd no faster, but would let a burst of thousands run into its deadlines; they wait
 * here instead, and their time begins when they are sent.
 */
const maxUnderWay = 128;
/** Failures in a row after which a member is left alone for a second, if there are others. */
const failuresInARow = 2;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The request was refused before it was sent: no connection, or one that was being closed. */
const neverSent = (error: unknown): boolean =>
  /No connection established|Channel closed before call started|ECONNREFUSED|circuit breaker is open/.test(
    messageOf(error),
  );

function clientOptions(options: EtcdOptions): IOptions {
  const { endpoints, tls, username, password } = options;
  const several = endpoints.length > 1;
  return {
    hosts: endpoints.map((endpoint) => `${tls === undefined ? 'http' : 'https'}://${endpoint}`),
    ...(tls?.ca === undefined
      ? {}
      : {
          credentials: {
            rootCertificate: tls.ca,
            ...(tls.key === undefined ? {} : { privateKey: tls.key }),
            ...(tls.cert === undefined ? {} : { certChain: tls.cert }),
          },
        }),
    ...(username === undefined ? {} : { auth: { username, password: password ?? '' } }),
    defaultCallOptions: ({ isStream }) =>
      isStream ? {} : { deadline: Date.now() + (options.requestTimeoutMs ?? defaultTimeout) },
    faultHandling: {
      host: (): CircuitBreakerPolicy | NoopPolicy =>
        several
          ? circuitBreaker(handleWhen(isRecoverableError), {
              halfOpenAfter: 1000,
              breaker: new ConsecutiveBreaker(failuresInARow),
            })
          : noop,
      global: noop,
    },
    grpcOptions: {
      'grpc.keepalive_time_ms': keepAlive.time,
      'grpc.keepalive_timeout_ms': keepAlive.timeout,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.min_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
    },
  };
}

export class EtcdConnection {
  readonly client: Etcd3;
  readonly logger: StoreLogger | undefined;
  readonly #endpoints: string;
  readonly #timeout: number;
  readonly #closing = new AbortController();
  #away = false;
  /** When etcd last answered. */
  #answered = 0;
  #underWay = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(options: EtcdOptions) {
    this.client = new Etcd3(clientOptions(options));
    this.logger = options.logger;
    this.#endpoints = options.endpoints.join(', ');
    this.#timeout = options.requestTimeoutMs ?? defaultTimeout;
  }

  /** Aborted by `close`. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  get timeout(): number {
    return this.#timeout;
  }

  close(): void {
    this.#closing.abort();
    this.client.close();
  }

  check(): void {
    if (this.closing.aborted) throw new UcloudError('store_unavailable', 'the connection to etcd is closed');
  }

  /**
   * Logs the beginning of an outage: not each call that fails in it, and not one that began at `since` and was left
   * hanging when a member died, while others have answered in the meantime.
   */
  wentAway(error: unknown, since: number): void {
    if (this.#away || this.closing.aborted || this.#answered > since) return;
    this.#away = true;
    this.logger?.warn({ err: error, endpoints: this.#endpoints }, 'etcd does not answer, trying on');
  }

  cameBack(): void {
    this.#answered = performance.now();
    if (!this.#away) return;
    this.#away = false;
    this.logger?.info({ endpoints: this.#endpoints }, 'etcd answers again');
  }

  async read<T>(call: (options: { deadline: number }) => Promise<T>): Promise<T> {
    return this.#call(call, () => true);
  }

  async write<T>(call: (options: { deadline: number }) => Promise<T>): Promise<T> {
    return this.#call(call, neverSent);
  }

  /** Waits for its turn. Rejects if that takes longer than a call may, and etcd has answered none in the meantime. */
  async #begin(): Promise<void> {
    if (this.#underWay < maxUnderWay) {
      this.#underWay += 1;
      return;
    }
    const asked = performance.now();
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#answered >= asked || performance.now() - asked < this.#timeout) return;
    this.#end();
    throw new UcloudError('store_unavailable', `etcd at ${this.#endpoints} answers nothing; this was not sent`);
  }

  /** Hands its turn to the next who waits. */
  #end(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#underWay -= 1;
    else next();
  }

  async #call<T>(
    call: (options: { deadline: number }) => Promise<T>,
    mayRetry: (error: unknown) => boolean,
  ): Promise<T> {
    this.check();
    await this.#begin();
    try {
      return await this.#try(call, mayRetry);
    } finally {
      this.#end();
    }
  }

  async #try<T>(
    call: (options: { deadline: number }) => Promise<T>,
    mayRetry: (error: unknown) => boolean,
  ): Promise<T> {
    const deadline = Date.now() + this.#timeout;
    const started = performance.now();
    for (let wait = 20; ; wait = Math.min(500, wait * 2)) {
      this.check();
      try {
        const result = await call({ deadline });
        this.cameBack();
        return result;
      } catch (error) {
        const meaning = translate(error);
        if (meaning !== undefined) throw meaning;
        const left = deadline - Date.now() - wait;
        if (left <= 0 || !mayRetry(error) || this.closing.aborted) {
          this.wentAway(error, started);
          throw new UcloudError('store_unavailable', `etcd at ${this.#endpoints} failed: ${messageOf(error)}`, {
            cause: error,
          });
        }
        await delay(wait, undefined, { signal: this.closing }).catch(() => undefined);
      }
    }
  }
}

/** What an answer of etcd means to the caller; undefined if it is a failure of the server or of the way to it. */
function translate(error: unknown): Error | undefined {
  const message = messageOf(error);
  if (error instanceof EtcdLeaseInvalidError) return error;
  if (message.includes('required revision has been compacted')) return new CompactedError();
  if (message.includes('required revision is a future revision')) return new RangeError('revision lies in the future');
  if (message.includes('too many operations in txn request'))
    return new RangeError('commit has more operations than etcd takes; start it with --max-txn-ops=128 or more');
  if (message.includes('request is too large'))
    return new RangeError('commit is larger than etcd takes; start it with --max-request-bytes=1572864 or more');
  if (isFinal(error)) return new UcloudError('store_unavailable', `etcd refuses: ${message}`, { cause: error });
  return undefined;
}

/** Refusals that trying again does not change: credentials, permissions, a full database. */
const isFinal = (error: unknown): boolean =>
  error instanceof Error &&
  !isRecoverableError(error) &&
  /permission denied|authentication failed|authentication is not enabled|database space exceeded/.test(error.message);
