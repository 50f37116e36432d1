/**
 * TLS between the two ends of a plugin, each of which accepts exactly one certificate of the other.
 *
 * A file of its own because loading TLS and preparing its keys is a good part of a start, and nobody needs it before
 * Terraform has read the handshake.
 */
import type { Socket } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import type { Certificate } from './certificate.ts';

export interface MutualTlsOptions {
  readonly own: Certificate;
  /** The one certificate that a client must prove to own, as DER. */
  readonly client: Buffer;
  /** Takes over a connection of that client. */
  onSocket(socket: TLSSocket): void;
  /** Told of connections that were refused or broke. */
  onError(error: Error): void;
}

/** Makes what turns an accepted connection into one of mutual TLS. */
export function mutualTls({ own, client, onSocket, onError }: MutualTlsOptions): (socket: Socket) => void {
  const server = tls.createServer(
    {
      key: own.key.export({ type: 'pkcs8', format: 'pem' }),
      cert: own.pem,
      // No certificate authority at all: the one client certificate is compared below. An absent list would make
      // OpenSSL read all public authorities, which costs more time than the rest of the start.
      ca: [],
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['h2'],
    },
    (socket) => {
      socket.on('error', onError);
      if (isPinned(socket, client)) return onSocket(socket);
      onError(new Error('a connection without the certificate of the calling Terraform was refused'));
      socket.destroy();
    },
  );
  server.on('tlsClientError', onError);
  return (socket) => server.emit('connection', socket);
}

/** Returns true if the client proved to own exactly the certificate that Terraform announced. */
function isPinned(socket: TLSSocket, expected: Buffer): boolean {
  const peer = socket.getPeerX509Certificate();
  return peer?.raw.equals(expected) ?? false;
}
