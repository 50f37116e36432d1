/** The limits of one client of an API server. They keep one client from slowing down the others. */

export interface HttpLimits {
  /** Connections in all. Beyond it new ones are closed at once. */
  readonly connections: number;
  /** Connections of one project, or of one operator's token. */
  readonly connectionsPerOwner: number;
  /** Connections that have not shown a valid token, in all. Beyond it the oldest is closed for the newest. */
  readonly strangers: number;
  /** The same from one source: a /64, or an IPv4 address. */
  readonly strangersPerSource: number;
  /** Requests that wait for the one before them on their connection: of one connection, and in all. */
  readonly queuedPerConnection: number;
  readonly queued: number;
  /** Bytes of answers that are on their way, or that nobody reads: of one owner, and in all. */
  readonly unreadPerOwner: number;
  readonly unread: number;
  /** Bytes of bodies that arrive or are worked on: of one owner, and in all. */
  readonly bodiesPerOwner: number;
  readonly bodies: number;
  /** Milliseconds in which a client has to take `pieceBytes` of an answer, or all that is left of it. */
  readonly sendTimeout: number;
  /** Milliseconds for a TLS handshake. */
  readonly handshakeTimeout: number;
  /** Milliseconds for which a connection may be open between two requests. */
  readonly keepAliveTimeout: number;
}

const MiB = 2 ** 20;

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

/** Answers are handed to the connection in pieces of this many bytes. */
export const pieceBytes = 64 * 1024;
/** The bytes that a streamed answer counts for: more than it keeps in memory at any time. */
export const streamBytes = 2 * MiB;
/** Milliseconds for a client to read a refusal before its connection is closed. */
export const lingerMs = 2000;
