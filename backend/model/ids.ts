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

/** Tells whether a text begins as the ids of this noun do. */
export const isIdOf = <N extends Noun>(noun: N, text: string): text is Id<N> => text.startsWith(`${idPrefixes[noun]}-`);

/**
 * Returns the key of a record as an id. The kind of the record determines the noun, so nothing is checked: one malformed
 * key must not stop a process that reads all records. Use `isIdOf` for a text that may be the id of another noun.
 */
export const idFrom = <N extends Noun>(_noun: N, key: string): Id<N> => key as Id<N>;
