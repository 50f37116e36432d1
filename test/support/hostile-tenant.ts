/** A hostile tenant: it keeps connections open, does not read answers, and does not finish bodies. */
import { connect, type Socket } from 'node:net';
import { until } from './eventually.ts';
import { socketClosed } from './socket-closed.ts';

export interface RawResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A connection for which the test writes every byte. `from` is the local address. */
export class RawConnection {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  #received = Buffer.alloc(0);
  #bytes = 0;

  constructor(url: string, { reads = true, from }: { readonly reads?: boolean; readonly from?: string } = {}) {
    const { hostname, port } = new URL(url);
    const host = hostname.replace(/^\[|\]$/g, '');
    this.socket = connect({ port: Number(port), host, ...(from === undefined ? {} : { localAddress: from }) });
    this.closed = socketClosed(this.socket);
    if (reads) this.read();
    else this.socket.pause();
  }

  send(bytes: string | Buffer): this {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
    return this;
  }

  /** Starts to read. */
  read(): this {
    this.socket.on('data', (piece) => {
      this.#bytes += piece.length;
      // The tests look only at the beginning of long answers.
      if (this.#received.length < 1_000_000) this.#received = Buffer.concat([this.#received, Buffer.from(piece)]);
    });
    return this;
  }

  get text(): string {
    return this.#received.toString('latin1');
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Returns all received bytes, when the connection has closed. */
  async toEnd(): Promise<string> {
    await this.closed;
    return this.text;
  }

  /** Waits until this number of answers has arrived. */
  async responses(count: number, seconds = 60): Promise<readonly RawResponse[]> {
    return until(
      `${count} answers`,
      () => {
        const found = responsesIn(this.text);
        return found.length >= count ? found : undefined;
      },
      seconds,
    );
  }

  end(): void {
    this.socket.destroy();
  }
}

/** Returns the complete responses in a text, in their order. Responses to HEAD must be the last. */
export function responsesIn(text: string): RawResponse[] {
  const responses: RawResponse[] = [];
  for (let at = 0; ; ) {
    const end = text.indexOf('\r\n\r\n', at);
    if (end < 0) return responses;
    const [first = '', ...lines] = text.slice(at, end).split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1]);
    if (Number.isNaN(status)) throw new Error(`this is no response: ${text.slice(at, at + 200)}`);
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const start = end + 4;
    if (status === 100) {
      at = start;
      continue;
    }
    const length = Number(headers['content-length'] ?? 0);
    if (text.length < start + length) return responses;
    responses.push({ status, headers, body: text.slice(start, start + length) });
    at = start + length;
  }
}

export const head = (method: string, path: string, token?: string, headers: readonly string[] = []): string =>
  [
    `${method} ${path} HTTP/1.1`,
    'Host: x',
    ...(token === undefined ? [] : [`Authorization: Bearer ${token}`]),
    ...headers,
    '',
    '',
  ].join('\r\n');

/** A resource that the tenant holds until it is released. */
export interface Held {
  readonly connections: readonly RawConnection[];
  letGo(): void;
}

const hold = (connections: readonly RawConnection[]): Held => ({
  connections,
  letGo: () => connections.forEach((connection) => void connection.end()),
});

/** Sends requests on this number of connections, and reads none of the answers. */
export const unreadAnswers = (url: string, token: string, path: string, count: number): Held =>
  hold(Array.from({ length: count }, () => new RawConnection(url, { reads: false }).send(head('GET', path, token))));

/** Begins this number of bodies of the size, and sends only their first bytes. */
export const slowUploads = (url: string, token: string, path: string, count: number, bytes: number): Held =>
  hold(
    Array.from({ length: count }, () =>
      new RawConnection(url).send(
        `${head('POST', path, token, ['Content-Type: application/json', `Content-Length: ${bytes}`])}{`,
      ),
    ),
  );

/** Connects and sends nothing. */
export const silentConnections = (url: string, count: number): Held =>
  hold(Array.from({ length: count }, () => new RawConnection(url)));

/** Sends many requests on one connection, after one that waits. */
export const requestsAhead = (url: string, token: string, waiting: string, path: string, count: number): Held =>
  hold([new RawConnection(url).send(head('GET', waiting, token) + head('GET', path, token).repeat(count))]);

/** Returns a Terraform state of about this size in bytes, which compression does not make smaller. */
export function largeState(serial: number, bytes: number, random: (size: number) => Buffer): string {
  const text = random(Math.ceil((bytes * 3) / 4)).toString('base64');
  return `{"version":4,"serial":${serial},"lineage":"hostile","x":"${text}"}`;
}

/** Returns a state with this depth. */
export const deepState = (serial: number, depth: number): string =>
  `{"version":4,"serial":${serial},"lineage":"hostile","x":${'['.repeat(depth)}${']'.repeat(depth)}}`;
