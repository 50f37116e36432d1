/** HTTP to one API server: a pool of connections kept alive, deadlines, and TLS with the CAs that are trusted. */
import { readFileSync } from 'node:fs';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { Pool } from 'undici';
import { ConnectionError } from './connection-error.ts';

export interface TransportOptions {
  /** `https://cloud.example.net`, path allowed. */
  readonly endpoint: string;
  /** PEM file of the CAs to trust, instead of the well-known ones and the machine's. */
  readonly caFile?: string | undefined;
}

export interface Request {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Longest silence before the answer, in milliseconds. */
  readonly patience: number;
  readonly signal?: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** Enough for `-parallelism=50` and the long polls beside it; a connection is made when one is needed. */
const connections = 64;

/**
 * What vouches for the endpoint: made once, since reading some hundred certificates takes longer than everything else
 * about a connection.
 */
function trust(caFile: string | undefined): SecureContext {
  if (caFile !== undefined) return createSecureContext({ ca: readFileSync(caFile, 'utf8') });
  // Most of them are in both, and the machine's are in its directory and in its file.
  const authorities = new Set([...getCACertificates('default'), ...getCACertificates('system')]);
  return createSecureContext({ ca: [...authorities] });
}

export class Transport {
  readonly #pool: Pool;
  readonly #base: URL;

  constructor({ endpoint, caFile }: TransportOptions) {
    this.#base = new URL(endpoint.endsWith('/') ? endpoint : `${endpoint}/`);
    this.#pool = new Pool(this.#base.origin, {
      connections,
      keepAliveTimeout: 30_000,
      connect: { timeout: 10_000, ...(this.#base.protocol === 'https:' && { secureContext: trust(caFile) }) },
    });
  }

  async send(request: Request): Promise<Answer> {
    const url = new URL(request.path.replace(/^\//, ''), this.#base);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    try {
      const answer = await this.#pool.request({
        method: request.method,
        path: url.pathname + url.search,
        headers: request.headers,
        body: request.body ?? null,
        headersTimeout: request.patience,
        bodyTimeout: 30_000,
        signal: request.signal ?? null,
      });
      return { status: answer.statusCode, headers: answer.headers, body: await answer.body.text() };
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason;
      throw new ConnectionError(this.#base.origin, error);
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}
