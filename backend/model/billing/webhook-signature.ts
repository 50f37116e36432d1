/**
 * Signatures of webhooks, as in the Standard Webhooks specification: `v1,` and the HMAC-SHA256 of `<id>.<timestamp>.<body>` in
 * base 64. The body counts as bytes, so no other bytes have the same signature. Pure.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

/** The longest time between the clocks of sender and receiver, with the way, in seconds. */
export const toleranceSeconds = 300;

/** The beginning of a secret in its text form. Its key follows in base 64. */
export const secretPrefix = 'whsec_';

/** The signed parts of a message. */
export interface SignedMessage {
  readonly id: string;
  /** Seconds since 1970, as the header has them. */
  readonly timestamp: string;
  readonly body: Uint8Array;
  /** Signatures, separated by spaces. A sender that changes its secret sends two. */
  readonly signatures: string;
}

/** Returns the signature of a message. */
export const signatureOf = (key: Uint8Array, { id, timestamp, body }: Omit<SignedMessage, 'signatures'>): string =>
  createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64');

/** Tells whether the message has a valid signature and is fresh. The comparison takes the same time for all signatures. */
export function isSigned(key: Uint8Array, message: SignedMessage, nowMs: number): boolean {
  const expected = Buffer.from(signatureOf(key, message));
  let found = false;
  for (const each of message.signatures.split(' ')) {
    const given = Buffer.from(each.startsWith('v1,') ? each.slice(3) : '');
    if (given.length === expected.length && timingSafeEqual(given, expected)) found = true;
  }
  const { timestamp } = message;
  const isFresh =
    /^[0-9]{1,12}$/.test(timestamp) && Math.abs(Math.floor(nowMs / 1000) - Number(timestamp)) <= toleranceSeconds;
  return found && isFresh;
}
