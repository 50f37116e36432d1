/** Passes requests on to an API, and looks at them or spoils some on the way. */
import { once } from 'node:events';
import { createServer, request as forward, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * What becomes of a request: it is passed on; it is passed on and its answer lost with the connection; or it is answered
 * `429` and goes no further.
 */
export type Fate = 'pass' | 'lose' | 'busy';

export interface GatewayOptions {
  /** Default: all pass. */
  readonly decide?: (request: IncomingMessage) => Fate;
  /** Every answer of the API, also one that is then lost. */
  readonly answered?: (request: IncomingMessage, status: number) => void;
}

export interface Gateway {
  readonly url: string;
  close(): void;
}

export async function startGateway(endpoint: string, { decide, answered }: GatewayOptions): Promise<Gateway> {
  const target = new URL(endpoint);
  const pass = (request: IncomingMessage, response: ServerResponse, lose: boolean) => {
    const { method, url, headers } = request;
    const host = target.hostname.replace(/[[\]]/g, '');
    const onward = forward({ host, port: target.port, method, path: url, headers }, (answer) => {
      answered?.(request, answer.statusCode ?? 0);
      if (lose) {
        answer.resume();
        answer.on('end', () => response.destroy());
        return;
      }
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  };
  const server = createServer((request, response) => {
    const fate = decide?.(request) ?? 'pass';
    if (fate !== 'busy') return pass(request, response, fate === 'lose');
    const problem = { title: 'Too many requests', status: 429, code: 'rate_limited', detail: 'wait' };
    request.resume();
    response.writeHead(429, { 'content-type': 'application/problem+json', 'retry-after': '1' });
    response.end(JSON.stringify(problem));
  });
  server.listen(0, '::1');
  await once(server, 'listening');
  return {
    url: `http://[::1]:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
