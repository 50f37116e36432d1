/**
 * Verifies VAT numbers with VIES, the service of the EU. VIES asks the registers of its members, which often do not answer. All
 * failures of network, service and member are `unknown`: only a clear word of a register is `valid` or `invalid`.
 */
import { isIP } from 'node:net';
import { Agent, request } from 'undici';
import type { VatNumber } from '../../model/billing/vat-numbers.ts';
import type { UnknownAnswer, VatAnswer, VatVerifier } from './verifier.ts';

/** The address of VIES. */
export const viesEndpoint = 'https://ec.europa.eu/taxation_customs/vies/rest-api';

export interface ViesOptions {
  /** Default: that of VIES. Only HTTPS, or HTTP on this machine. */
  readonly endpoint?: string;
  /** The time for an answer. Default: 20 s. Members may need 10 s. */
  readonly deadlineMs?: number;
  /** The maximum size of an answer. Default: 64 KiB. */
  readonly maxBodyBytes?: number;
  readonly now?: () => Date;
}

/** A verifier with connections of its own. */
export interface ViesVerifier extends VatVerifier {
  close(): Promise<void>;
}

const soon = 60;
const later = 15 * 60;
const maxRetrySeconds = 24 * 60 * 60;

/** The errors of VIES with their reason, and the seconds until another try. */
const errors: Readonly<Record<string, readonly [reason: string, retryAfter?: number]>> = {
  GLOBAL_MAX_CONCURRENT_REQ: ['VIES has too many requests', soon],
  GLOBAL_MAX_CONCURRENT_REQ_TIME: ['VIES has too many requests', later],
  MS_MAX_CONCURRENT_REQ: ['the register of the country has too many requests', soon],
  MS_MAX_CONCURRENT_REQ_TIME: ['the register of the country has too many requests', later],
  MS_UNAVAILABLE: ['the register of the country is not available', later],
  SERVICE_UNAVAILABLE: ['VIES is not available', later],
  SERVER_BUSY: ['VIES is not available', later],
  TIMEOUT: ['the register of the country does not answer in time', later],
  INVALID_REQUESTER_INFO: ['VIES refuses the VAT number of the legal entity that asks'],
  IP_BLOCKED: ['VIES blocks this machine', maxRetrySeconds],
  VAT_BLOCKED: ['VIES blocks the VAT number of the legal entity that asks', maxRetrySeconds],
};

/** Returns the address of the endpoint. @throws RangeError for an address that VIES cannot have */
function parseEndpoint(text: string): URL {
  const url = URL.parse(text);
  const host = url?.hostname.replace(/^\[(.*)\]$/, '$1') ?? '';
  const isHere = host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
  if (url === null || (url.protocol !== 'https:' && !(url.protocol === 'http:' && isHere)))
    throw new RangeError('the endpoint of VIES must be an https URL');
  if (url.username !== '' || url.password !== '') throw new RangeError('the endpoint of VIES must not have a password');
  return url;
}

/** Returns a verifier that asks VIES. @throws RangeError for a wrong endpoint */
export function createVies(options: ViesOptions = {}): ViesVerifier {
  const { deadlineMs = 20_000, maxBodyBytes = 64 * 1024, now = () => new Date() } = options;
  const endpoint = parseEndpoint(options.endpoint ?? viesEndpoint);
  const url = new URL(`${endpoint.pathname.replace(/\/+$/, '')}/check-vat-number`, endpoint);
  const agent = new Agent({ connect: { timeout: deadlineMs }, connections: 4, pipelining: 0 });

  /** Asks once. @throws the reason of `signal` after its abort */
  async function ask(
    number: VatNumber,
    requester: VatNumber | undefined,
    signal: AbortSignal | undefined,
  ): Promise<VatAnswer | 'input refused'> {
    const deadline = AbortSignal.timeout(deadlineMs);
    try {
      // undici follows no redirects, so no other host gets a number or gives an answer.
      const response = await request(url, {
        method: 'POST',
        dispatcher: agent,
        signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
        headers: { 'content-type': 'application/json', accept: 'application/json', 'user-agent': 'ucloud' },
        body: JSON.stringify({
          countryCode: number.prefix,
          vatNumber: number.text.slice(2),
          ...(requester && { requesterMemberStateCode: requester.prefix, requesterNumber: requester.text.slice(2) }),
        }),
      });
      const text = await readBounded(response.body, maxBodyBytes);
      if (text === undefined) return unknown('the answer of VIES is too long', later);
      return understand(text, response.statusCode, retryAfterOf(response.headers['retry-after']), number, now());
    } catch (error) {
      signal?.throwIfAborted();
      if (deadline.aborted) return unknown(`VIES does not answer within ${deadlineMs / 1000} s`, later);
      return unknown(`VIES cannot be reached: ${messageOf(error)}`, later);
    }
  }

  return {
    async verify(number, requester, signal) {
      signal?.throwIfAborted();
      if (!number.inVies) return unknown(`not in VIES: numbers with ${number.prefix} have no register there`);
      const asking = requester?.inVies ? requester : undefined;
      const answer = await ask(number, asking, signal);
      if (answer !== 'input refused') return answer;
      if (asking === undefined) return { answer: 'invalid', at: now().toISOString() };
      // VIES has one word for both numbers of a question. Without the requester, it is about the other one.
      const plain = await ask(number, undefined, signal);
      if (plain === 'input refused') return { answer: 'invalid', at: now().toISOString() };
      if (plain.answer !== 'valid') return plain;
      return unknown('VIES refuses the VAT number of the legal entity that asks');
    },
    close: () => agent.destroy(),
  };
}

const unknown = (reason: string, retryAfter?: number): UnknownAnswer => ({
  answer: 'unknown',
  reason,
  ...(retryAfter !== undefined && { retry_after: retryAfter }),
});

/** Returns the text of the body; undefined if it is too long. */
async function readBounded(body: AsyncIterable<Buffer>, maxBytes: number): Promise<string | undefined> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of body) {
    size += piece.length;
    if (size > maxBytes) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function retryAfterOf(header: string | string[] | undefined): number | undefined {
  const seconds = typeof header === 'string' && /^[0-9]{1,9}$/.test(header) ? Number(header) : undefined;
  return seconds === undefined ? undefined : Math.min(Math.max(seconds, 1), maxRetrySeconds);
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** Returns the first error code in the body of a failure. */
function errorOf(body: Record<string, unknown>): string | undefined {
  const wrappers: unknown = body.errorWrappers;
  const first: unknown = Array.isArray(wrappers) ? wrappers[0] : undefined;
  if (typeof first === 'object' && first !== null && 'error' in first && typeof first.error === 'string')
    return first.error;
  // An older form of the answer says it beside `valid: false`, which then means nothing.
  const { userError } = body;
  return typeof userError === 'string' && userError !== 'VALID' && userError !== 'INVALID' ? userError : undefined;
}

function understand(
  text: string,
  status: number,
  retryAfter: number | undefined,
  number: VatNumber,
  now: Date,
): VatAnswer | 'input refused' {
  const body = parseObject(text);
  const code = body && errorOf(body);
  if (code === 'INVALID_INPUT') return 'input refused';
  if (code !== undefined) {
    const [reason, seconds] = Object.hasOwn(errors, code)
      ? (errors[code] ?? ['VIES fails', later])
      : [`VIES answers ${JSON.stringify(code.slice(0, 60))}`, later];
    return unknown(reason, seconds === undefined ? undefined : (retryAfter ?? seconds));
  }
  if (status !== 200) return unknown(`VIES answers with the status ${status}`, retryAfter ?? later);
  if (body === undefined || typeof body.valid !== 'boolean')
    return unknown('the answer of VIES cannot be understood', later);
  if (body.countryCode !== number.prefix || body.vatNumber !== number.text.slice(2))
    return unknown('the answer of VIES is about another number', later);
  const at = now.toISOString();
  const consultation = said(body.requestIdentifier, 100);
  const proof = consultation === undefined ? {} : { consultation_number: consultation };
  if (!body.valid) return { answer: 'invalid', ...proof, at };
  const [name, address] = [said(body.name, 300), said(body.address, 600)];
  return {
    answer: 'valid',
    ...(name !== undefined && { name }),
    ...(address !== undefined && { address }),
    ...proof,
    at,
  };
}

/** Returns a text of VIES without control characters; undefined for `---`, which means that the country does not tell. */
function said(value: unknown, maxLength: number): string | undefined {
  if (typeof value !== 'string') return undefined;
  const text = value
    .slice(0, maxLength)
    .toWellFormed()
    .replaceAll(/[\p{Cc}--[\n]]/gv, '')
    .trim();
  return /^-*$/.test(text) ? undefined : text;
}

const messageOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error);
  return error.message || ('code' in error && typeof error.code === 'string' ? error.code : error.name);
};
