/**
 * Ethernet frames made by hand, and a machine on the network that sends and hears them past its own kernel. Only what
 * filters look at is right in them: checksums are not.
 */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { NetNamespace } from './net-namespace.ts';

const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const mac = (address: string): Buffer => bytes(address.replaceAll(':', ''));

/** The 16 bytes of an IPv6 address. */
export function packed(address: string): Buffer {
  const [head = '', tail] = address.split('::');
  const groups = (text: string) => (text ? text.split(':') : []);
  const left = groups(head);
  const right = groups(tail ?? '');
  const zeros = Array(8 - left.length - right.length).fill('0');
  return bytes([...left, ...zeros, ...right].map((group: string) => group.padStart(4, '0')).join(''));
}

export interface Ipv6Packet {
  readonly source: string;
  readonly destination: string;
  /** Next header, and what follows the IPv6 header. */
  readonly next: number;
  readonly payload: Buffer;
}

export function ipv6({ source, destination, next, payload }: Ipv6Packet): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32BE(0x60000000, 0);
  header.writeUInt16BE(payload.length, 4);
  header.writeUInt8(next, 6);
  header.writeUInt8(255, 7);
  return Buffer.concat([header, packed(source), packed(destination), payload]);
}

export const ethernet = (source: string, destination: string, type: number, payload: Buffer): Buffer => {
  const etherType = Buffer.alloc(2);
  etherType.writeUInt16BE(type);
  return Buffer.concat([mac(destination), mac(source), etherType, payload]);
};

/** ICMPv6: type, and the body after the checksum. */
export const icmp = (type: number, body: Buffer = Buffer.alloc(4)): Buffer =>
  Buffer.concat([Buffer.from([type, 0, 0, 0]), body]);

/** Body of a neighbour solicitation, advertisement or redirect. */
export const target = (address: string): Buffer => Buffer.concat([Buffer.alloc(4), packed(address)]);

export function udp(from: number, to: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(from, 0);
  header.writeUInt16BE(to, 2);
  header.writeUInt16BE(8, 4);
  return header;
}

export function tcp(from: number, to: number): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(from, 0);
  header.writeUInt16BE(to, 2);
  // Data offset of five words; SYN.
  header.writeUInt16BE(0x5002, 12);
  return header;
}

/** Fragment header (RFC 8200, 4.5) before the payload; offset in units of 8 bytes. */
export function fragment(next: number, offset: number, more: boolean, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(next, 0);
  header.writeUInt16BE((offset << 3) | Number(more), 2);
  header.writeUInt32BE(0x1234, 4);
  return Buffer.concat([header, payload]);
}

const station = `
import socket, sys, threading
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(('eth0', 0))
def hear():
    while True:
        frame, origin = s.recvfrom(65536)
        if origin[2] != 4: print(frame.hex(), flush=True)
threading.Thread(target=hear, daemon=True).start()
print('ready', flush=True)
for line in sys.stdin: s.send(bytes.fromhex(line.strip()))
`;

/** A raw socket on the namespace's eth0. */
export class Station {
  readonly heard: string[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async open(namespace: NetNamespace): Promise<Station> {
    const child = namespace.spawn('/usr/bin/env', ['python3', '-c', station], { stdio: ['pipe', 'pipe', 'inherit'] });
    const opened = new Station(child);
    if (!child.stdout) throw new Error('no output');
    const lines = createInterface({ input: child.stdout });
    await new Promise<void>((resolve) => {
      lines.on('line', (line) => (line === 'ready' ? resolve() : opened.heard.push(line)));
    });
    return opened;
  }

  send(frame: Buffer): void {
    this.#child.stdin?.write(`${frame.toString('hex')}\n`);
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}
