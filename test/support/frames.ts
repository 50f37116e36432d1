/**
 * Ethernet frames, and a machine on the network that sends and receives them without its kernel's protocols. Only the fields
 * that filters check are right. Checksums are wrong, except in frames from `summed`.
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
  /** The length in the header, if it is wrong on purpose. */
  readonly version?: number;
  readonly length?: number;
}

export function ipv6({ source, destination, next, payload, version = 6, length = payload.length }: Ipv6Packet): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(version << 4, 0);
  header.writeUInt16BE(length, 4);
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

/** Hop-by-hop or destination options (RFC 8200, 4.3 and 4.6): padding only, `words` of 8 bytes. */
export function options(next: number, payload: Buffer, words = 1): Buffer {
  const header = Buffer.alloc(8 * words);
  header.writeUInt8(next, 0);
  header.writeUInt8(words - 1, 1);
  header.writeUInt8(1, 2);
  header.writeUInt8(8 * words - 4, 3);
  return Buffer.concat([header, payload]);
}

/** Routing header of a type, with one address. */
export function routing(next: number, type: number, by: string, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from([next, 2, type, 1, 0, 0, 0, 0]), packed(by), payload]);
}

/** Authentication header (RFC 4302) with a check value of 12 bytes. */
export const authentication = (next: number, payload: Buffer): Buffer =>
  Buffer.concat([Buffer.from([next, 4, 0, 0]), Buffer.alloc(20), payload]);

/** The frame with a tag before its type: 0x8100 (802.1Q) or 0x88a8 (802.1ad). */
export function tagged(frame: Buffer, type: number, vlan: number): Buffer {
  const tag = Buffer.alloc(4);
  tag.writeUInt16BE(type, 0);
  tag.writeUInt16BE(vlan, 2);
  return Buffer.concat([frame.subarray(0, 12), tag, frame.subarray(12)]);
}

/** IPv4 with UDP. */
export function ipv4(source: string, destination: string, payload: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt8(64, 8);
  header.writeUInt8(17, 9);
  for (const [offset, address] of [
    [12, source],
    [16, destination],
  ] as const)
    Buffer.from(address.split('.').map(Number)).copy(header, offset);
  header.writeUInt16BE(complement(header), 10);
  return Buffer.concat([header, payload]);
}

/** ARP: who has `destination`? */
export const arp = (source: string, sender: string, destination: string): Buffer =>
  Buffer.concat([
    bytes('0001080006040001'),
    mac(source),
    Buffer.from(sender.split('.').map(Number)),
    Buffer.alloc(6),
    Buffer.from(destination.split('.').map(Number)),
  ]);

/** The checksum of the Internet (RFC 1071). */
function complement(...parts: readonly Buffer[]): number {
  const all = Buffer.concat(parts);
  let sum = 0;
  for (let i = 0; i < all.length; i += 2) sum += (all[i] ?? 0) * 256 + (all[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return 0xffff - sum;
}

/** An IPv6 frame without extension headers whose checksum of UDP, TCP or ICMPv6 is made right, so that stacks take it. */
export function summed(frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  const next = copy[20] ?? 0;
  const offset = 54 + ({ 6: 16, 17: 6 }[next] ?? 2);
  copy.writeUInt16BE(0, offset);
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(copy.length - 54, 0);
  pseudo.writeUInt8(next, 7);
  copy.writeUInt16BE(complement(copy.subarray(22, 54), pseudo, copy.subarray(54)), offset);
  return copy;
}

/**
 * The frame such that the checksum of all bytes from `start` on is `value`, by its last two bytes; the header of virtio that
 * asks to write it there; and what becomes of the frame if that is done.
 */
export function unfinished(
  frame: Buffer,
  start: number,
  value: number,
): { header: Buffer; sent: Buffer; made: Buffer } {
  const sent = Buffer.from(frame);
  sent.writeUInt16BE(0, sent.length - 2);
  const before = complement(sent.subarray(start));
  sent.writeUInt16BE((before + 0xffff - value) % 0xffff, sent.length - 2);
  const made = Buffer.from(sent);
  made.writeUInt16BE(value, start);
  const header = Buffer.alloc(10);
  // VIRTIO_NET_HDR_F_NEEDS_CSUM, csum_start; csum_offset is 0.
  header.writeUInt8(1, 0);
  header.writeUInt16LE(start, 6);
  return { header, sent, made };
}

/** Fragment header (RFC 8200, 4.5) before the payload; offset in units of 8 bytes. */
export function fragment(next: number, offset: number, more: boolean, payload: Buffer, id = 0x1234): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(next, 0);
  header.writeUInt16BE((offset << 3) | Number(more), 2);
  header.writeUInt32BE(id, 4);
  return Buffer.concat([header, payload]);
}

const station = `
import socket, sys, threading
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
def hear():
    while True:
        frame, origin = s.recvfrom(65536)
        if origin[2] != 4: print(frame.hex(), flush=True)
threading.Thread(target=hear, daemon=True).start()
print('ready', flush=True)
for line in sys.stdin: s.send(bytes.fromhex(line.strip()))
`;

/** A raw socket on a device of the namespace. */
export class Station {
  readonly heard: string[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async open(namespace: NetNamespace, device = 'eth0'): Promise<Station> {
    const child = namespace.spawn('/usr/bin/env', ['python3', '-c', station, device], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
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
