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

/** Ids that sort by the time of their making. */
export function newTimeOrderedId<N extends Noun>(noun: N, now: Date): Id<N> {
  const bytes = new Uint8Array(randomBytes(10));
  const milliseconds = BigInt(now.getTime());
  for (let i = 0; i < 6; i++) bytes[i] = Number((milliseconds >> BigInt(40 - 8 * i)) & 255n);
  return `${idPrefixes[noun]}-${base32(bytes)}` as Id<N>;
}
