/** The limits of one client of an API server. They prevent one client from slowing down the others. */

/** The limits of an HTTP server. */
export interface HttpLimits {
  /** The maximum number of connections. New connections above it are closed immediately. */
  readonly connections: number;
  /** The maximum number of connections of one project, or of one operator's token. */
  readonly connectionsPerOwner: number;
  /** The maximum number of connections without a valid token. Above it the newest replaces the oldest. */
  readonly strangers: number;
  /** The maximum number of connections without a valid token from one source: a /64, or an IPv4 address. */
  readonly strangersPerSource: number;
  /** The requests that wait for an earlier request on their connection: of one connection, and in total. */
  readonly queuedPerConnection: number;
  readonly queued: number;
  /** Bytes of responses that the client has not read: of one owner, and in total. */
  readonly unreadPerOwner: number;
  readonly unread: number;
  /** Bytes of request bodies in memory: of one owner, and in total. */
  readonly bodiesPerOwner: number;
  readonly bodies: number;
  /** Milliseconds in which a client must read `pieceBytes` of a response, or the rest of it. */
  readonly sendTimeout: number;
  /** Milliseconds for a TLS handshake. */
  readonly handshakeTimeout: number;
  /** Milliseconds for which a connection may be idle between two requests. */
  readonly keepAliveTimeout: number;
}

const MiB = 2 ** 20;

/** The default limits of an HTTP server. */
export const defaultHttpLimits: HttpLimits = {
  connections: 10_000,
  connectionsPerOwner: 1000,
  strangers: 4000,
  strangersPerSource: 1000,
  queuedPerConnection: 128,
  queued: 4096,
  unreadPerOwner: 64 * MiB,
  unread: 256 * MiB,
  bodiesPerOwner: 64 * MiB,
  bodies: 256 * MiB,
  sendTimeout: 30_000,
  handshakeTimeout: 10_000,
  keepAliveTimeout: 72_000,
};

/** The bytes of one piece in which a response is handed to the connection. */
export const pieceBytes = 64 * 1024;
/** The bytes that a streamed response counts for; it never keeps more than these in memory. */
export const streamBytes = 2 * MiB;
/** Milliseconds for a client to read a refusal before its connection is closed. */
export const lingerMs = 2000;
