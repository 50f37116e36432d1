/** A gateway before the API that breaks connections after some bytes. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import type { Test } from 'tap';

export async function startGateway(t: Test, target: string) {
  let { hostname, port } = new URL(target);
  let passed = 0;
  let left = Number.POSITIVE_INFINITY;
  let broken = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname.slice(1, -1));
    const end = () => {
      client.destroy();
      upstream.destroy();
    };
    client.on('error', end).on('close', end);
    upstream.on('error', end).on('close', end);
    upstream.pipe(client);
    client.on('data', (data: Buffer) => {
      left -= data.length;
      if (left >= 0) {
        passed += data.length;
        if (!upstream.write(data)) {
          client.pause();
          upstream.once('drain', () => client.resume());
        }
        return;
      }
      broken++;
      end();
    });
  });
  server.listen(0, '::1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return {
    url: `http://[::1]:${(server.address() as AddressInfo).port}`,
    /** Passes so many bytes of clients, and then breaks each connection that brings more. */
    passOnly(bytes: number) {
      left = bytes;
    },
    /** Leads new connections to another API. */
    leadTo(url: string) {
      ({ hostname, port } = new URL(url));
    },
    /** The number of bytes of clients that it has passed. */
    passed: () => passed,
    /** The number of broken connections. */
    broken: () => broken,
  };
}
