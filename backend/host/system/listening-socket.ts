/**
 * A Unix socket that listens, made for a process that is started with its descriptor: the process then needs no
 * directory of its own, and nobody but the maker of the socket decides what its path leads to.
 */
import { once } from 'node:events';
import { rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';

export interface ListeningSocket {
  readonly descriptor: number;
  /** Ends its use here. The process that has the descriptor goes on to listen. */
  close(): Promise<void>;
}

/** Node has no public way to the descriptor of a server. */
interface WithHandle {
  readonly _handle?: { readonly fd?: number } | null;
}

export async function listenAt(path: string): Promise<ListeningSocket> {
  const server = createServer((connection) => connection.destroy());
  const bound = `${path}.new`;
  await rm(bound, { force: true });
  server.listen({ path: bound, backlog: 16 });
  await once(server, 'listening');
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  const descriptor = (server as unknown as WithHandle)._handle?.fd;
  try {
    if (descriptor === undefined || descriptor < 0)
      throw new Error('this version of Node hides descriptors of sockets');
    // A server removes the path that it has bound when it closes. The socket is to be found for longer.
    await rename(bound, path);
    return { descriptor, close };
  } catch (error) {
    await close();
    throw error;
  }
}
