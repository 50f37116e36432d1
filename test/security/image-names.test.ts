/** Attacks on the image scanner by the names of servers, and by name servers. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { download } from '../../backend/scanner/download.ts';
import { ImageRejected, SourceUnavailable } from '../../backend/scanner/failures.ts';
import { defaultLimits } from '../../backend/scanner/limits.ts';
import { addressesInHosts } from '../../backend/scanner/name-resolver.ts';
import { until, within } from '../support/eventually.ts';
import { nameServer } from '../support/name-server.ts';

async function httpServer(t: Test): Promise<{ port: number; requests: string[] }> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(request.headers.host ?? '');
    response.end('content');
  });
  t.teardown(() => server.close());
  server.listen(0, '::1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, requests };
}

interface From {
  readonly nameServers: readonly string[];
  readonly allowPrivateAddresses?: boolean;
}

/** The content of a URL, or the fault. */
async function fetched(url: string, { nameServers, allowPrivateAddresses = false }: From, signal: AbortSignal) {
  const options = { nameServers, allowPrivateAddresses, limits: defaultLimits };
  try {
    const pieces: Buffer[] = [];
    for await (const piece of download(url, options, signal, new AbortController().signal)) pieces.push(piece);
    return Buffer.concat(pieces).toString();
  } catch (error) {
    return error;
  }
}

t.test('silent name servers of some projects hold up no names of others', async (t) => {
  const { port, requests } = await httpServer(t);
  const { address, asked } = await nameServer(t, (name) => (name.startsWith('silent') ? undefined : ['::1']));
  const from = { nameServers: [address], allowPrivateAddresses: true };
  const ending = new AbortController();
  const names = Array.from({ length: 32 }, (_, number) => `silent-${number}.example`);
  let ended = 0;
  const silent = names.map((name) =>
    fetched(`http://${name}:${port}/`, from, ending.signal).finally(() => {
      ended++;
    }),
  );
  await until('all of them are asked for', () => names.every((name) => asked.includes(name)));
  t.equal(await fetched(`http://good.example:${port}/`, from, new AbortController().signal), 'content');
  t.ok(ended < names.length, 'others were still waiting');
  t.strictSame(requests, [`good.example:${port}`]);
  ending.abort(new Error('enough'));
  await within('all of them end', Promise.all(silent), 30);
});

t.test('a name without an answer is the fault of its server, and ends in seconds', async (t) => {
  const { address } = await nameServer(t, () => undefined);
  const fault = await within(
    'an answer',
    fetched('http://silent.example/', { nameServers: [address] }, new AbortController().signal),
    60,
  );
  t.ok(fault instanceof SourceUnavailable, String(fault));
  t.match(fault, { message: /silent\.example/ });
});

t.test('a name server cannot lead into the network of the operator', async (t) => {
  const { port, requests } = await httpServer(t);
  const inside = ['::1', 'fe80::1', 'fd00::1', '::ffff:7f00:1', '127.0.0.1', '10.0.0.1', '169.254.169.254', '0.0.0.0'];
  const { address, asked } = await nameServer(t, (name) => {
    const index = /^inside-(\d+)\.example$/.exec(name)?.[1];
    if (index !== undefined) return [inside[Number(index)] ?? ''];
    return name === 'all.example' ? inside : [];
  });
  const from = { nameServers: [address] };
  const { signal } = new AbortController();
  for (const name of ['all.example', ...inside.map((_, index) => `inside-${index}.example`)]) {
    const fault = await fetched(`http://${name}:${port}/`, from, signal);
    t.ok(fault instanceof ImageRejected, name);
    t.match(fault, { message: `The URL leads to ${name}, which is not on the public internet` });
    t.ok(asked.includes(name), 'the name server was asked');
  }
  const fault = await fetched(`http://none.example:${port}/`, from, signal);
  t.match(fault, { message: 'There is no server with the name none.example.' });
  t.strictSame(requests, []);
});

t.test('names in /etc/hosts are found as the machine finds them', async (t) => {
  const hosts =
    '# local\n127.0.0.1\tlocalhost loopback # old\n::1 LOCALHOST\n\nnot-an-address localhost\n10.0.0.1 other\n';
  t.strictSame(addressesInHosts(hosts, 'localhost'), [
    { address: '127.0.0.1', family: 4 },
    { address: '::1', family: 6 },
  ]);
  t.strictSame(addressesInHosts(hosts, 'old'), [], 'a comment is no name');
  t.strictSame(addressesInHosts(hosts, '127.0.0.1'), [], 'an address is no name');
});
