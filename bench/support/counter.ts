/** Passes requests on to the API and counts them. */
import { once } from 'node:events';
import { createServer, request as forward } from 'node:http';
import type { AddressInfo } from 'node:net';

export async function startCounter(endpoint: string) {
  const counts = new Map<string, number>();
  const refused = new Map<string, number>();
  const count = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);
  const target = new URL(endpoint);
  const server = createServer((request, response) => {
    const path = (request.url ?? '').replace(/\?.*/, (query) =>
      query.includes('after=') ? '?after' : query.includes('ids=') ? '?ids' : '',
    );
    const key = `${request.method} ${path.replace(/[a-z]+-[0-9a-z]{16}/, '{id}')}`;
    count(counts, key);
    const { method, url, headers } = request;
    const onward = forward(
      { host: target.hostname.replace(/[[\]]/g, ''), port: target.port, method, path: url, headers },
      (answer) => {
        if (answer.statusCode === 409 || answer.statusCode === 429) count(refused, `${answer.statusCode} ${key}`);
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.listen(0, '::1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://[::1]:${port}`,
    /** What was asked of VMs, and what was refused of it, since the last time. */
    take(): { requests: Map<string, number>; refused: Map<string, number> } {
      const requests = new Map([...counts].filter(([key]) => key.includes('/v1/vms')));
      const taken = { requests, refused: new Map(refused) };
      counts.clear();
      refused.clear();
      return taken;
    },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

export const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
export const listed = (counts: ReadonlyMap<string, number>): string =>
  [...counts].map(([key, count]) => `${count} × ${key}`).join(', ');
