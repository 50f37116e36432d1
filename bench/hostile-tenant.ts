/**
 * The cost of a hostile tenant for another tenant, as ratios against the quiet server of the same run:
 * `node bench/hostile-tenant.ts [--requests 300] [--unread 20] [--megabytes 24]`.
 *
 * The API runs in a process of its own on the embedded store. Another tenant reads one object, over and over, while each
 * attack runs: the time that 99 of 100 of its requests take at most, and the memory of the API after it.
 */
import { type ChildProcess, fork } from 'node:child_process';
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
import { ApiClient, testPublicKey } from '../test/support/api.ts';
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
import { printTable, ratio } from './support/table.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    requests: { type: 'string', default: '300' },
    unread: { type: 'string', default: '20' },
    megabytes: { type: 'string', default: '24' },
  },
});
const requests = Number(values.requests);
const unread = Number(values.unread);
const bytes = Number(values.megabytes) * 2 ** 20;

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

/** Resident memory of a process in MiB. */
const memoryOf = ({ pid }: ChildProcess): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** What 99 of 100 requests take at most, in milliseconds; infinite if one is not answered. */
async function latency(work: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < requests; i++) {
    const began = performance.now();
    try {
      await work();
    } catch {
      return Number.POSITIVE_INFINITY;
    }
    times.push(performance.now() - began);
  }
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? 0;
}

async function main(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
  const child = fork(import.meta.filename, ['serve', join(directory, 'store.db')]);
  const [served] = (await once(child, 'message')) as [Served];
  const { url } = served;
  const operator = new ApiClient(url, served.token);
  const tokenOf = async (project: string) =>
    (await operator.create('tokens', { name: `t-${project}`, project })).secret;
  const token = await tokenOf(served.project);
  const bad = new ApiClient(url, token);
  const other = (await operator.create('projects', { name: 'other' })).id;
  const good = new ApiClient(url, await tokenOf(other));
  const key = await good.create('ssh-keys', { name: 'k', project: other, public_key: testPublicKey });
  const path = '/v1/terraform-states/large';
  await bad.expect(200, 'POST', path, largeState(1, bytes, randomBytes));

  const writes = (textOf: (i: number) => string): Held => {
    let going = true;
    const connections: RawConnection[] = [];
    const one = async (i: number) => {
      while (going) {
        const text = Buffer.from(textOf(i));
        const headers = ['Content-Type: application/json', `Content-Length: ${text.length}`, 'Connection: close'];
        const connection = new RawConnection(url).send(
          head('POST', `/v1/terraform-states/w${i}?force=true`, token, headers),
        );
        connections.push(connection.send(text));
        await connection.closed;
      }
    };
    for (let i = 0; i < 2; i++) void one(i);
    return {
      connections,
      letGo: () => {
        going = false;
        for (const connection of connections) connection.end();
      },
    };
  };
  const large = largeState(2, bytes, randomBytes);
  const deep = deepState(2, bytes / 8);
  const nothing: Held = { connections: [], letGo: () => undefined };
  const waiting = '/v1/vms?after=999999999999&timeout=60';
  const attacks: readonly (readonly [name: string, begin: () => Held])[] = [
    ['quiet', () => nothing],
    [`${unread} unread answers of ${values.megabytes} MiB`, () => unreadAnswers(url, token, path, unread)],
    [`${unread} slow bodies of 31 MiB`, () => slowUploads(url, token, path, unread, 31 * 2 ** 20)],
    ['500 silent connections', () => silentConnections(url, 500)],
    ['2,000 requests sent ahead', () => requestsAhead(url, token, waiting, path, 2000)],
    [`writes of ${values.megabytes} MiB, two at a time`, () => writes(() => large)],
    [`writes nested ${(bytes / 8).toLocaleString('en')} deep`, () => writes(() => deep)],
  ];
  const rows: string[][] = [];
  let quiet = 0;
  let memory = 0;
  for (const [name, begin] of attacks) {
    const held = begin();
    const p99 = await latency(() => good.expect(200, 'GET', `/v1/ssh-keys/${key.id}`));
    const used = child.exitCode === null ? memoryOf(child) : Number.POSITIVE_INFINITY;
    held.letGo();
    quiet ||= p99;
    memory ||= used;
    rows.push([name, p99.toFixed(1), ratio(p99, quiet), used.toFixed(0), ratio(used, memory)]);
    if (child.exitCode !== null || p99 === Number.POSITIVE_INFINITY) break;
  }
  printTable(['attack', 'p99 of another tenant, ms', '/ quiet', 'memory after, MiB', '/ quiet'], rows);
  child.disconnect();
  rmSync(directory, { recursive: true, force: true });
}

const [command, store] = positionals;
if (command === 'serve' && store !== undefined) await serve(store);
else await main();
