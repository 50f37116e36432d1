/**
 * Serves the files of the image store to hosts, and takes the disks of snapshots from them (model/image/transfer.ts). A
 * client that does not know the secret of an image or of a delivery fails in the handshake, so it sends no request. A client
 * that knows it gets the file of this image only, or delivers this disk only.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { Logger } from '../model/component.ts';
import {
  deliveryUrlPath,
  imageOfDelivery,
  imageSecretBytes,
  imageTransferTls,
  imageUrlPath,
} from '../model/image/transfer.ts';
import { sourceNetwork } from '../model/network/addresses.ts';

/** A file that the server offers. */
export interface ServedImage {
  readonly path: string;
  readonly bytes: number;
  /** The secret in hex. */
  readonly secret: string;
}

/** The limits of the server. A stranger is a connection whose handshake is not complete. */
export interface ImageServerLimits {
  readonly maxStrangers: number;
  /** The maximum number of strangers of one /64 of IPv6 or one address of IPv4. */
  readonly maxStrangersPerSource: number;
  readonly maxConnections: number;
  readonly handshakeTimeoutMs: number;
  /** The maximum time until the headers of a request are complete. */
  readonly requestTimeoutMs: number;
  /** The server ends a connection after this time without a byte in either direction. */
  readonly idleTimeoutMs: number;
}

/** The limits of a cloud without settings of its own. */
export const defaultServerLimits: ImageServerLimits = {
  maxStrangers: 256,
  maxStrangersPerSource: 16,
  maxConnections: 1024,
  handshakeTimeoutMs: 5000,
  requestTimeoutMs: 5000,
  idleTimeoutMs: 30_000,
};

/** Options of `startImageServer`. */
export interface ImageServerOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly logger: Logger;
  /** Returns the file of the image; undefined if there is none. */
  readonly find: (image: string) => ServedImage | undefined;
  /** Takes the disks of snapshots. Default: takes none. */
  readonly deliveries?: DeliveryDesk | undefined;
  readonly limits?: Partial<ImageServerLimits>;
}

/** The part of a scanner that takes the disks of snapshots. */
export interface DeliveryDesk {
  /** Returns the secret of the delivery that the image waits for, in hex; undefined if it waits for none. */
  secretOf(image: string): string | undefined;
  /** Takes the body of the request. Resolves with the status of the answer, and never rejects. */
  receive(image: string, request: IncomingMessage): Promise<number>;
}

/** A running image server. */
export interface ImageServer {
  readonly port: number;
  /** The number of bytes of files that the server has sent. */
  readonly sentBytes: () => number;
  readonly openConnections: () => Promise<number>;
  close(): Promise<void>;
}

/** A TLS socket and the socket below it are different objects with the same peer. */
const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

/** Bounds the number of strangers. Above a limit, the newest stranger replaces the oldest. */
class Strangers {
  readonly #limits: ImageServerLimits;
  /** In the order of arrival, by peer. */
  readonly #all = new Map<string, Socket>();

  constructor(limits: ImageServerLimits) {
    this.#limits = limits;
  }

  add(socket: Socket): void {
    const peer = peerOf(socket);
    const source = sourceNetwork(socket.remoteAddress ?? '');
    this.#all.set(peer, socket);
    socket.once('close', () => {
      if (this.#all.get(peer) === socket) this.#all.delete(peer);
    });
    const neighbours = [...this.#all.values()].filter(
      ({ remoteAddress }) => sourceNetwork(remoteAddress ?? '') === source,
    );
    const { maxStrangers, maxStrangersPerSource } = this.#limits;
    if (neighbours.length > maxStrangersPerSource) this.#close(neighbours[0]);
    else if (this.#all.size > maxStrangers) this.#close(this.#all.values().next().value);
  }

  /** The handshake of the connection is complete. */
  admit(socket: Socket): void {
    this.#all.delete(peerOf(socket));
  }

  closeAll(): void {
    for (const socket of this.#all.values()) socket.destroy();
  }

  #close(socket: Socket | undefined): void {
    if (socket === undefined) return;
    this.#all.delete(peerOf(socket));
    socket.destroy();
  }
}

/** Returns the first byte that the request asks for; undefined if the server does not know the form of the range. */
function firstByte(range: string | undefined): number | undefined {
  if (range === undefined) return 0;
  const start = /^bytes=(\d{1,15})-$/.exec(range)?.[1];
  return start === undefined ? undefined : Number(start);
}

function refuse(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'content-length': 0 }).end();
}

/**
 * Starts an image server. Resolves when it listens.
 * @throws Error with the code of the system, such as `EADDRINUSE`
 */
export async function startImageServer(options: ImageServerOptions): Promise<ImageServer> {
  const { listen, logger, find, deliveries } = options;
  const limits = { ...defaultServerLimits, ...options.limits };
  const strangers = new Strangers(limits);
  /** The identity whose secret the client knows: an image, or a delivery. */
  const proven = new WeakMap<Socket, string>();
  let sent = 0;

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const image = proven.get(request.socket);
    const delivered = imageOfDelivery(image ?? '');
    if (deliveries && delivered !== undefined) {
      if (request.url !== deliveryUrlPath(delivered)) return refuse(response, 404);
      if (request.method !== 'PUT') return refuse(response, 405);
      return refuse(response, await deliveries.receive(delivered, request));
    }
    const served = image === undefined ? undefined : find(image);
    if (image === undefined || served === undefined || request.url !== imageUrlPath(image))
      return refuse(response, 404);
    if (request.method !== 'GET') return refuse(response, 405);
    const start = firstByte(request.headers.range);
    if (start === undefined || start >= served.bytes) return refuse(response, 416);
    const file = await open(served.path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => undefined);
    if (file === undefined) return refuse(response, 503);
    // The file and its record differ for a moment after a new import.
    if ((await file.stat()).size !== served.bytes) {
      await file.close();
      return refuse(response, 503);
    }
    const length = { 'content-type': 'application/octet-stream', 'content-length': served.bytes - start };
    if (request.headers.range === undefined) response.writeHead(200, length);
    else response.writeHead(206, { ...length, 'content-range': `bytes ${start}-${served.bytes - 1}/${served.bytes}` });
    // The stream closes the file.
    const content = file.createReadStream({ start, end: served.bytes - 1, highWaterMark: 2 ** 18 });
    content.on('data', (chunk) => {
      sent += chunk.length;
    });
    await pipeline(content, response);
  };

  const server = createServer(
    {
      ...imageTransferTls,
      handshakeTimeout: limits.handshakeTimeoutMs,
      headersTimeout: limits.requestTimeoutMs,
      // A delivery takes as long as its disk. The idle time-out ends a body that does not arrive.
      requestTimeout: 0,
      connectionsCheckingInterval: Math.ceil(limits.requestTimeoutMs / 4),
      maxHeaderSize: 4096,
      pskCallback: (socket, identity) => {
        proven.set(socket, identity);
        // An unknown image fails like a wrong secret, so an answer does not tell which images exist.
        const delivered = imageOfDelivery(identity);
        const secret = delivered === undefined ? find(identity)?.secret : deliveries?.secretOf(delivered);
        return secret === undefined ? randomBytes(imageSecretBytes) : Buffer.from(secret, 'hex');
      },
    },
    (request, response) => {
      response.shouldKeepAlive = false;
      serve(request, response).catch((err: unknown) => {
        response.destroy();
        // A client that goes away is no fault.
        if ((err as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE')
          logger.warn({ err }, 'the transfer of an image failed');
      });
    },
  );
  server.maxConnections = limits.maxConnections;
  server.maxRequestsPerSocket = 1;
  server.on('connection', (socket: Socket) => {
    strangers.add(socket);
    socket.setTimeout(limits.idleTimeoutMs, () => socket.destroy());
  });
  server.on('secureConnection', (socket) => {
    strangers.admit(socket);
    socket.setTimeout(limits.idleTimeoutMs, () => socket.destroy());
  });
  // Failed handshakes are expected from strangers.
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  server.on('clientError', (_error, socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ ...listen }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', (err) => logger.error({ err }, 'the image server failed'));
  return {
    port: (server.address() as AddressInfo).port,
    sentBytes: () => sent,
    openConnections: () =>
      new Promise((resolve, reject) => {
        server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
      }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
        // Connections without a complete handshake.
        strangers.closeAll();
      }),
  };
}
