/** How many requests a token may make in a minute, told in the headers of every answer. */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance } from 'fastify';
import { UcloudError } from '../../contract/errors.ts';

export const defaultRequestsPerMinute = 6000;

export async function limitRates(app: FastifyInstance, requestsPerMinute: number): Promise<void> {
  await app.register(rateLimit, {
    max: requestsPerMinute,
    timeWindow: 60_000,
    enableDraftSpec: true,
    // After authentication (onRequest), which says whose request it is, and before the body is read.
    hook: 'preParsing',
    keyGenerator: (request) => request.caller?.token ?? request.ip,
    errorResponseBuilder: (_request, { max, after }) =>
      new UcloudError('rate_limited', `${max} requests a minute are allowed; wait ${after}`),
  });
}
