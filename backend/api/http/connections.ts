/**
 * Limits on connections. A connection that has not shown a valid token is a stranger. Strangers have a limit for each
 * network and in total; above it the newest connection replaces the oldest. A client shows its token within one round
 * trip, so it gets through while others hold connections open.
 */
import type { Server, Socket } from 'node:net';
import { sourceNetwork } from '../../model/network/addresses.ts';
import type { HttpLimits } from './limits.ts';

interface Connection {
  readonly socket: Socket;
  readonly source: string;
  owner: string | undefined;
}

/** A TLS socket and the socket below it are different objects with the same peer. */
const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

/** Counts the connections of each owner and network, and closes those above the limits. */
export class Connections {
  readonly #limits: HttpLimits;
  readonly #byPeer = new Map<string, Connection>();
  /** In the order of arrival. */
  readonly #strangers = new Set<Connection>();
  readonly #bySource = new Map<string, Set<Connection>>();
  readonly #byOwner = new Map<string, number>();

  constructor(limits: HttpLimits) {
    this.#limits = limits;
  }

  /** The numbers of strangers and of all connections. */
  get counts(): { readonly strangers: number; readonly all: number } {
    return { strangers: this.#strangers.size, all: this.#byPeer.size };
  }

  attach(server: Server): void {
    server.maxConnections = this.#limits.connections;
    server.on('connection', (socket: Socket) => this.#add(socket));
  }

  #add(socket: Socket): void {
    const peer = peerOf(socket);
    const connection: Connection = { socket, source: sourceNetwork(socket.remoteAddress ?? ''), owner: undefined };
    this.#byPeer.set(peer, connection);
    this.#strangers.add(connection);
    const neighbours = this.#bySource.get(connection.source) ?? new Set();
    this.#bySource.set(connection.source, neighbours.add(connection));
    socket.once('close', () => {
      if (this.#byPeer.get(peer) === connection) this.#byPeer.delete(peer);
      this.#forgetStranger(connection);
      this.#forgetOwner(connection);
    });
    const { strangers, strangersPerSource } = this.#limits;
    if (neighbours.size > strangersPerSource) this.#closeOldest(neighbours);
    else if (this.#strangers.size > strangers) this.#closeOldest(this.#strangers);
  }

  #closeOldest(connections: ReadonlySet<Connection>): void {
    for (const connection of connections) {
      this.#forgetStranger(connection);
      connection.socket.destroy();
      return;
    }
  }

  #forgetStranger(connection: Connection): void {
    this.#strangers.delete(connection);
    const neighbours = this.#bySource.get(connection.source);
    neighbours?.delete(connection);
    if (neighbours?.size === 0) this.#bySource.delete(connection.source);
  }

  #forgetOwner(connection: Connection): void {
    const { owner } = connection;
    if (owner === undefined) return;
    connection.owner = undefined;
    const left = (this.#byOwner.get(owner) ?? 1) - 1;
    if (left === 0) this.#byOwner.delete(owner);
    else this.#byOwner.set(owner, left);
  }

  /** Assigns the connection to the owner of a valid token. Returns false if the owner has too many connections. */
  claim(socket: Socket, owner: string): boolean {
    const connection = this.#byPeer.get(peerOf(socket));
    if (!connection || connection.owner === owner) return true;
    const count = this.#byOwner.get(owner) ?? 0;
    if (count >= this.#limits.connectionsPerOwner) return false;
    this.#forgetStranger(connection);
    this.#forgetOwner(connection);
    connection.owner = owner;
    this.#byOwner.set(owner, count + 1);
    return true;
  }
}
