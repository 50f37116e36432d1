/**
 * Creates a listening Unix socket for another process, which gets the open descriptor. So the process needs no
 * directory of its own, and it cannot replace the socket at its path.
 */
import { once } from 'node:events';
import { rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';

/** A listening socket. */
export interface ListeningSocket {
  readonly descriptor: number;
  /** Closes the descriptor in this process. A process with a copy of the descriptor still listens. */
  close(): Promise<void>;
}

/** Node has no public property for the descriptor of a server. */
interface WithHandle {
  readonly _handle?: { readonly fd?: number } | null;
}

/**
 * Creates a socket that listens at the path.
 * @throws Error if this version of Node hides the descriptor, or if the path cannot be created
 */
export async function listenAt(path: string): Promise<ListeningSocket> {
  const server = createServer((connection) => connection.destroy());
  const temporary = `${path}.new`;
  await rm(temporary, { force: true });
  server.listen({ path: temporary, backlog: 16 });
  await once(server, 'listening');
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  const descriptor = (server as unknown as WithHandle)._handle?.fd;
  try {
    if (descriptor === undefined || descriptor < 0)
      throw new Error('this version of Node hides descriptors of sockets');
    // A closing server removes the path that it has bound. The new name stays.
    await rename(temporary, path);
    return { descriptor, close };
  } catch (error) {
    await close();
    throw error;
  }
}
