/** Turns every failure into problem details (RFC 9457). An internal error is logged here, once. */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type ErrorCode, errorTable, type FieldError, UcloudError } from '../../contract/errors.ts';
import { problemMediaType, problemType } from '../../contract/openapi.ts';
import type { RepeatLogger } from './repeat-logger.ts';

/** The body of an error response (RFC 9457). */
export interface ProblemDetails {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly errors?: readonly FieldError[];
  readonly request_id: string;
  /** Members of individual error codes. */
  readonly [member: string]: unknown;
}

/** Returns the problem details of an error. */
export function problemOf(error: UcloudError, requestId: string): ProblemDetails {
  const { title, status } = errorTable[error.code];
  return {
    type: problemType(error.code),
    title,
    status,
    detail: error.message,
    code: error.code,
    ...(error.errors.length > 0 ? { errors: error.errors } : {}),
    request_id: requestId,
    ...error.members,
  };
}

const wholeBody = (detail: string): { errors: FieldError[] } => ({ errors: [{ pointer: '', detail }] });

/** Returns the error for a request that Fastify or Node refuses; undefined for an internal error. */
function fromFramework(error: FastifyError): UcloudError | undefined {
  switch (error.code) {
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_ERR_CTP_INVALID_CONTENT_TYPE':
      return new UcloudError('unsupported_media_type', 'Content-Type must be application/json', {
        errors: [{ pointer: '#header/Content-Type', detail: 'must be application/json' }],
      });
    case 'FST_ERR_BAD_URL':
      return new UcloudError('invalid_input', 'the path is not well-formed', {
        errors: [{ pointer: '#path', detail: 'has a percent sign without two hex digits, or is not UTF-8' }],
      });
    // The client has closed the connection, so no response reaches it.
    case 'ECONNRESET':
      return new UcloudError('invalid_input', 'the body ended before it was complete', wholeBody('must be complete'));
    default:
      if ((error.statusCode ?? 500) >= 500) return undefined;
      return new UcloudError('invalid_input', `the body cannot be read: ${error.message}`, wholeBody(error.message));
  }
}

/** Sets the headers of an error response, and returns its body. */
export function problemText(reply: FastifyReply, error: UcloudError, requestId: string): string {
  if (error.retryAfter !== undefined) reply.header('retry-after', error.retryAfter);
  reply.code(error.status).type(problemMediaType);
  return JSON.stringify(problemOf(error, requestId));
}

/** Sends an error response. */
export const sendProblem = (reply: FastifyReply, error: UcloudError, requestId: string): FastifyReply =>
  reply.send(problemText(reply, error, requestId));

/** Returns the lookup of methods by path, which distinguishes 405 from 404. It includes routes that are added later. */
function methodsOf(app: FastifyInstance): (path: string) => readonly string[] {
  const paths = new Map<string, { readonly pattern: RegExp; readonly methods: string[] }>();
  app.addHook('onRoute', ({ url, method }) => {
    const pattern = new RegExp(`^${url.replaceAll('.', '\\.').replace(/:\w+/g, '[^/]+')}$`);
    const methods = paths.get(url)?.methods ?? [];
    paths.set(url, { pattern, methods });
    for (const one of typeof method === 'string' ? [method] : method) {
      // Fastify adds HEAD to each GET.
      if (one !== 'HEAD') methods.push(...(one === 'GET' ? ['GET', 'HEAD'] : [one]));
    }
  });
  return (path) => [...paths.values()].find(({ pattern }) => pattern.test(path))?.methods ?? [];
}

/** Adds the handling of all errors and unknown routes. */
export function handleErrors(app: FastifyInstance, logger: RepeatLogger): void {
  const methods = methodsOf(app);

  // An unknown path is refused before its body is read.
  app.addHook('onRequest', async (request, reply) => {
    if (!request.is404) return;
    // A proxy sends the name of the server in the path (RFC 9112, 3.2.2).
    const path = request.url.replace(/^https?:\/\/[^/?]*/i, '').split('?')[0] ?? '';
    const allowed = methods(path);
    if (allowed.length === 0) throw new UcloudError('not_found', 'there is no such path');
    reply.header('allow', allowed.join(', '));
    throw new UcloudError('method_not_allowed', `this path allows ${allowed.join(', ')}`);
  });

  app.setErrorHandler((error: FastifyError | UcloudError, request: FastifyRequest, reply) => {
    const known = error instanceof UcloudError ? error : fromFramework(error);
    const about = { request: request.id, operation: operationOf(request) };
    if (!known) {
      // The place of an error identifies its kind, and the number of places is limited.
      const place = error.stack?.split('\n')[1]?.trim() ?? error.name;
      logger.say('error', place, { err: error, ...about }, 'a request failed');
      return sendProblem(reply, new UcloudError('internal', 'something unforeseen failed'), request.id);
    }
    if (known.code === 'store_unavailable' || known.code === 'internal') {
      logger.say(
        'warn',
        known.code,
        { code: known.code, detail: known.message, ...about },
        'a request failed because of an internal error',
      );
    }
    return sendProblem(reply, known, request.id);
  });
}

const operationOf = (request: FastifyRequest): string | undefined => request.routeOptions.config?.endpoint?.id;
