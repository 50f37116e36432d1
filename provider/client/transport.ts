/**
 * Sends HTTP requests to the API, with kept connections, timeouts, proxies and TLS.
 *
 * The transport uses Node's own client, because loading another one would delay every start of the provider.
 */
import type { Agent, ClientRequest, IncomingMessage, RequestOptions } from 'node:http';
import type { Agent as TlsAgent } from 'node:https';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { SecureContext } from 'node:tls';
import { defaultSecureContext, readAuthorities } from './authorities.ts';
import { ConnectionError } from './connection-error.ts';
import { BodyFailure, ProxyRefusal, StaleConnection, Timeout } from './connection-failure.ts';
import { type ProxySetting, proxyAuthorization } from './proxy.gen.ts';
import { connectOptions, openTunnel } from './tunnel.ts';

/** Options of `Transport`. */
export interface TransportOptions {
  /** The URL of the API, such as `https://cloud.example.net`. */
  readonly endpoint: string;
  /** The PEM file of the trusted CAs. Default: the well-known CAs and those of the machine. */
  readonly caFile?: string | undefined;
  /** The place where the file is configured, for errors. Default: the provider block. */
  readonly caFileFrom?: string | undefined;
  /** The proxy that forwards the requests. */
  readonly proxy?: ProxySetting | undefined;
}

/** A body that is sent while it is read. */
export interface StreamedBody {
  /** Returns a new stream of the body. */
  readonly open: () => Readable;
  /** The size of the body in bytes. */
  readonly bytes: number;
  /** The maximum time in which the connection takes no further bytes, in milliseconds. */
  readonly stallMs: number;
}

/** A request to the API. */
export interface Request {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** A long body instead of `body`. */
  readonly stream?: StreamedBody;
  /** The maximum time until the answer begins, in milliseconds. It begins when the whole body is sent. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** The answer to a request, with any status. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** The maximum number of connections. It suffices for `-parallelism=50` with its long polls. */
const maxConnections = 64;
/** The maximum time until the connection exists. */
const connectTimeoutMs = 10_000;
/** The maximum time between two parts of an answer. */
const partTimeoutMs = 30_000;

/** Returns the TLS context with the CAs that the provider trusts for the endpoint. */
function secureContextFor({ caFile, caFileFrom = '`ca_file`' }: TransportOptions): SecureContext {
  if (caFile === undefined) return defaultSecureContext();
  const { createSecureContext } = process.getBuiltinModule('node:tls');
  return createSecureContext({ ca: readAuthorities(caFile, caFileFrom) });
}

/** The connections to one endpoint. */
export class Transport {
  readonly #base: URL;
  readonly #agent: Agent | TlsAgent;
  readonly #proxy: ProxySetting | undefined;

  constructor(transport: TransportOptions) {
    const { endpoint, proxy } = transport;
    this.#base = new URL(endpoint);
    this.#proxy = proxy;
    const options = { keepAlive: true, maxSockets: maxConnections, maxFreeSockets: maxConnections };
    if (this.#base.protocol === 'http:') {
      this.#agent =
        proxy?.url.protocol === 'https:'
          ? new (process.getBuiltinModule('node:https').Agent)({ ...options, secureContext: defaultSecureContext() })
          : new (process.getBuiltinModule('node:http').Agent)(options);
      return;
    }
    const { Agent } = process.getBuiltinModule('node:https');
    const agent = new Agent({ ...options, secureContext: secureContextFor(transport) });
    if (proxy) {
      const { connect } = process.getBuiltinModule('node:tls');
      const target = `${this.#base.hostname}:${this.#base.port || 443}`;
      agent.createConnection = (wanted, callback) => {
        openTunnel(proxy, target, connectTimeoutMs).then(
          (socket) => callback?.(null, connect({ ...wanted, path: undefined, socket } as object)),
          (error: Error) => callback?.(error, undefined as unknown as Socket),
        );
        return undefined;
      };
    }
    this.#agent = agent;
  }

  /**
   * Sends the request and returns the answer.
   * @throws ConnectionError if there is no answer; the reason of the request's signal after its abort; the error of a
   *   streamed body
   */
  async send(request: Request): Promise<Answer> {
    const url = new URL(request.path, this.#base);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    for (let again = true; ; again = false) {
      try {
        return await this.#exchange(url, request);
      } catch (error) {
        if (request.signal?.aborted) throw request.signal.reason;
        if (error instanceof BodyFailure) throw error.cause;
        // The server closed the kept connection before it read the request, so the transport may send it again. The server
        // may have stored a part of a stream.
        if (again && error instanceof StaleConnection && !request.stream) continue;
        throw new ConnectionError(
          this.#base.origin,
          error instanceof StaleConnection ? error.cause : error,
          this.#proxy?.text,
        );
      }
    }
  }

  #exchange(url: URL, { method, headers, body, stream, timeoutMs, signal }: Request): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const length = stream?.bytes ?? (body === undefined ? undefined : Buffer.byteLength(body));
      const request = this.#request(url, {
        method,
        agent: this.#agent,
        headers: { ...headers, ...(length !== undefined && { 'content-length': length }) },
        ...(signal && { signal }),
      });
      const content = stream?.open();
      const timeOut = (code: Timeout['code']) => {
        content?.destroy();
        reject(new Timeout(code));
        request.destroy();
      };
      let timer = setTimeout(timeOut, connectTimeoutMs, 'CONNECT_TIMEOUT');
      const wait = (milliseconds: number, code: Timeout['code']) => {
        clearTimeout(timer);
        timer = setTimeout(timeOut, milliseconds, code);
      };
      const finish = (then: () => void) => {
        clearTimeout(timer);
        content?.destroy();
        then();
      };
      request.on('socket', (socket) => {
        const connected = () => wait(stream?.stallMs ?? timeoutMs, 'HEADERS_TIMEOUT');
        if (request.reusedSocket) connected();
        else socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', connected);
      });
      request.on('error', (error: NodeJS.ErrnoException) => {
        const stale = request.reusedSocket && ['ECONNRESET', 'EPIPE'].includes(error.code ?? '');
        finish(() => reject(stale ? new StaleConnection(error) : error));
      });
      request.on('response', (response: IncomingMessage) => {
        wait(partTimeoutMs, 'BODY_TIMEOUT');
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => {
          parts.push(part);
          timer.refresh();
        });
        response.on('error', (error) => finish(() => reject(error)));
        response.on('end', () => {
          const { statusCode: status = 0 } = response;
          if (status === 407 && this.#proxy) return finish(() => reject(new ProxyRefusal(status)));
          const text = Buffer.concat(parts).toString('utf8');
          finish(() => resolve({ status, headers: response.headers, body: text }));
        });
      });
      if (!content) return request.end(body);
      content.on('error', (error) => {
        finish(() => reject(new BodyFailure(error)));
        request.destroy();
      });
      content.on('data', () => timer.refresh());
      content.on('end', () => wait(timeoutMs, 'HEADERS_TIMEOUT'));
      content.pipe(request);
    });
  }

  /** Creates the request. Without a tunnel, a proxy gets the whole URL. */
  #request(url: URL, options: RequestOptions): ClientRequest {
    const proxy = url.protocol === 'http:' ? this.#proxy?.url : undefined;
    const target = proxy ?? url;
    const { request } = process.getBuiltinModule(target.protocol === 'https:' ? 'node:https' : 'node:http');
    if (!proxy) return request(url, options);
    const authorization = proxyAuthorization(proxy);
    return request({
      ...options,
      ...connectOptions(proxy),
      path: url.href,
      headers: {
        ...options.headers,
        host: url.host,
        ...(authorization !== undefined && { 'proxy-authorization': authorization }),
      },
    });
  }

  /** Closes all connections. */
  async close(): Promise<void> {
    this.#agent.destroy();
  }
}
