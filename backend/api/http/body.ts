/** Bodies of requests: their framing, their memory, and their JSON. */
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { UcloudError } from '../../contract/errors.ts';
import { uploadMediaType } from '../../contract/resources/uploads.ts';
import { excess } from '../../model/text/json-scan.ts';
import { describeSize } from '../../model/text/sizes.ts';
import { fieldError, invalidInput } from '../requests/validation.ts';
import { ByteBudget } from './byte-budget.ts';
import type { HttpLimits } from './limits.ts';
import { ownerOf } from './source.ts';

/** The maximum bytes of a body, unless the contract sets another limit. */
export const bodyLimit = 1024 * 1024;

/** The steps, in bytes, in which a chunked body is counted. */
const stepBytes = 64 * 1024;

/** Returns the maximum bytes of the request's body. */
export const limitOf = ({ routeOptions }: FastifyRequest): number =>
  routeOptions.config.endpoint?.opaqueBody?.limit ?? bodyLimit;

const tooLarge = (limit: number): UcloudError => {
  const words = describeSize(limit);
  return new UcloudError('payload_too_large', `the body exceeds ${words}`, {
    errors: [{ pointer: '', detail: `must be at most ${words}` }],
  });
};

const tooMany = (): UcloudError =>
  new UcloudError('rate_limited', 'the bodies of your other requests are still in memory; wait for their responses', {
    retryAfter: 1,
  });

const hasBody = ({ headers }: FastifyRequest): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;

/** Checks the headers that HTTP requires. @throws UcloudError `invalid_input` */
export function checkFraming({ headers, raw }: FastifyRequest): void {
  const wrong = (header: string, detail: string) => fieldError('invalid_input', `#header/${header}`, detail);
  const hosts = raw.rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === 'host').length;
  // RFC 9112, 3.2. HTTP/1.0 does not have this header.
  if (hosts > 1 || (hosts === 0 && raw.httpVersion === '1.1')) throw wrong('Host', 'must be present exactly once');
  if (headers.expect !== undefined && headers.expect.toLowerCase() !== '100-continue') {
    throw new UcloudError('expectation_failed', 'must be 100-continue: the server meets no other expectation', {
      errors: [{ pointer: '#header/Expect', detail: 'must be 100-continue' }],
    });
  }
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') throw wrong('Transfer-Encoding', 'must be chunked');
}

/**
 * Checks the headers of the body before the body is read. @throws UcloudError `invalid_input`,
 * `unsupported_media_type`, `payload_too_large`
 */
export function checkBodyHeaders(request: FastifyRequest): void {
  const { endpoint } = request.routeOptions.config;
  if (!endpoint) return;
  if (!hasBody(request)) {
    // A request without a body may name any type.
    delete request.raw.headers['content-type'];
    return;
  }
  if (!endpoint.body && !endpoint.streamBody)
    throw fieldError('invalid_input', '', 'must be empty: this operation takes no body');
  const wanted = endpoint.streamBody?.mediaType;
  if (wanted !== undefined && request.headers['content-type'] !== wanted)
    throw fieldError('unsupported_media_type', '#header/Content-Type', `must be ${wanted}`);
  const encoding = request.headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw fieldError(
      'unsupported_media_type',
      '#header/Content-Encoding',
      'must be omitted: the server does not decompress bodies',
    );
  }
}

/** Collects a body. Its bytes count for its owner until the request is answered. */
async function collect(request: FastifyRequest, budget: ByteBudget): Promise<Buffer> {
  const limit = limitOf(request);
  const owner = ownerOf(request);
  const { raw } = request;
  const hold = (bytes: number) => {
    if (!budget.hasRoom(owner, bytes)) throw tooMany();
    request.response.once('close', budget.hold(owner, bytes));
  };
  const declared = request.headers['content-length'];
  const pieces = raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  if (declared !== undefined) {
    const length = Number(declared);
    if (length > limit) throw tooLarge(limit);
    hold(length);
    bodyIsWanted(request);
    // This memory belongs to nothing else, so a worker thread can take it over. The loop below writes every byte of it.
    const body = Buffer.allocUnsafeSlow(length);
    let at = 0;
    for await (const piece of pieces) at += piece.copy(body, at);
    if (at !== length) throw invalidInput([{ pointer: '', detail: 'ended before it was complete' }]);
    return body;
  }
  const kept: Buffer[] = [];
  let length = 0;
  let held = 0;
  hold(stepBytes);
  bodyIsWanted(request);
  for await (const piece of pieces) {
    length += piece.length;
    if (length > limit) throw tooLarge(limit);
    for (; length > held; held += stepBytes) if (held > 0) hold(stepBytes);
    kept.push(piece);
  }
  const body = Buffer.allocUnsafeSlow(length);
  let at = 0;
  for (const piece of kept) at += piece.copy(body, at);
  return body;
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Decodes JSON, which is UTF-8 (RFC 8259, 8.1). Replacement characters would store a text that the client did not send.
 * @throws UcloudError `invalid_input`
 */
function readUtf8(body: Buffer, contentType: string | undefined): string {
  const charset = /;\s*charset="?([^";\s]*)/i.exec(contentType ?? '')?.[1];
  if (charset !== undefined && !/^utf-?8$/i.test(charset)) {
    throw fieldError('unsupported_media_type', '#header/Content-Type', 'must be application/json in UTF-8');
  }
  try {
    return utf8.decode(body);
  } catch {
    throw invalidInput([{ pointer: '', detail: 'is not well-formed UTF-8' }]);
  }
}

/** Tells a client that sent `Expect: 100-continue` to send the body. All checks that need no body come before this. */
function bodyIsWanted({ headers, response }: FastifyRequest): void {
  if (headers.expect !== undefined) response.writeContinue();
}

/** Returns the body of a request as a stream that is read at the speed of its reader. */
export function bodyStream(request: FastifyRequest): Readable {
  bodyIsWanted(request);
  return request.raw;
}

/** Adds the parsers of request bodies, and returns the memory that bodies hold. */
export function readBodies(app: FastifyInstance, { bodiesPerOwner, bodies }: HttpLimits): ByteBudget {
  const budget = new ByteBudget(bodiesPerOwner, bodies);
  const parseJson = app.getDefaultJsonParser('error', 'error');

  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', async (request: FastifyRequest): Promise<unknown> => {
    const body = await collect(request, budget);
    // Many clients name a type although they send no body.
    if (body.length === 0) return undefined;
    if (request.routeOptions.config.endpoint?.opaqueBody) return body;
    const text = readUtf8(body, request.headers['content-type']);
    const problem = excess(text);
    if (problem !== undefined) throw invalidInput([{ pointer: '', detail: problem }]);
    return new Promise((resolve, reject) => {
      parseJson(request, text, (error, value) => (error ? reject(error) : resolve(value)));
    });
  });
  // The handler reads this body itself.
  app.addContentTypeParser(uploadMediaType, (_request, _payload, done) => done(null));
  return budget;
}
