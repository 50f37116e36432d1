/**
 * The rate limit of each project, which the headers of every response show. All tokens of a project share one limit,
 * because tokens are easy to create; an operator's token has its own. Clients without a token are identified by network
 * address.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance } from 'fastify';
import { UcloudError } from '../../contract/errors.ts';
import { ownerOf } from './source.ts';

/** The default limit of requests per minute. */
export const defaultRequestsPerMinute = 6000;

/** The maximum number of counters. The counters that were unused for the longest time are dropped first. */
const maxCounters = 50_000;

/** Adds the rate limit and its headers to all routes. */
export async function limitRates(app: FastifyInstance, requestsPerMinute: number): Promise<void> {
  // Public routes have separate counters, so clients without a token cannot displace the counters of projects.
  app.addHook('onRoute', (route) => {
    if (!route.config?.endpoint) route.config = { ...route.config, rateLimit: {} };
  });
  await app.register(rateLimit, {
    max: requestsPerMinute,
    timeWindow: 60_000,
    enableDraftSpec: true,
    cache: maxCounters,
    // The hook of a route runs after the hook of the server, which determines the caller.
    hook: 'onRequest',
    keyGenerator: ownerOf,
    errorResponseBuilder: (_request, { max, after }) =>
      new UcloudError('rate_limited', `${max} requests a minute are allowed; wait ${after}`),
  });
}
