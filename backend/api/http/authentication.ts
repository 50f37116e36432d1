/** Who asks: the bearer token of every request to an operation, checked anew each time. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { UcloudError } from '../../contract/errors.ts';
import { roles } from '../../contract/resources/tokens.ts';
import { sourceNetwork } from '../../model/network/addresses.ts';
import * as records from '../../model/records/index.ts';
import { read } from '../../store/collection.ts';
import type { ApiContext, Caller } from '../requests/context.ts';
import { isSecret, parseSecret } from '../tokens/secret.ts';

/** Requests without a valid token from one network address (a /64) in a minute, before they are turned away. */
export const defaultFailuresPerMinute = 120;

/** The token of the request: of the scheme Bearer, or where the endpoint allows it the password of Basic (RFC 7617). */
function tokenIn(request: FastifyRequest): string | undefined {
  const { authorization = '' } = request.headers;
  const bearer = /^bearer +(\S+)$/i.exec(authorization)?.[1];
  if (bearer !== undefined || !request.routeOptions.config.endpoint?.basic) return bearer;
  const basic = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(authorization)?.[1];
  return basic && /^[^:]*:(\S+)$/.exec(Buffer.from(basic, 'base64').toString())?.[1];
}

async function identify(
  api: ApiContext,
  request: FastifyRequest,
  mayAskStore: () => Promise<boolean>,
): Promise<Caller | undefined> {
  const text = tokenIn(request);
  const parsed = text === undefined ? undefined : parseSecret(text);
  if (text === undefined || !parsed) return undefined;
  // A token that another server made a moment ago may not have come here yet.
  const stored =
    api.mirror.get(records.tokens, parsed.id) ??
    ((await mayAskStore()) ? await read(api.store, records.tokens, parsed.id) : undefined);
  if (!stored || !isSecret(parsed.secret, stored.value.hash)) return undefined;
  const { id, role, project, expires_at } = stored.value;
  if (expires_at !== undefined && Date.parse(expires_at) <= Date.now()) return undefined;
  return {
    token: id,
    role,
    ...(project === undefined ? {} : { project }),
    secret: text,
    source: request.ip,
    since: stored.revision,
  };
}

/** Before the body is read: refuses who has no valid token (401, or 429 if too often), or too low a role (403). */
export function authenticate(app: FastifyInstance, api: ApiContext, failuresPerMinute: number): void {
  const countFailure = app.createRateLimit({
    max: failuresPerMinute,
    timeWindow: 60_000,
    keyGenerator: ({ ip }) => sourceNetwork(ip),
  });

  app.decorateRequest('caller', null);
  app.addHook('onRequest', async (request, reply) => {
    const { endpoint } = request.routeOptions.config;
    if (!endpoint || endpoint.access === 'public') return;
    // Whoever guesses tokens must not reach the database with each guess.
    const caller = await identify(api, request, async () => {
      const failures = await countFailure(request, { increment: false });
      return failures.isAllowed || failures.remaining > 0;
    });
    if (!caller) {
      const failures = await countFailure(request);
      if (!failures.isAllowed && failures.isExceeded) {
        reply.header('retry-after', failures.ttlInSeconds);
        throw new UcloudError('rate_limited', 'too many requests without a valid token from this address');
      }
      reply.header('www-authenticate', endpoint.basic ? 'Bearer, Basic realm="ucloud"' : 'Bearer');
      throw new UcloudError('unauthenticated', 'the Authorization header must carry a valid token');
    }
    request.caller = caller;
  });
  // After the count of the project's requests: those that are refused count, too.
  app.addHook('preParsing', async ({ caller, routeOptions }) => {
    const { endpoint } = routeOptions.config;
    if (!caller || !endpoint || endpoint.access === 'public') return;
    if (roles.indexOf(caller.role) < roles.indexOf(endpoint.access)) {
      throw new UcloudError('forbidden', `${endpoint.id} needs a token of role ${endpoint.access}, not ${caller.role}`);
    }
  });
}
