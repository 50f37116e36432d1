/** A guest agent that answers as a test says. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import { temporaryDirectory } from './stores.ts';

/** Answers a command of the host; undefined for no answer. */
export type Answer = (command: string, args: Readonly<Record<string, unknown>>, socket: Socket) => unknown;

/** The port of a guest agent, with everything that the host has sent. */
export interface Port {
  readonly path: string;
  readonly sockets: Set<Socket>;
  readonly commands: string[];
}

/** Serves a port. The guest first answers the synchronization, then as `answer` says; undefined for no answer. */
export async function port(t: Test, answer: Answer, greet: (socket: Socket) => void = () => undefined): Promise<Port> {
  const path = join(temporaryDirectory(t), 'agent');
  const sockets = new Set<Socket>();
  const commands: string[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    greet(socket);
    let held = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      held = Buffer.concat([held, chunk]);
      for (let end = held.indexOf(0x0a); end >= 0; end = held.indexOf(0x0a)) {
        const line = held.subarray(held.lastIndexOf(0xff, end) + 1, end);
        held = held.subarray(end + 1);
        const { execute, arguments: args } = JSON.parse(line.toString());
        commands.push(execute);
        const result = answer(execute, args, socket);
        if (result === undefined) continue;
        if (execute === 'guest-sync-delimited') socket.write(Buffer.of(0xff));
        socket.write(`${JSON.stringify(result)}\n`);
      }
    });
  });
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { path, sockets, commands };
}

/** Answers the synchronization rightly, and everything else as `other` says. */
export const synchronizing =
  (other: Answer): Answer =>
  (command, args, socket) =>
    command === 'guest-sync-delimited' ? { return: args.id } : other(command, args, socket);

/** Writes the piece as long as the peer reads. */
export function endless(socket: Socket, piece: Buffer | string): void {
  const more = () => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on('drain', more);
  more();
}
