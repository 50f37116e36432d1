/** Making ids. Random ones carry 80 bits; time-ordered ones (events, audit) start with 48 bits of milliseconds. */
import { randomBytes } from 'node:crypto';
import { type Id, idPrefixes, type Noun } from '../contract/fields.ts';

/** Crockford's base 32, lower case: no i, l, o, u. */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

function base32(bytes: Uint8Array): string {
  let bits = 0n;
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte);
  let text = '';
  for (let i = 0; i < (bytes.length * 8) / 5; i++) {
    text = alphabet[Number(bits & 31n)] + text;
    bits >>= 5n;
  }
  return text;
}

export const newId = <N extends Noun>(noun: N): Id<N> => `${idPrefixes[noun]}-${base32(randomBytes(10))}` as Id<N>;

/** The last time-ordered id of this process: its millisecond, and its random part. */
let last = { milliseconds: -1, tail: 0 };

/** Ids that sort by the time of their making; those that one process makes within a millisecond, by their order. */
export function newTimeOrderedId<N extends Noun>(noun: N, now: Date): Id<N> {
  const milliseconds = now.getTime();
  // 31 random bits leave room to count up.
  const tail = last.milliseconds === milliseconds ? last.tail + 1 : randomBytes(4).readUInt32BE() >>> 1;
  last = { milliseconds, tail };
  const bytes = Buffer.alloc(10);
  bytes.writeUIntBE(milliseconds, 0, 6);
  bytes.writeUInt32BE(tail, 6);
  return `${idPrefixes[noun]}-${base32(bytes)}` as Id<N>;
}
