/**
 * TLS between Terraform and the provider. Each accepts exactly one certificate of the other.
 *
 * This module is loaded after the handshake, because loading TLS and preparing its keys takes a large part of a start.
 */
import type { Socket } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import type { Certificate } from './certificate.ts';

export interface MutualTlsOptions {
  readonly own: Certificate;
  /** The one certificate that a client must prove to own, as DER. */
  readonly client: Buffer;
  /** Gets each connection of that client. */
  onSocket(socket: TLSSocket): void;
  /** Gets the errors of refused and broken connections. */
  onError(error: Error): void;
}

/** Returns a function that starts mutual TLS on an accepted connection. */
export function mutualTls({ own, client, onSocket, onError }: MutualTlsOptions): (socket: Socket) => void {
  const server = tls.createServer(
    {
      key: own.key.export({ type: 'pkcs8', format: 'pem' }),
      cert: own.pem,
      // No CA: the client certificate is compared below. Without this empty list, OpenSSL would read all public CAs, which
      // takes more time than the rest of the start.
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
