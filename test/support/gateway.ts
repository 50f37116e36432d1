/** A gateway in front of an API. It forwards requests, observes them, answers them itself, or loses their answers. */
import { once } from 'node:events';
import { createServer, request as forward, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';

export interface Asked {
  readonly method: string;
  /** With its query. */
  readonly path: string;
}

/**
 * The outcome of a request. The gateway forwards it (`pass`), or forwards it and then breaks the connection (`lose`),
 * or the test answers it (`dealt with`).
 */
export type RequestOutcome = 'pass' | 'lose' | 'dealt with';

export interface GatewayOptions {
  /** Default: all pass. */
  readonly decide?: (request: Asked, response: ServerResponse) => RequestOutcome | Promise<RequestOutcome>;
  /** Every answer of the API, also one that is then lost. */
  readonly answered?: (request: Asked, status: number) => void;
}

export interface Gateway {
  readonly url: string;
  close(): void;
}

/** An answer as the API gives it when something is wrong. */
export function answerProblem(
  response: ServerResponse,
  status: number,
  code: string,
  headers: Readonly<Record<string, string>> = {},
  detail = code,
): RequestOutcome {
  response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
  response.end(JSON.stringify({ type: 'about:blank', title: code, status, code, detail }));
  return 'dealt with';
}

/** Ends with the test, if one is given. */
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
    const fate = (await decide?.(asked, response)) ?? 'pass';
    if (fate === 'dealt with') {
      incoming.resume();
      return;
    }
    const onward = forward({ host, port: target.port, method, path, headers }, (answer) => {
      answered?.(asked, answer.statusCode ?? 0);
      if (fate === 'lose') {
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
