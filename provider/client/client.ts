/**
 * The client of the API. The client repeats a request if the API's error table calls the error retryable, or if the
 * connection broke. Every POST has an Idempotency-Key, so a repeated POST creates no second object. The client waits after
 * a 429 by itself; no caller sees it.
 *
 * A caller that aborts gets the error of the last attempt. A change whose answer was lost may have been made. The client
 * repeats it even after an abort, up to the maximum number of attempts, because only the answer contains the new object.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Caller, CallOptions, Item, List, Query } from './item.ts';
import { ApiError, isRetryable, mayBeDone, type Problem } from './problem.ts';
import { BatchReader } from './reader.ts';
import { retryAfter } from './retry-after.ts';
import { type Answer, type Request, Transport, type TransportOptions } from './transport.ts';
import { Waiter } from './waiter.ts';

export interface ClientOptions extends TransportOptions {
  readonly token: string;
  /** Project of what is created; else that of the token. */
  readonly project?: string | undefined;
  readonly userAgent?: string;
  /** How often a request that may succeed later is sent again; 429 does not count, nor does a wait. Default 7. */
  readonly maxRetries?: number;
  /** Longest wait for the first byte of an answer, in milliseconds, beyond that of a long poll. Default 30 s. */
  readonly requestTimeout?: number;
}

const defaultTimeout = 30_000;
/** With the pauses below, about half a minute. */
const defaultRetries = 7;
const longestPause = 8_000;

/** Exponential backoff with full jitter: clients that failed at the same time do not return at the same time. */
const pause = (attempt: number): number => Math.random() * Math.min(longestPause, 250 * 2 ** attempt);

/** Most items of one answer that the API gives. */
const largestPage = 1000;

export class Client implements Caller {
  readonly #transport: Transport;
  readonly #options: ClientOptions;
  readonly #reader: BatchReader;
  readonly #waiter: Waiter;
  /** Newest revision seen, so that no later read, of whichever server, is older. */
  #revision = 0;
  #token: Promise<{ readonly project?: string; readonly role: string }> | undefined;

  constructor(options: ClientOptions) {
    this.#transport = new Transport(options);
    this.#options = options;
    this.#reader = new BatchReader(this);
    this.#waiter = new Waiter(this);
  }

  /** The project that new objects belong to: the provider's, else the token's; none for a token of an operator. */
  project(signal?: AbortSignal): Promise<string | undefined> {
    if (this.#options.project !== undefined) return Promise.resolve(this.#options.project);
    return this.#self(signal).then(({ project }) => project);
  }

  /** The role of the token: `viewer`, `member` or `operator`. */
  role(signal?: AbortSignal): Promise<string> {
    return this.#self(signal).then(({ role }) => role);
  }

  #self(signal: AbortSignal | undefined) {
    this.#token ??= this.call('GET', '/v1/token', { signal }).then(
      (token) => token as { readonly project?: string; readonly role: string },
      (error) => {
        this.#token = undefined;
        throw error;
      },
    );
    return this.#token;
  }

  async create(path: string, body: unknown, signal?: AbortSignal): Promise<Item> {
    return (await this.call('POST', path, { body, signal })) as Item;
  }

  /** The object, or undefined when there is none. Reads that come together are one request. */
  read(path: string, id: string, signal?: AbortSignal): Promise<Item | undefined> {
    return this.#reader.read(path, id, signal);
  }

  async update(path: string, id: string, body: unknown, signal?: AbortSignal): Promise<Item> {
    return (await this.call('PATCH', `${path}/${encodeURIComponent(id)}`, { body, signal })) as Item;
  }

  /** The object on its way out, where deletion takes time; undefined when it is gone. */
  async delete(path: string, id: string, signal?: AbortSignal): Promise<Item | undefined> {
    return (await this.call('DELETE', `${path}/${encodeURIComponent(id)}`, { signal })) as Item | undefined;
  }

  async list(path: string, query: Query, signal?: AbortSignal): Promise<List> {
    return (await this.call('GET', path, { query, signal })) as List;
  }

  /** Page after page, as large as the API makes them. */
  async listAll(path: string, query: Query, signal?: AbortSignal): Promise<Item[]> {
    const items: Item[] = [];
    let token: string | undefined;
    do {
      const list = await this.list(path, { ...query, limit: largestPage, page_token: token }, signal);
      items.push(...list.items);
      token = list.next_page_token;
    } while (token !== undefined);
    return items;
  }

  /**
   * Waits by long poll until `done` returns true. `done` gets every state that the API shows, and undefined when the object is
   * gone. The wait survives an API that cannot be reached: the caller's signal is the time limit, and the object changes
   * without the provider.
   */
  wait(
    path: string,
    from: Item,
    done: (item: Item | undefined) => boolean,
    signal: AbortSignal,
  ): Promise<Item | undefined> {
    return this.#waiter.wait(path, from, done, signal);
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  async call(
    method: Request['method'],
    path: string,
    { query, body, signal, wait = 0, retries }: CallOptions = {},
  ): Promise<unknown> {
    const request: Request = {
      method,
      path,
      timeoutMs: (this.#options.requestTimeout ?? defaultTimeout) + wait,
      headers: {
        accept: 'application/json, application/problem+json',
        authorization: `Bearer ${this.#options.token}`,
        ...(this.#options.userAgent && { 'user-agent': this.#options.userAgent }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(method === 'POST' && { 'idempotency-key': randomUUID() }),
        ...(this.#revision > 0 && { 'ucloud-min-revision': String(this.#revision) }),
      },
      ...(query && { query }),
      ...(body !== undefined && { body: JSON.stringify(body) }),
      // A change that is interrupted may have been made all the same. It is quick, so its answer is worth waiting for.
      ...(signal && method === 'GET' && { signal }),
    };
    const most = retries ?? this.#options.maxRetries ?? defaultRetries;
    let uncertain = false;
    for (let failures = 0; ; ) {
      try {
        return this.#accept(await this.#transport.send(request));
      } catch (error) {
        const busy = error instanceof ApiError && error.status === 429;
        const counts = !busy || signal?.aborted === true;
        if (!(busy || isRetryable(error)) || (counts && failures >= most)) throw error;
        uncertain ||= method !== 'GET' && mayBeDone(error);
        const told = error instanceof ApiError ? error.retryAfter : undefined;
        // Spread over a further second, so that waiting clients do not return as one.
        const rest = busy ? (told ?? 1000) + Math.random() * 1000 : Math.max(pause(failures), told ?? 0);
        if (counts) failures++;
        try {
          await sleep(rest, undefined, { signal });
        } catch {
          if (!uncertain) throw error;
          await sleep(pause(failures));
        }
      }
    }
  }

  #accept({ status, headers, body }: Answer): unknown {
    const revision = Number(headers['ucloud-revision']);
    if (revision > this.#revision) this.#revision = revision;
    if (status < 300 && body === '') return undefined;
    const parsed = parseJson(body);
    if (status < 300 && parsed !== undefined) return parsed;
    throw new ApiError(status, problemOf(status, body, parsed), retryAfter(headers));
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The problem that an answer tells; what answers in the API's place may say something else than problem+json. */
function problemOf(status: number, body: string, parsed: unknown): Problem {
  const { code, title, ...more } = (parsed ?? {}) as Partial<Problem>;
  if (typeof code === 'string' && typeof title === 'string')
    return { ...more, code, title, detail: more.detail ?? title };
  return {
    code: 'none',
    title: `Unexpected answer, HTTP ${status}`,
    detail: `This is not an answer of ucloud; is the endpoint right? It begins: ${body.slice(0, 200) || '(nothing)'}`,
  };
}
