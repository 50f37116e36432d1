import type { Socket } from 'node:net';

/**
 * Resolves when the connection has ended, however it did. `once` of node:events would reject when it is reset, as a server
 * does which ends a connection before it has read all that was sent; what it answered first has been received all the same.
 */
export function socketClosed(socket: Socket): Promise<void> {
  socket.on('error', () => {});
  return new Promise((resolve) => socket.once('close', () => resolve()));
}
