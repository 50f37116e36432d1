/**
 * Bearer tokens: `ucloud_<16 characters of the id>_<64 hex digits>`. The id finds the record, the 256 random bits are
 * the secret. Only their SHA-256 is stored: with so much chance in them no slow hash is needed.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { type Id, idPrefixes } from '../../contract/fields.ts';

const form = /^ucloud_([0-9a-hjkmnp-tv-z]{16})_([0-9a-f]{64})$/;

export interface NewSecret {
  /** What the client sends. */
  readonly text: string;
  /** What is stored. */
  readonly hash: string;
}

const hashOf = (secret: string): string => hash('sha256', secret, 'hex');

export function newSecret(id: Id<'token'>): NewSecret {
  const secret = randomBytes(32).toString('hex');
  return { text: `ucloud_${id.slice(idPrefixes.token.length + 1)}_${secret}`, hash: hashOf(secret) };
}

/** The id and the secret of a bearer token, or undefined if it cannot be one. */
export function parseSecret(text: string): { id: Id<'token'>; secret: string } | undefined {
  const match = form.exec(text);
  return match?.[1] && match[2]
    ? { id: `${idPrefixes.token}-${match[1]}` as Id<'token'>, secret: match[2] }
    : undefined;
}

/** In constant time. */
export const isSecret = (secret: string, stored: string): boolean =>
  timingSafeEqual(Buffer.from(hashOf(secret)), Buffer.from(stored));
