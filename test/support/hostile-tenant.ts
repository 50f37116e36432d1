/** A tenant that takes what it can get: connections, answers that it does not read, bodies that it does not finish. */
import { connect, type Socket } from 'node:net';
import { until } from './eventually.ts';
import { socketClosed } from './socket-closed.ts';

export interface RawResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A connection whose every byte is one's own; `from` an address of this machine. */
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

  /** Reads from now on. */
  read(): this {
    this.socket.on('data', (piece) => {
      this.#bytes += piece.length;
      // Enough for answers that are looked at.
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

  /** Everything that came until the connection was closed. */
  async toEnd(): Promise<string> {
    await this.closed;
    return this.text;
  }

  /** Waits until so many answers are there. */
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

/** The whole responses in a text, in their order. Those to HEAD have to be the last. */
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

/** Asks on so many connections and reads none of the answers. */
export const unreadAnswers = (url: string, token: string, path: string, count: number): Held =>
  hold(Array.from({ length: count }, () => new RawConnection(url, { reads: false }).send(head('GET', path, token))));

/** Begins to send so many bodies of the size, and sends no more than the first bytes. */
export const slowUploads = (url: string, token: string, path: string, count: number, bytes: number): Held =>
  hold(
    Array.from({ length: count }, () =>
      new RawConnection(url).send(
        `${head('POST', path, token, ['Content-Type: application/json', `Content-Length: ${bytes}`])}{`,
      ),
    ),
  );

/** Connects and says nothing. */
export const silentConnections = (url: string, count: number): Held =>
  hold(Array.from({ length: count }, () => new RawConnection(url)));

/** Sends many requests ahead on one connection, behind one that waits. */
export const requestsAhead = (url: string, token: string, waiting: string, path: string, count: number): Held =>
  hold([new RawConnection(url).send(head('GET', waiting, token) + head('GET', path, token).repeat(count))]);

/** A state of Terraform of about so many bytes, which does not shrink when it is compressed. */
export function largeState(serial: number, bytes: number, random: (size: number) => Buffer): string {
  const text = random(Math.ceil((bytes * 3) / 4)).toString('base64');
  return `{"version":4,"serial":${serial},"lineage":"hostile","x":"${text}"}`;
}

/** A state that is nested so deep. */
export const deepState = (serial: number, depth: number): string =>
  `{"version":4,"serial":${serial},"lineage":"hostile","x":${'['.repeat(depth)}${']'.repeat(depth)}}`;
