/** A proxy that forwards requests to the API and counts them. */
import { type GatewayRequest, startGateway } from '../../test/support/gateway.ts';

/** Returns method and path without ids and other values that differ between objects. */
function keyOf({ method, path: asked }: GatewayRequest): string {
  const path = asked.replace(/\?.*/, (query) =>
    query.includes('after=') ? '?after' : query.includes('ids=') ? '?ids' : '',
  );
  return `${method} ${path.replace(/[a-z]+-[0-9a-z]{16}/, '{id}')}`;
}

/** Starts the proxy in front of an API endpoint. */
export async function startCounter(endpoint: string) {
  const counts = new Map<string, number>();
  const refused = new Map<string, number>();
  const count = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);
  const gateway = await startGateway(endpoint, {
    decide: (request) => {
      count(counts, keyOf(request));
      return 'pass';
    },
    answered: (request, status) => {
      if (status === 409 || status === 429) count(refused, `${status} ${keyOf(request)}`);
    },
  });
  return {
    url: gateway.url,
    /** Returns the requests about VMs and capacity, and the rejected ones, since the last call. */
    take(): { requests: Map<string, number>; refused: Map<string, number> } {
      const requests = new Map([...counts].filter(([key]) => /\/v1\/(vms|capacity-checks)/.test(key)));
      const taken = { requests, refused: new Map(refused) };
      counts.clear();
      refused.clear();
      return taken;
    },
    close: () => gateway.close(),
  };
}

/** Returns the total of all counts. */
export const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
export const listed = (counts: ReadonlyMap<string, number>): string =>
  [...counts].map(([key, count]) => `${count} × ${key}`).join(', ');
