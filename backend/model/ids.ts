/**
 * Creation of ids. Random ids contain 80 random bits. Time-ordered ids (events, audit) start with a timestamp of 48
 * bits in milliseconds.
 */
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

/** Returns a new random id. */
export const newId = <N extends Noun>(noun: N): Id<N> => `${idPrefixes[noun]}-${base32(randomBytes(10))}` as Id<N>;

/** The last time-ordered id of this process: its timestamp and its random part. */
let last = { milliseconds: -1, tail: 0 };

/**
 * Returns an id that sorts by its time of creation. Ids of one process and one millisecond sort by their order of
 * creation.
 */
export function newTimeOrderedId<N extends Noun>(noun: N, now: Date): Id<N> {
  const milliseconds = now.getTime();
  // 31 random bits, so that the counter does not overflow 32 bits.
  const tail = last.milliseconds === milliseconds ? last.tail + 1 : randomBytes(4).readUInt32BE() >>> 1;
  last = { milliseconds, tail };
  const bytes = Buffer.alloc(10);
  bytes.writeUIntBE(milliseconds, 0, 6);
  bytes.writeUInt32BE(tail, 6);
  return `${idPrefixes[noun]}-${base32(bytes)}` as Id<N>;
}

/**
 * Returns a text of the database as the id that it is, such as the key of a report.
 * @throws Error for the id of another kind of object
 */
export function idFrom<N extends Noun>(noun: N, text: string): Id<N> {
  if (!text.startsWith(`${idPrefixes[noun]}-`)) throw new Error(`"${text}" is not the id of a ${noun}`);
  return text as Id<N>;
}
