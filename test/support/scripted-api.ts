/** A server with scripted answers instead of the API, and the provider's client for it. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import { Client } from '../../provider/client/client.ts';
import type { Item } from '../../provider/client/item.ts';

export type ScriptedAnswer = (request: IncomingMessage, response: ServerResponse) => void;

/** A received request with its parsed body, which is undefined if there was none. */
export interface Seen {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
  readonly body: unknown;
}

/** Starts a server that gives these answers one after the other, and then repeats the last one. It ends with the test. */
export async function scriptedApi(
  t: Test,
  ...answers: readonly ScriptedAnswer[]
): Promise<{ readonly client: Client; readonly endpoint: string; readonly seen: readonly Seen[] }> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    request.on('end', () => {
      seen.push({
        method: request.method ?? '',
        url: new URL(request.url ?? '', 'http://x'),
        headers: request.headers,
        body: text === '' ? undefined : JSON.parse(text),
      });
      (answers[Math.min(seen.length, answers.length) - 1] ?? broken)(request, response);
    });
  });
  await new Promise<void>((resolved) => void server.listen(0, '::1', resolved));
  const { port } = server.address() as AddressInfo;
  const endpoint = `http://[::1]:${port}`;
  const client = new Client({ endpoint, token: 'secret' });
  t.teardown(async () => {
    await client.close();
    server.closeAllConnections();
    await new Promise((resolved) => server.close(resolved));
  });
  return { client, endpoint, seen };
}

export const json =
  (status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): ScriptedAnswer =>
  (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  };
export const problem = (
  status: number,
  code: string,
  headers: Readonly<Record<string, string>> = {},
  more: object = {},
): ScriptedAnswer => json(status, { code, title: `the problem ${code}`, detail: 'as told', status, ...more }, headers);
export const noContent: ScriptedAnswer = (_request, response) => void response.writeHead(204).end();
/** An answer that closes the connection instead. */
export const broken: ScriptedAnswer = (_request, response) => void response.destroy();
export const item = (id: string, more: object = {}): Item => ({ id, revision: 1, ...more });
