/** Requests with a signature in place of a token: the events of payment sources. */
import { randomBytes } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { isSigned } from '../../model/billing/webhook-signature.ts';
import { isIdOf } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import type { ApiContext, Caller } from '../requests/context.ts';

/** The key for unknown sources, so that an answer for them takes as long as for known ones. */
const nobodysKey = randomBytes(32);

const text = (header: string | string[] | undefined): string => (typeof header === 'string' ? header : '');

/**
 * Returns the caller of a request with a valid signature; undefined otherwise. It acts with the right of the operator who
 * created the source, for this operation only. An unknown source looks like a wrong signature.
 */
export function signer({ mirror }: ApiContext, request: FastifyRequest): Caller | undefined {
  const { id } = request.params as { readonly id?: string };
  const source = id !== undefined && isIdOf('payment_source', id) ? mirror.get(records.paymentSources, id) : undefined;
  const { headers, body } = request;
  const message = {
    id: text(headers['webhook-id']),
    timestamp: text(headers['webhook-timestamp']),
    signatures: text(headers['webhook-signature']),
    body: Buffer.isBuffer(body) ? body : Buffer.alloc(0),
  };
  const key = source ? Buffer.from(source.value.key, 'base64') : nobodysKey;
  if (!isSigned(key, message, Date.now()) || !source) return undefined;
  const { created_by: token } = source.value;
  return { token, role: 'operator', secret: '', source: request.ip, since: source.revision };
}
