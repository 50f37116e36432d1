/**
 * The cost of a hostile tenant for another tenant, as ratios against the quiet server of the same run:
 * `node bench/hostile-tenant.ts [--requests 300] [--unread 20] [--megabytes 24] [--seconds 60]`.
 *
 * Each attack gets a new API in its own process, on the embedded store. During the attack, another tenant reads one object
 * repeatedly. The figures are the 99th percentile of its requests, and the memory of the API after the attack. An API that
 * does not answer within the seconds, or that ends, is also a result.
 */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startApi } from '../backend/api/start.ts';
import { newStateKeyFile, parseStateKeys } from '../backend/api/terraform-state/keys.ts';
import { ensureOperatorToken, ensureProject } from '../backend/api/tokens/first-operator-token.ts';
import { openEmbeddedStore } from '../backend/store/embedded.ts';
import { ApiClient } from '../test/support/api.ts';
import {
  deepState,
  type Held,
  head,
  largeState,
  RawConnection,
  requestsAhead,
  silentConnections,
  slowUploads,
  unreadAnswers,
} from '../test/support/hostile-tenant.ts';
import { silentLogger } from '../test/support/silent-logger.ts';
import { testPublicKey } from '../test/support/ssh-keys.ts';
import { printTable, ratio } from './support/table.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    requests: { type: 'string', default: '300' },
    unread: { type: 'string', default: '20' },
    megabytes: { type: 'string', default: '24' },
    seconds: { type: 'string', default: '60' },
  },
});
const requests = Number(values.requests);
const unread = Number(values.unread);
const bytes = Number(values.megabytes) * 2 ** 20;
const deadlineMs = Number(values.seconds) * 1000;

interface Served {
  readonly url: string;
  readonly token: string;
  readonly project: string;
}

async function serve(path: string): Promise<void> {
  const store = await openEmbeddedStore({ path });
  const token = (await ensureOperatorToken(store, 'bench'))?.secret ?? '';
  const project = await ensureProject(store, 'default');
  const api = await startApi({
    store,
    logger: silentLogger,
    listen: { host: '::1', port: 0 },
    rateLimit: { requestsPerMinute: 1e9, failuresPerMinute: 1e9 },
    stateKeys: parseStateKeys(newStateKeyFile()),
  });
  process.once('disconnect', () => process.exit());
  process.send?.({ url: api.url, token, project } satisfies Served);
}

/** Returns the resident memory of a process in MiB. */
const memoryOf = (pid: number | undefined): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** Returns the 99th percentile of the requests in milliseconds; undefined if one of them got no answer in time. */
async function latency(work: () => Promise<unknown>): Promise<number | undefined> {
  const times: number[] = [];
  const deadline = performance.now() + deadlineMs;
  while (times.length < requests && performance.now() < deadline) {
    const began = performance.now();
    const late = Promise.withResolvers<false>();
    const timer = setTimeout(() => late.resolve(false), deadline - began);
    const answer = work().then(
      () => true,
      () => false,
    );
    const answered = await Promise.race([answer, late.promise]);
    clearTimeout(timer);
    if (!answered) return undefined;
    times.push(performance.now() - began);
  }
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? 0;
}

/** Opens two connections. Each writes one state after the other. */
function writes(url: string, token: string, state: string): Held {
  let stopped = false;
  const connections: RawConnection[] = [];
  const body = Buffer.from(state);
  const headers = ['Content-Type: application/json', `Content-Length: ${body.length}`, 'Connection: close'];
  const write = async (name: string) => {
    while (!stopped) {
      const request = head('POST', `/v1/terraform-states/${name}?force=true`, token, headers);
      const connection = new RawConnection(url).send(request).send(body);
      connections.push(connection);
      await connection.closed;
    }
  };
  for (const name of ['w0', 'w1']) void write(name);
  return {
    connections,
    letGo: () => {
      stopped = true;
      for (const connection of connections) connection.end();
    },
  };
}

const path = '/v1/terraform-states/large';
const waiting = '/v1/vms?after=999999999999&timeout=60';
const large = () => largeState(2, bytes, randomBytes);
const deep = () => deepState(2, bytes / 8);

type Begin = (url: string, token: string) => Held;
const attacks: readonly (readonly [name: string, begin: Begin])[] = [
  ['quiet', () => ({ connections: [], letGo: () => undefined })],
  [`${unread} unread answers of ${values.megabytes} MiB`, (url, token) => unreadAnswers(url, token, path, unread)],
  [`${unread} slow bodies of 31 MiB`, (url, token) => slowUploads(url, token, path, unread, 31 * 2 ** 20)],
  ['500 silent connections', (url) => silentConnections(url, 500)],
  ['2,000 requests sent ahead', (url, token) => requestsAhead(url, token, waiting, path, 2000)],
  [`writes of ${values.megabytes} MiB, two at a time`, (url, token) => writes(url, token, large())],
  [`writes nested ${(bytes / 8).toLocaleString('en')} deep`, (url, token) => writes(url, token, deep())],
];

interface Result {
  /** The 99th percentile; undefined if the API did not answer. */
  readonly p99Ms: number | undefined;
  /** The memory of the API; undefined if the API has ended. */
  readonly memoryMib: number | undefined;
}

async function measure(begin: Begin): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
  const child = fork(import.meta.filename, ['serve', join(directory, 'store.db')]);
  const ended = once(child, 'exit');
  try {
    const [served] = (await once(child, 'message')) as [Served];
    const { url } = served;
    const operator = new ApiClient(url, served.token);
    const tokenOf = async (project: string) =>
      (await operator.create('tokens', { name: `t-${project}`, project })).secret;
    const token = await tokenOf(served.project);
    const other = (await operator.create('projects', { name: 'other' })).id;
    const good = new ApiClient(url, await tokenOf(other));
    const key = await good.create('ssh-keys', { name: 'k', project: other, public_key: testPublicKey });
    await new ApiClient(url, token).expect(200, 'POST', path, largeState(1, bytes, randomBytes));
    const held = begin(url, token);
    const p99Ms = await latency(() => good.expect(200, 'GET', `/v1/ssh-keys/${key.id}`));
    const memoryMib = child.exitCode === null && child.signalCode === null ? memoryOf(child.pid) : undefined;
    held.letGo();
    return { p99Ms, memoryMib };
  } finally {
    // An API that hangs does not react to SIGTERM.
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  const rows: string[][] = [];
  let quiet: Result | undefined;
  for (const [name, begin] of attacks) {
    const { p99Ms, memoryMib } = await measure(begin);
    quiet ??= { p99Ms, memoryMib };
    rows.push([
      name,
      p99Ms === undefined ? `no answer in ${values.seconds} s` : p99Ms.toFixed(1),
      p99Ms === undefined ? '-' : ratio(p99Ms, quiet.p99Ms ?? 0),
      memoryMib === undefined ? 'the API has ended' : memoryMib.toFixed(0),
      memoryMib === undefined ? '-' : ratio(memoryMib, quiet.memoryMib ?? 0),
    ]);
  }
  printTable(['attack', 'p99 of another tenant, ms', '/ quiet', 'memory after, MiB', '/ quiet'], rows);
}

const [command, store] = positionals;
if (command === 'serve' && store !== undefined) await serve(store);
else await main();
