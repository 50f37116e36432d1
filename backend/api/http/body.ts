/** Bodies of requests: how they are framed, how much of them is in memory, and what JSON may be like. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { UcloudError } from '../../contract/errors.ts';
import { excess } from '../../model/text/json-scan.ts';
import { fieldError, invalidInput } from '../requests/validation.ts';
import { ByteBudget } from './byte-budget.ts';
import type { HttpLimits } from './limits.ts';
import { ownerOf } from './source.ts';

/** Bytes of a body, where the contract says nothing else. */
export const bodyLimit = 1024 * 1024;

/** Chunked bodies are counted in steps of so many bytes. */
const stepBytes = 64 * 1024;

export const limitOf = ({ routeOptions }: FastifyRequest): number =>
  routeOptions.config.endpoint?.opaqueBody?.limit ?? bodyLimit;

const tooLarge = (limit: number): UcloudError => {
  const words = `${limit / 2 ** 20} MiB`;
  return new UcloudError('payload_too_large', `the body exceeds ${words}`, {
    errors: [{ pointer: '', detail: `must be at most ${words}` }],
  });
};

const tooMany = (): UcloudError =>
  new UcloudError('rate_limited', 'bodies of other requests of yours are still arriving or worked on', {
    retryAfter: 1,
  });

const hasBody = ({ headers }: FastifyRequest): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;

/** Whether the headers say what a message of HTTP has to say. Throws. */
export function checkFraming({ headers, raw }: FastifyRequest): void {
  const wrong = (header: string, detail: string) => fieldError('invalid_input', `#header/${header}`, detail);
  const hosts = raw.rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === 'host').length;
  // RFC 9112, 3.2. HTTP/1.0 knows no such header.
  if (hosts > 1 || (hosts === 0 && raw.httpVersion === '1.1')) throw wrong('Host', 'must be there once');
  if (headers.expect !== undefined && headers.expect.toLowerCase() !== '100-continue') {
    throw new UcloudError('expectation_failed', 'the only expectation that is met is 100-continue', {
      errors: [{ pointer: '#header/Expect', detail: 'must be 100-continue' }],
    });
  }
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') throw wrong('Transfer-Encoding', 'must be chunked');
}

/** Whether the operation takes such a body. Throws before any of it is read. */
export function checkBodyHeaders(request: FastifyRequest): void {
  const { endpoint } = request.routeOptions.config;
  if (!endpoint) return;
  if (!hasBody(request)) {
    // Of no body, no type is wrong.
    delete request.raw.headers['content-type'];
    return;
  }
  if (!endpoint.body) throw fieldError('invalid_input', '', 'must be empty: this operation takes no body');
  const encoding = request.headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw fieldError(
      'unsupported_media_type',
      '#header/Content-Encoding',
      'must be left out: bodies are sent as they are',
    );
  }
}

/** Collects a body. Whatever of it is in memory counts for its owner until the request is answered. */
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
    // Memory of its own, so that it can be handed to another thread. Every byte of it is written below.
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

/** JSON is UTF-8 (RFC 8259, 8.1). Anything else would be stored as something that nobody has sent. */
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

/** Tells a client that asked first (`Expect: 100-continue`) to send the body. What can be refused without it has been. */
function bodyIsWanted({ headers, response }: FastifyRequest): void {
  if (headers.expect !== undefined) response.writeContinue();
}

export function readBodies(app: FastifyInstance, { bodiesPerOwner, bodies }: HttpLimits): ByteBudget {
  const budget = new ByteBudget(bodiesPerOwner, bodies);
  const parseJson = app.getDefaultJsonParser('error', 'error');

  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', async (request: FastifyRequest): Promise<unknown> => {
    const body = await collect(request, budget);
    // Many clients name a type even where they send no body.
    if (body.length === 0) return undefined;
    if (request.routeOptions.config.endpoint?.opaqueBody) return body;
    const text = readUtf8(body, request.headers['content-type']);
    const problem = excess(text);
    if (problem !== undefined) throw invalidInput([{ pointer: '', detail: problem }]);
    return new Promise((resolve, reject) => {
      parseJson(request, text, (error, value) => (error ? reject(error) : resolve(value)));
    });
  });
  return budget;
}
