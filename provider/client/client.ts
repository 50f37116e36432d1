/**
 * The client of the API. The client repeats a request if the API's error table calls the error retryable, or if the
 * connection broke. Every POST has an Idempotency-Key, so a repeated POST creates no second object. The client waits
 * after a 429 by itself; no caller sees it.
 *
 * A caller that aborts gets the error of the last attempt. A change whose answer was lost may have been made. The
 * client repeats it even after an abort, up to the maximum number of attempts, because only the answer contains the new
 * object.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Caller, CallOptions, Item, List, Query, Success } from './item.ts';
import { ApiError, isRetryable, mayBeDone, type Problem } from './problem.ts';
import { BatchReader } from './reader.ts';
import { retryAfterMs } from './retry-after.ts';
import { type Answer, type Request, Transport, type TransportOptions } from './transport.ts';
import { Waiter } from './waiter.ts';

/** Options of a client. */
export interface ClientOptions extends TransportOptions {
  readonly token: string;
  /** The project of new objects. Default: the project of the token. */
  readonly project?: string | undefined;
  readonly userAgent?: string;
  /** The maximum number of retries of a request. A 429 does not count, nor does a long poll. Default: 7. */
  readonly maxRetries?: number;
  /** The maximum time until the answer begins, in milliseconds, in addition to a long poll. Default: 30 s. */
  readonly requestTimeoutMs?: number;
}

const defaultTimeoutMs = 30_000;
/** The retries take about half a minute, with the pauses below. */
const defaultRetries = 7;
/** The maximum pause between two attempts. */
const maxPauseMs = 8_000;

/**
 * Returns the pause after the attempt in milliseconds: exponential backoff with full jitter. So clients that failed at
 * the same time do not retry at the same time.
 */
export const randomPauseMs = (attempt: number): number => Math.random() * Math.min(maxPauseMs, 250 * 2 ** attempt);

/** The maximum number of items in one answer of the API. */
const maxPageSize = 1000;

/** A client of the API. Its methods throw `ApiError`, `ConnectionError`, or the reason of their signal. */
export class Client implements Caller {
  readonly #transport: Transport;
  readonly #options: ClientOptions;
  readonly #reader: BatchReader;
  readonly #waiter: Waiter;
  /** The newest revision that the client has seen. A later read from any server is not older. */
  #revision = 0;
  #token: Promise<{ readonly project?: string; readonly role: string }> | undefined;

  constructor(options: ClientOptions) {
    this.#transport = new Transport(options);
    this.#options = options;
    this.#reader = new BatchReader(this);
    this.#waiter = new Waiter(this);
  }

  /** The URL of the API. */
  get endpoint(): string {
    return this.#options.endpoint;
  }

  /** The maximum number of retries of a request. */
  get maxRetries(): number {
    return this.#options.maxRetries ?? defaultRetries;
  }

  /** Returns the project of new objects: the configured project, or that of the token. An operator's token has none. */
  project(signal?: AbortSignal): Promise<string | undefined> {
    if (this.#options.project !== undefined) return Promise.resolve(this.#options.project);
    return this.#tokenDetails(signal).then(({ project }) => project);
  }

  /** Returns the role of the token: `viewer`, `member` or `operator`. */
  role(signal?: AbortSignal): Promise<string> {
    return this.#tokenDetails(signal).then(({ role }) => role);
  }

  #tokenDetails(signal: AbortSignal | undefined) {
    this.#token ??= this.call('GET', '/v1/token', { signal }).then(
      (token) => token as { readonly project?: string; readonly role: string },
      (error) => {
        this.#token = undefined;
        throw error;
      },
    );
    return this.#token;
  }

  /** Creates an object and returns it. */
  async create(path: string, body: unknown, signal?: AbortSignal): Promise<Item> {
    return (await this.call('POST', path, { body, signal })) as Item;
  }

  /** Returns the object; undefined if there is none. One request serves several concurrent reads. */
  read(path: string, id: string, signal?: AbortSignal): Promise<Item | undefined> {
    return this.#reader.read(path, id, signal);
  }

  /** Changes the object and returns its new state. */
  async update(path: string, id: string, body: unknown, signal?: AbortSignal): Promise<Item> {
    return (await this.call('PATCH', `${path}/${encodeURIComponent(id)}`, { body, signal })) as Item;
  }

  /** Deletes the object. Returns it if its deletion takes time; undefined if it is gone. */
  async delete(path: string, id: string, signal?: AbortSignal): Promise<Item | undefined> {
    return (await this.call('DELETE', `${path}/${encodeURIComponent(id)}`, { signal })) as Item | undefined;
  }

  /** Returns one page of the list. */
  async list(path: string, query: Query, signal?: AbortSignal): Promise<List> {
    return (await this.call('GET', path, { query, signal })) as List;
  }

  /** Returns all items of the list. Requests pages of the maximum size, one after the other. */
  async listAll(path: string, query: Query, signal?: AbortSignal): Promise<Item[]> {
    const items: Item[] = [];
    let token: string | undefined;
    do {
      const list = await this.list(path, { ...query, limit: maxPageSize, page_token: token }, signal);
      items.push(...list.items);
      token = list.next_page_token;
    } while (token !== undefined);
    return items;
  }

  /**
   * Waits by long poll until `done` returns true. `done` gets every observed state of the object, and undefined after
   * its end. The wait continues while the API is unreachable, because the object changes without the provider. The
   * caller's signal is the time limit.
   * @param from the state of the object that the caller knows
   */
  wait(
    path: string,
    from: Item,
    done: (item: Item | undefined) => boolean,
    signal: AbortSignal,
  ): Promise<Item | undefined> {
    return this.#waiter.wait(path, from, done, signal);
  }

  /** Closes all connections. */
  async close(): Promise<void> {
    await this.#transport.close();
  }

  /** Sends a request, with retries. Returns the body of the answer; undefined if it is empty. */
  async call(method: Request['method'], path: string, options: CallOptions = {}): Promise<unknown> {
    return (await this.exchange(method, path, options)).body;
  }

  /** Sends a request, with retries. Returns headers and body of the answer. */
  async exchange(
    method: Request['method'],
    path: string,
    { query, body, stream, headers, signal, longPollMs = 0, retries }: CallOptions = {},
  ): Promise<Success> {
    const timeoutMs = this.#options.requestTimeoutMs ?? defaultTimeoutMs;
    const request: Request = {
      method,
      path,
      timeoutMs: timeoutMs + longPollMs,
      headers: {
        accept: 'application/json, application/problem+json',
        authorization: `Bearer ${this.#options.token}`,
        ...(this.#options.userAgent && { 'user-agent': this.#options.userAgent }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(method === 'POST' && { 'idempotency-key': randomUUID() }),
        ...(this.#revision > 0 && { 'ucloud-min-revision': String(this.#revision) }),
        ...headers,
      },
      ...(query && { query }),
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(stream && { stream: { ...stream, stallMs: timeoutMs } }),
      // The API may have made an interrupted change. A change is quick, so the client waits for its answer after an
      // abort. A stream takes time, and may be continued later.
      ...(signal && (method === 'GET' || method === 'HEAD' || stream) && { signal }),
    };
    const maxFailures = retries ?? this.maxRetries;
    let mayBeMade = false;
    for (let failures = 0; ; ) {
      try {
        return this.#accept(await this.#transport.send(request));
      } catch (error) {
        const rateLimited = error instanceof ApiError && error.status === 429;
        const countsAsFailure = !rateLimited || signal?.aborted === true;
        if (!(rateLimited || isRetryable(error)) || (countsAsFailure && failures >= maxFailures)) throw error;
        mayBeMade ||= method !== 'GET' && method !== 'HEAD' && mayBeDone(error);
        const requestedMs = error instanceof ApiError ? error.retryAfterMs : undefined;
        // A random part of a second prevents that all waiting clients retry at the same time.
        const pauseMs = rateLimited
          ? (requestedMs ?? 1000) + Math.random() * 1000
          : Math.max(randomPauseMs(failures), requestedMs ?? 0);
        if (countsAsFailure) failures++;
        try {
          await sleep(pauseMs, undefined, { signal });
        } catch {
          if (!mayBeMade) throw error;
          await sleep(randomPauseMs(failures));
        }
      }
    }
  }

  #accept({ status, headers, body }: Answer): Success {
    const revision = Number(headers['ucloud-revision']);
    if (revision > this.#revision) this.#revision = revision;
    if (status < 300 && body === '') return { headers, body: undefined };
    const parsed = parseJson(body);
    if (status < 300 && parsed !== undefined) return { headers, body: parsed };
    throw new ApiError(status, problemOf(status, body, parsed), retryAfterMs(headers));
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns the problem of an answer. Another server in the place of the API may answer without problem+json. */
function problemOf(status: number, body: string, parsed: unknown): Problem {
  const { code, title, ...more } = (parsed ?? {}) as Partial<Problem>;
  if (typeof code === 'string' && typeof title === 'string')
    return { ...more, code, title, detail: more.detail ?? title };
  return {
    code: 'none',
    title: `Unexpected answer, HTTP ${status}`,
    detail: `This is not an answer of ucloud. Check the endpoint. The answer begins: ${body.slice(0, 200) || '(nothing)'}`,
  };
}
