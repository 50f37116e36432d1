/** A proxy in front of an API. Tests use it to observe requests, to answer them, and to lose answers. */
import { once } from 'node:events';
import { createServer, request as forward, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';

export interface GatewayRequest {
  readonly method: string;
  /** The path with the query. */
  readonly path: string;
}

/**
 * The outcome of a request. `pass`: the gateway forwards it. `lose-answer`: the gateway forwards it and closes the connection
 * before the answer. `handled`: the test answers it, now or later, and the gateway does not forward it.
 */
export type RequestOutcome = 'pass' | 'lose-answer' | 'handled';

export interface GatewayOptions {
  /** Decides the outcome of each request. Default: `pass` for all. */
  readonly decide?: (request: GatewayRequest, response: ServerResponse) => RequestOutcome | Promise<RequestOutcome>;
  /** Called for every answer of the API, also for a lost one. */
  readonly answered?: (request: GatewayRequest, status: number) => void;
}

export interface Gateway {
  readonly url: string;
  close(): void;
}

/** Answers with a problem, like the API. Returns `handled`. */
export function answerProblem(
  response: ServerResponse,
  status: number,
  code: string,
  headers: Readonly<Record<string, string>> = {},
  detail = code,
): RequestOutcome {
  response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
  response.end(JSON.stringify({ type: 'about:blank', title: code, status, code, detail }));
  return 'handled';
}

/** Starts a gateway in front of an endpoint. It ends with the test, if there is one. */
export async function startGateway(
  endpoint: string,
  { decide, answered }: GatewayOptions = {},
  t?: Test,
): Promise<Gateway> {
  const target = new URL(endpoint);
  const host = target.hostname.replace(/[[\]]/g, '');
  const server = createServer(async (incoming, response) => {
    const { method = 'GET', url: path = '/', headers } = incoming;
    const asked = { method, path };
    const outcome = (await decide?.(asked, response)) ?? 'pass';
    if (outcome === 'handled') {
      incoming.resume();
      return;
    }
    const onward = forward({ host, port: target.port, method, path, headers }, (answer) => {
      answered?.(asked, answer.statusCode ?? 0);
      if (outcome === 'lose-answer') {
        answer.resume();
        answer.on('end', () => response.destroy());
        return;
      }
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    incoming.pipe(onward);
  });
  server.listen(0, '::1');
  await once(server, 'listening');
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  t?.teardown(close);
  return { url: `http://[::1]:${(server.address() as AddressInfo).port}`, close };
}
