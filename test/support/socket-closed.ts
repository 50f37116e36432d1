import type { Socket } from 'node:net';

/**
 * Resolves when the connection has ended, also by a reset. `once` of node:events would reject after a reset. A server resets a
 * connection that it ends before it has read all data, and the client still receives the answer.
 */
export function socketClosed(socket: Socket): Promise<void> {
  socket.on('error', () => {});
  return new Promise((resolve) => socket.once('close', () => resolve()));
}
