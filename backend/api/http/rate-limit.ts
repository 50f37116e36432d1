/**
 * How many requests a project may make in a minute, told in the headers of every answer. Tokens are cheap, so those of
 * one project count together; an operator's counts alone. Who has no token is told apart by network address.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance } from 'fastify';
import { UcloudError } from '../../contract/errors.ts';
import { ownerOf } from './source.ts';

export const defaultRequestsPerMinute = 6000;

/** Projects and operators' tokens that are counted at the same time; those that were quiet longest are forgotten. */
const maxCounters = 50_000;

export async function limitRates(app: FastifyInstance, requestsPerMinute: number): Promise<void> {
  // Public routes have counts of their own, so that no stranger can make the server forget those of projects.
  app.addHook('onRoute', (route) => {
    if (!route.config?.endpoint) route.config = { ...route.config, rateLimit: {} };
  });
  await app.register(rateLimit, {
    max: requestsPerMinute,
    timeWindow: 60_000,
    enableDraftSpec: true,
    cache: maxCounters,
    // A route's own hook runs after that of the server, which says whose request it is.
    hook: 'onRequest',
    keyGenerator: ownerOf,
    errorResponseBuilder: (_request, { max, after }) =>
      new UcloudError('rate_limited', `${max} requests a minute are allowed; wait ${after}`),
  });
}
