/** A server that behaves like VIES: in good times, and in its outages. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';

/** A question that the server got. */
export interface ViesQuestion {
  readonly countryCode: string;
  readonly vatNumber: string;
  readonly requesterMemberStateCode?: string;
  readonly requesterNumber?: string;
}

/** The behaviour of the server: an answer, an error of VIES, or a fault of the network or the service. */
export type ViesWeather =
  | { readonly kind: 'good' }
  | { readonly kind: 'error'; readonly code: string; readonly status?: number; readonly retryAfter?: string }
  | { readonly kind: 'body'; readonly text: string; readonly status?: number; readonly type?: string }
  | { readonly kind: 'redirect'; readonly to: string }
  | { readonly kind: 'silent' | 'half' | 'cut' | 'endless' };

export interface ViesServer {
  readonly endpoint: string;
  /** The businesses that exist, by their number with its letters. */
  readonly businesses: Map<string, { readonly name: string; readonly address: string }>;
  /** Requesters that exist. */
  readonly requesters: Set<string>;
  readonly questions: ViesQuestion[];
  weather: ViesWeather;
  /** The number of connections that are open. */
  connections(): Promise<number>;
  close(): void;
}

const answer = (response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
};

const failure = (response: ServerResponse, code: string, status: number, headers: Record<string, string> = {}) =>
  answer(response, status, { actionSucceed: false, errorWrappers: [{ error: code }] }, headers);

async function questionOf(request: IncomingMessage): Promise<ViesQuestion> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return JSON.parse(Buffer.concat(pieces).toString('utf8')) as ViesQuestion;
}

/** Starts the server on a free port. */
export async function startViesServer(t: Test): Promise<ViesServer> {
  const server = createServer(async (request, response) => {
    const question = await questionOf(request);
    vies.questions.push(question);
    const { weather } = vies;
    const { countryCode, vatNumber, requesterMemberStateCode, requesterNumber } = question;
    switch (weather.kind) {
      case 'good': {
        if (request.url !== '/rest-api/check-vat-number') return failure(response, 'NOT_FOUND', 404);
        const requester = requesterNumber === undefined ? undefined : `${requesterMemberStateCode}${requesterNumber}`;
        if (requester !== undefined && !vies.requesters.has(requester))
          return failure(response, 'INVALID_REQUESTER_INFO', 400);
        const found = vies.businesses.get(`${countryCode}${vatNumber}`);
        const { name, address } = found ?? { name: '---', address: '---' };
        const requestIdentifier = requester === undefined ? '' : `WAPI${vies.questions.length}`;
        const valid = found !== undefined;
        const requestDate = new Date().toISOString();
        return answer(response, 200, { countryCode, vatNumber, requestDate, valid, requestIdentifier, name, address });
      }
      case 'error':
        return failure(
          response,
          weather.code,
          weather.status ?? 500,
          weather.retryAfter === undefined ? {} : { 'retry-after': weather.retryAfter },
        );
      case 'body':
        response.writeHead(weather.status ?? 200, { 'content-type': weather.type ?? 'application/json' });
        return response.end(weather.text);
      case 'redirect':
        response.writeHead(307, { location: weather.to });
        return response.end();
      case 'silent':
        return undefined;
      case 'half':
        response.writeHead(200, { 'content-type': 'application/json' });
        return response.write(`{"countryCode":"${countryCode}","vatNumber":"${vatNumber}","valid":tr`);
      case 'cut':
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
        return response.write('{"valid":true', () => response.destroy());
      case 'endless': {
        response.writeHead(200, { 'content-type': 'application/json' });
        const more = () => {
          while (!response.destroyed) if (!response.write(' '.repeat(16 * 1024))) return response.once('drain', more);
          return undefined;
        };
        return more();
      }
    }
  });
  const vies: ViesServer = {
    endpoint: '',
    businesses: new Map(),
    requesters: new Set(),
    questions: [],
    weather: { kind: 'good' },
    connections: () =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  t.teardown(() => vies.close());
  return Object.assign(vies, { endpoint: `http://127.0.0.1:${port}/rest-api` });
}
