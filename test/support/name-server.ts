/** A name server on this machine, for tests (RFC 1035, section 4; RFC 3596). */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { Test } from 'tap';
import { packed } from './frames.ts';

const A = 1;
const AAAA = 28;

export interface NameServer {
  /** `[::1]:<port>` */
  readonly address: string;
  /** The names of the queries so far, in their order. */
  readonly asked: string[];
}

/** Returns the addresses of a name; an empty list for a name that does not exist; undefined for no answer. */
export type Answers = (name: string) => readonly string[] | undefined;

function nameIn(query: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: at + 1 };
}

/** Starts a name server, which ends with the test. */
export async function nameServer(t: Test, answers: Answers): Promise<NameServer> {
  const socket = createSocket('udp6');
  t.teardown(() => socket.close());
  const asked: string[] = [];
  socket.on('message', (query, from) => {
    const { name, end } = nameIn(query);
    asked.push(name);
    const addresses = answers(name);
    if (addresses === undefined) return;
    const type = query.readUInt16BE(end);
    const data = addresses.flatMap((address) => {
      const family = address.includes(':') ? AAAA : A;
      if (family !== type) return [];
      return [family === AAAA ? packed(address) : Buffer.from(address.split('.').map(Number))];
    });
    const header = Buffer.from(query.subarray(0, 12));
    // A response with recursion available; the name exists, or does not (3).
    header.writeUInt16BE(0x8180 | (addresses.length === 0 ? 3 : 0), 2);
    header.writeUInt16BE(data.length, 6);
    header.fill(0, 8);
    const records = data.map((each) => {
      const record = Buffer.alloc(12);
      // A pointer to the name of the question; class IN; no time to live, so that nothing keeps the answer.
      record.writeUInt16BE(0xc00c, 0);
      record.writeUInt16BE(type, 2);
      record.writeUInt16BE(1, 4);
      record.writeUInt16BE(each.length, 10);
      return Buffer.concat([record, each]);
    });
    socket.send(Buffer.concat([header, query.subarray(12, end + 4), ...records]), from.port, from.address);
  });
  socket.bind(0, '::1');
  await once(socket, 'listening');
  return { address: `[::1]:${socket.address().port}`, asked };
}
