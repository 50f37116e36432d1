/**
 * A QMP server under the control of a guest: a table of attacks, each of which begins when a client connects.
 * `hostile-qemu.ts` is a process with the same attacks.
 */
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';

export type Attack = (socket: Socket) => void;

const greeting = '{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}\n';

/** The answers of QEMU to the commands of the agent. */
const results: Readonly<Record<string, unknown>> = {
  'query-status': { status: 'running', running: true, singlestep: false },
  'query-named-block-nodes': [{ 'node-name': 'disk', image: { 'virtual-size': 2 ** 40 } }],
};

/** Writes while the other side reads. */
function endless(socket: Socket, piece: string | Buffer): void {
  const more = () => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on('drain', more);
  more();
}

type Answer = (command: string, id: number, socket: Socket) => string | undefined;
const right: Answer = (command, id) => JSON.stringify({ return: results[command] ?? {}, id });

/** Sends the greeting, and answers each command. */
const answering =
  (answer: Answer): Attack =>
  (socket) => {
    socket.write(greeting);
    const lines = createInterface({ input: socket });
    lines.on('error', () => undefined);
    lines.on('line', (line) => {
      const { execute, id } = JSON.parse(line) as { execute: string; id: number };
      const text = answer(execute, id, socket);
      if (text !== undefined && !socket.destroyed) socket.write(`${text}\n`);
    });
  };

export const honest: Attack = answering(right);

/** Answers the question for the state with these texts, and all other commands honestly. */
const saying = (...lines: readonly (string | Buffer)[]): Attack =>
  answering((command, id, socket) => {
    if (command !== 'query-status') return right(command, id, socket);
    for (const line of lines) socket.write(Buffer.concat([Buffer.from(line), Buffer.from('\n')]));
    return undefined;
  });

const resulting = (value: unknown): Attack =>
  answering((command, id, socket) =>
    command === 'qmp_capabilities' ? right(command, id, socket) : JSON.stringify({ return: value, id }),
  );

const flooding = (piece: string | Buffer): Attack =>
  answering((command, id, socket) => {
    if (command !== 'query-status') return right(command, id, socket);
    endless(socket, piece);
    return undefined;
  });

const event = '{"event": "BLOCK_IO_ERROR", "data": {"operation": "write", "reason": "none"}, "timestamp": {}}\n';

/** The attacks that the agent must end by itself: the VM counts as one that does not answer. */
export const attacks: Readonly<Record<string, Attack>> = {
  'says nothing': () => undefined,
  'closes at once': (socket) => socket.destroy(),
  'greets with null': (socket) => void socket.write('null\n'),
  'greets with a number': (socket) => void socket.write('{"QMP": 7}\n'),
  'greets twice': (socket) => void socket.write(greeting + greeting),
  'greets and closes': (socket) => void socket.end(greeting),
  'greets and answers nothing': (socket) => void socket.write(greeting),
  'greets and never reads': (socket) => {
    socket.pause();
    socket.write(greeting);
  },
  'a greeting without end': (socket) => endless(socket, Buffer.alloc(65536, 0x20)),
  'a line null': saying('null'),
  'a line that is an array': saying('[]'),
  'a line that is a number': saying('1e999'),
  'a line that is a text': saying('"QMP"'),
  'an empty line': saying(''),
  'an empty object': saying('{}'),
  'a line that is not JSON': saying('{"return": '),
  'invalid UTF-8': saying(Buffer.from('7b226964223a322c2272657475726e223a22ff227d', 'hex')),
  'deep nesting': saying('['.repeat(900_000)),
  'deep nesting in an answer': saying(`{"id": 2, "return": ${'['.repeat(400_000)}${']'.repeat(400_000)}}`),
  'an id that is a text': saying('{"id": "2", "return": {"status": "running"}}'),
  'an id that is the name of a prototype': saying('{"id": "__proto__", "return": {}}'),
  'names of prototypes': saying('{"__proto__": {"id": 2, "return": {"status": "running"}}, "constructor": 1}'),
  'an event that is a number': saying('{"event": 7}'),
  'an event whose data is null': saying('{"event": "SHUTDOWN", "data": null}', 'null'),
  'an event whose data is an array': saying('{"event": "SHUTDOWN", "data": [1]}'),
  'an error that is null': saying('{"id": 2, "error": null}'),
  'an error of numbers': saying('{"id": 2, "error": {"class": 1, "desc": {"toString": null}}}'),
  'a late greeting': saying(greeting.trim()),
  'answers to other questions': saying(
    '{"id": 99, "return": {}}',
    '{"id": -1, "return": {}}',
    '{"id": 0.5, "return": 1}',
  ),
  'null as result': resulting(null),
  'an array as result': resulting([null, 7, 'x', []]),
  'a state that is an object': resulting({ status: { toString: 1 } }),
  'a line without end': flooding(Buffer.alloc(65536, 0x5b)),
  'empty objects without end': flooding('{}\n'.repeat(20_000)),
  'events by the million': flooding(event.repeat(500)),
  'answers by the million': flooding('{"id": 99, "return": {}}\n'.repeat(2_000)),
  'one byte at a time': flooding(' '),
};
