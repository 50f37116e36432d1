/** Authentication: checks the bearer token of every request to an operation. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Access, Endpoint } from '../../contract/endpoint.ts';
import { UcloudError } from '../../contract/errors.ts';
import type { Role } from '../../contract/resources/tokens.ts';
import { sourceNetwork } from '../../model/network/addresses.ts';
import * as records from '../../model/records/index.ts';
import { read } from '../../store/collection.ts';
import type { ApiContext, Caller } from '../requests/context.ts';
import { isSecret, parseSecret } from '../tokens/secret.ts';
import { signer } from './signatures.ts';

/** The requests without a valid token per minute from one network (a /64), until the API refuses them. */
export const defaultFailuresPerMinute = 120;

/**
 * Returns the token of the request: of the scheme Bearer, or the password of Basic (RFC 7617) if the endpoint allows
 * it.
 */
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
  // Another server may just have created the token, so the mirror may lack it.
  const stored =
    api.mirror.get(records.tokens, parsed.id) ??
    ((await mayAskStore()) ? await read(api.store, records.tokens, parsed.id) : undefined);
  if (!stored || !isSecret(parsed.secret, stored.value.hash)) return undefined;
  const { id, role, project, billing_account, expires_at } = stored.value;
  if (expires_at !== undefined && Date.parse(expires_at) <= Date.now()) return undefined;
  return {
    token: id,
    role,
    ...(project === undefined ? {} : { project }),
    ...(billing_account === undefined ? {} : { billing_account }),
    secret: text,
    source: request.ip,
    since: stored.revision,
  };
}

/** The rank of the roles that apply to projects and to the cloud. */
const ranks: Readonly<Record<Exclude<Role, 'billing'> | Access, number>> = {
  public: 0,
  signed: 0,
  viewer: 1,
  member: 2,
  operator: 3,
};

/** Tells whether tokens of a role may call an operation. */
const mayCall = (role: Role, { access, billing = false }: Endpoint): boolean =>
  role === 'billing' ? billing : ranks[role] >= ranks[access];

/**
 * Refuses a request before its body is read: without a valid token (401), too often (429), or with too low a role
 * (403).
 */
export function authenticate(app: FastifyInstance, api: ApiContext, failuresPerMinute: number): void {
  /** Counts a failure. @throws UcloudError `rate_limited` after too many */
  const refuseMany = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const failures = await countFailure(request);
    if (failures.isAllowed || !failures.isExceeded) return;
    reply.header('retry-after', failures.ttlInSeconds);
    throw new UcloudError('rate_limited', 'too many requests without a valid token or signature from this address');
  };
  const countFailure = app.createRateLimit({
    max: failuresPerMinute,
    timeWindow: 60_000,
    keyGenerator: ({ ip }) => sourceNetwork(ip),
  });

  app.decorateRequest('caller', null);
  app.addHook('onRequest', async (request, reply) => {
    const { endpoint } = request.routeOptions.config;
    // The signature covers the body. A right one passes, however many wrong ones come from the same network.
    if (!endpoint || endpoint.access === 'public' || endpoint.access === 'signed') return;
    // A client that guesses tokens must not cause a read of the database with each guess.
    const caller = await identify(api, request, async () => {
      const failures = await countFailure(request, { increment: false });
      return failures.isAllowed || failures.remaining > 0;
    });
    if (!caller) {
      await refuseMany(request, reply);
      reply.header('www-authenticate', endpoint.basic ? 'Bearer, Basic realm="ucloud"' : 'Bearer');
      throw new UcloudError('unauthenticated', 'the Authorization header must carry a valid token');
    }
    request.caller = caller;
  });
  // The rate limit has counted the request before, so refused requests count too.
  app.addHook('preParsing', async ({ caller, routeOptions }) => {
    const { endpoint } = routeOptions.config;
    if (!caller || !endpoint || endpoint.access === 'public' || endpoint.access === 'signed') return;
    if (!mayCall(caller.role, endpoint)) {
      throw new UcloudError('forbidden', `${endpoint.id} needs a token of role ${endpoint.access}, not ${caller.role}`);
    }
  });
  app.addHook('preValidation', async (request, reply) => {
    if (request.routeOptions.config.endpoint?.access !== 'signed') return;
    const caller = signer(api, request);
    if (!caller) {
      await refuseMany(request, reply);
      throw new UcloudError('unauthenticated', 'the request must carry a valid and fresh signature of a known source');
    }
    request.caller = caller;
  });
}
