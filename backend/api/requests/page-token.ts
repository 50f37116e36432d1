/**
 * Page tokens. A token contains the last id of a page, in an encoding that discourages clients from building their own.
 */
import { fieldError } from './validation.ts';

/** Returns the token of the page after this id. */
export const encodePageToken = (last: string): string => Buffer.from(`1:${last}`).toString('base64url');

/** Returns the id before the page. @throws UcloudError `invalid_input` */
export function decodePageToken(token: string): string {
  const match = /^1:([a-z]{2,4}-[0-9a-z]{16})$/.exec(Buffer.from(token, 'base64url').toString('latin1'));
  if (!match?.[1] || encodePageToken(match[1]) !== token) {
    throw fieldError('invalid_input', '#query/page_token', 'must be the `next_page_token` of an earlier answer');
  }
  return match[1];
}
