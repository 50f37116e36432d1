/**
 * Bearer tokens: `ucloud_<16 characters of the id>_<64 hex digits>`. The id finds the record, and the 256 random bits
 * are the secret. Only their SHA-256 is stored: random secrets of this length need no slow hash.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { type Id, idPrefixes } from '../../contract/fields.ts';

const form = /^ucloud_([0-9a-hjkmnp-tv-z]{16})_([0-9a-f]{64})$/;

/** A new bearer token. */
export interface NewSecret {
  /** The token that the client sends. */
  readonly text: string;
  /** The hash that is stored. */
  readonly hash: string;
}

const hashOf = (secret: string): string => hash('sha256', secret, 'hex');

/** Returns a new bearer token of this record. */
export function newSecret(id: Id<'token'>): NewSecret {
  const secret = randomBytes(32).toString('hex');
  return { text: `ucloud_${id.slice(idPrefixes.token.length + 1)}_${secret}`, hash: hashOf(secret) };
}

/** Returns the id and the secret of a bearer token; undefined for another form. */
export function parseSecret(text: string): { id: Id<'token'>; secret: string } | undefined {
  const match = form.exec(text);
  return match?.[1] && match[2]
    ? { id: `${idPrefixes.token}-${match[1]}` as Id<'token'>, secret: match[2] }
    : undefined;
}

/** Tells whether the secret has the stored hash, in constant time. */
export const isSecret = (secret: string, stored: string): boolean =>
  timingSafeEqual(Buffer.from(hashOf(secret)), Buffer.from(stored));
