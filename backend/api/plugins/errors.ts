/** Turns every failure into problem details (RFC 9457). A fault of our own is logged here, once. */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Endpoint } from '../../contract/endpoint.ts';
import { type ErrorCode, errorTable, type FieldError, UcloudError } from '../../contract/errors.ts';
import { problemMediaType, problemType } from '../../contract/openapi.ts';
import type { Logger } from '../../model/component.ts';

export interface ProblemDetails {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly errors?: readonly FieldError[];
  readonly request_id: string;
  /** Members of one code only. */
  readonly [member: string]: unknown;
}

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

/** Bytes of a body, where the contract says nothing else. */
export const bodyLimit = 1024 * 1024;

/** What Fastify and Node refuse before a handler is reached. */
function fromFramework(error: FastifyError, endpoint: Endpoint | undefined): UcloudError | undefined {
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE': {
      const limit = `${(endpoint?.opaqueBody?.limit ?? bodyLimit) / 2 ** 20} MiB`;
      return new UcloudError('payload_too_large', `the body exceeds ${limit}`, wholeBody(`must be at most ${limit}`));
    }
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_ERR_CTP_INVALID_CONTENT_TYPE':
      return new UcloudError('unsupported_media_type', 'Content-Type must be application/json', {
        errors: [{ pointer: '#header/Content-Type', detail: 'must be application/json' }],
      });
    case 'FST_ERR_BAD_URL':
      return new UcloudError('invalid_input', 'the path is not well-formed', {
        errors: [{ pointer: '#path', detail: 'has a percent sign without two hex digits, or is not UTF-8' }],
      });
    default:
      if ((error.statusCode ?? 500) >= 500) return undefined;
      return new UcloudError('invalid_input', `the body cannot be read: ${error.message}`, wholeBody(error.message));
  }
}

export function sendProblem(reply: FastifyReply, error: UcloudError, requestId: string): FastifyReply {
  return reply
    .code(error.status)
    .type(problemMediaType)
    .send(JSON.stringify(problemOf(error, requestId)));
}

/** Methods by path of the contract, to tell 405 from 404. */
function methodsOf(endpoints: readonly Endpoint[]): (path: string) => string[] {
  const paths = new Map<string, { pattern: RegExp; methods: string[] }>();
  for (const { path, method } of endpoints) {
    const known = paths.get(path) ?? { pattern: new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`), methods: [] };
    known.methods.push(...(method === 'GET' ? ['GET', 'HEAD'] : [method]));
    paths.set(path, known);
  }
  return (path) => [...paths.values()].find(({ pattern }) => pattern.test(path))?.methods ?? [];
}

export function handleErrors(app: FastifyInstance, endpoints: readonly Endpoint[], logger: Logger): void {
  const methods = methodsOf(endpoints);

  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0] ?? '';
    const allowed = methods(path);
    if (allowed.length === 0)
      return sendProblem(reply, new UcloudError('not_found', 'there is no such path'), request.id);
    reply.header('allow', allowed.join(', '));
    const error = new UcloudError('method_not_allowed', `this path has ${allowed.join(', ')}`);
    return sendProblem(reply, error, request.id);
  });

  app.setErrorHandler((error: FastifyError | UcloudError, request: FastifyRequest, reply) => {
    const known = error instanceof UcloudError ? error : fromFramework(error, request.routeOptions.config?.endpoint);
    if (!known) {
      logger.error({ err: error, request: request.id, operation: operationOf(request) }, 'a request failed');
      return sendProblem(reply, new UcloudError('internal', 'something unforeseen failed'), request.id);
    }
    if (known.status >= 500) {
      logger.warn({ err: known, request: request.id, operation: operationOf(request) }, 'a request was not served');
    }
    return sendProblem(reply, known, request.id);
  });
}

const operationOf = (request: FastifyRequest): string | undefined => request.routeOptions.config?.endpoint?.id;
