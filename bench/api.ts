/**
 * Measures the cost of the API on top of its store, as ratios within one run: `node bench/api.ts [--creates 1500]
 * [--reads 5000] [--rounds 3] [--listed 10000]`.
 *
 *   creates  VMs per second over HTTP, compared with transactions per second of the same conditions and writes
 *            on the bare store
 *   reads    GET requests for one VM per second over HTTP, compared with a bare Fastify that returns the same bytes
 *   list     the first page of 100 and all pages of 10,000 VMs over HTTP, compared with reading the same records
 *            from the store
 *
 * The bench runs on the embedded store, and on etcd if it is installed. The API runs in its own process. The bare store
 * runs in this process, on its own data.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import fastify from 'fastify';
import { Pool } from 'undici';
import { startApi } from '../backend/api/start.ts';
import { ensureOperatorToken, ensureProject } from '../backend/api/tokens/first-operator-token.ts';
import { newId } from '../backend/model/ids.ts';
import * as records from '../backend/model/records/index.ts';
import { put } from '../backend/store/collection.ts';
import { openStore } from '../backend/store/open.ts';
import type { Commit, Revision, Store, Write } from '../backend/store/store.ts';
import { hasEtcd, startEtcd } from '../test/support/etcd.ts';
import { silentLogger } from '../test/support/silent-logger.ts';
import { median, rate } from './support/load.ts';
import { perSecond, printTable, ratio } from './support/table.ts';

const { values: options, positionals } = parseArgs({
  options: {
    creates: { type: 'string', default: '1500' },
    reads: { type: 'string', default: '5000' },
    rounds: { type: 'string', default: '3' },
    listed: { type: 'string', default: '10000' },
  },
  allowPositionals: true,
});
const width = 64;
const creates = Number(options.creates);
const reads = Number(options.reads);
const rounds = Number(options.rounds);
const listed = Number(options.listed);

interface Served {
  readonly url: string;
  readonly token: string;
  readonly project: string;
  /** The transaction that created the first VM. */
  readonly sample: Commit;
}

type Call = (method: 'GET' | 'POST', path: string, body?: object) => Promise<{ id: string; next_page_token?: string }>;

function client(url: string, token: string): { call: Call; close: () => Promise<void> } {
  const pool = new Pool(url, { connections: width });
  return {
    async call(method, path, body) {
      const answer = await pool.request({
        method,
        path,
        headers: { authorization: `Bearer ${token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      const text = await answer.body.text();
      if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`);
      return JSON.parse(text);
    },
    close: () => pool.close(),
  };
}

const vmBody = (name: string, prerequisites: { project: string; network: string; image: string }) => ({
  name,
  project: prerequisites.project,
  image: prerequisites.image,
  disk_size: '1GiB',
  interfaces: [{ network: prerequisites.network }],
});

async function prepare(call: Call, project: string) {
  const pool = await call('POST', '/v1/prefix-pools', { name: 'bench', cidr: '2001:db8::/40' });
  const prefix = await call('POST', '/v1/prefixes', { name: 'bench', project, pool: pool.id });
  const network = await call('POST', '/v1/networks', { name: 'bench', project, prefix: prefix.id });
  const image = await call('POST', '/v1/images', { name: 'bench', project, source: 'file:bench.raw' });
  return { project, network: network.id, image: image.id };
}

/** The child process: the API on a store, with enough VMs to list. */
async function serve(address: string, bulk: boolean): Promise<void> {
  const store = await openStore(address);
  let sample: Commit = { write: [] };
  const watched: Store = new Proxy(store, {
    get(target, name) {
      if (name === 'commit') {
        return (commit: Commit) => {
          if (sample.write.length === 0 && commit.write.some((one) => 'put' in one && one.put.startsWith('vms/')))
            sample = commit;
          return target.commit(commit);
        };
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const token = await ensureOperatorToken(store);
  const project = await ensureProject(store, 'bench');
  if (!token) throw new Error('the store is not new');
  const api = await startApi({
    store: watched,
    listen: { host: '::1', port: 0 },
    logger: silentLogger,
    rateLimit: { requestsPerMinute: 1e9 },
  });
  const { call, close } = client(api.url, token.secret);
  const prerequisites = await prepare(call, project);
  await call('POST', '/v1/vms', vmBody('sample', prerequisites));
  if (bulk) await fill(store);
  await close();
  const served: Served & { prerequisites: typeof prerequisites } = {
    url: api.url,
    token: token.secret,
    project,
    sample,
    prerequisites,
  };
  process.send?.(served);
  process.once('message', async () => {
    await api.close();
    await store.close();
    process.disconnect();
  });
}

/** Copies the first VM's record, as content for the lists. */
async function fill(store: Store): Promise<void> {
  const [entry] = (await store.list(records.vms.prefix, { limit: 1 })).entries;
  if (!entry) throw new Error('the store contains no VM');
  const first: records.VmRecord = JSON.parse(entry.value);
  for (let made = 1; made < listed; made += 100) {
    const write = Array.from({ length: Math.min(100, listed - made) }, (_, i) => {
      const id = newId('vm');
      return put(records.vms, id, { ...first, id, name: `copy-${made + i}` });
    });
    await store.commit({ write });
  }
}

type VmPrerequisites = { project: string; network: string; image: string };

async function withServer<T>(
  address: string,
  bulk: boolean,
  work: (served: Served & { prerequisites: VmPrerequisites }) => Promise<T>,
): Promise<T> {
  const child = fork(import.meta.filename, ['serve', address, String(bulk), '--listed', String(listed)]);
  try {
    const [served] = (await once(child, 'message')) as [Served & { prerequisites: VmPrerequisites }];
    return await work(served);
  } finally {
    const exit = once(child, 'exit');
    child.send('stop');
    await exit;
  }
}

/** Returns the sample transaction with new keys, so that it can be committed again. */
function variant(sample: Commit, i: number, written: Revision): Commit {
  const fresh = new Set((sample.require ?? []).flatMap((one) => ('exists' in one && !one.exists ? [one.key] : [])));
  const rename = (key: string) => (fresh.has(key) || /^(vms|uses|audit|events)\//.test(key) ? `${key}-${i}` : key);
  return {
    require: (sample.require ?? []).map((one) => {
      if ('revision' in one) return { ...one, revision: written };
      return 'key' in one ? { ...one, key: rename(one.key) } : one;
    }),
    write: sample.write.map((one): Write => ('put' in one ? { ...one, put: rename(one.put) } : one)),
  };
}

async function rawCreates(address: string, sample: Commit, round: number): Promise<number> {
  const store = await openStore(address);
  const needed = (sample.require ?? []).flatMap((one) =>
    'revision' in one || ('exists' in one && one.exists) ? [one.key] : [],
  );
  const prerequisites = await store.commit({ write: [...new Set(needed)].map((key) => ({ put: key, value: '{}' })) });
  if (!prerequisites.ok) throw new Error('the prerequisites of the comparison did not commit');
  const speed = await rate(creates, width, async (i) => {
    const { ok } = await store.commit(variant(sample, round * creates + i, prerequisites.revision));
    if (!ok) throw new Error('a transaction of the comparison did not commit');
  });
  await store.close();
  return speed;
}

async function rawReads(payload: string): Promise<number> {
  const app = fastify();
  app.get('/', (_request, reply) => reply.type('application/json; charset=utf-8').send(payload));
  await app.listen({ host: '::1', port: 0 });
  const address = app.server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const { call, close } = client(`http://[::1]:${address.port}`, 'none');
  const speed = await rate(reads, width, () => call('GET', '/'));
  await close();
  await app.close();
  return speed;
}

async function measure(name: string, served: string, bare: () => string): Promise<string[][]> {
  const rows: string[][] = [];
  await withServer(served, false, async ({ url, token, sample, prerequisites }) => {
    const { call, close } = client(url, token);
    await rate(200, width, (i) => call('POST', '/v1/vms', vmBody(`warm-${i}`, prerequisites)));
    const over: number[] = [];
    const raw: number[] = [];
    for (let round = 0; round < rounds; round++) {
      over.push(await rate(creates, width, (i) => call('POST', '/v1/vms', vmBody(`vm-${round}-${i}`, prerequisites))));
      raw.push(await rawCreates(bare(), sample, round));
    }
    rows.push([
      `${name}: VM creates over HTTP / bare transactions`,
      perSecond(median(over)),
      perSecond(median(raw)),
      ratio(median(over), median(raw)),
    ]);
    const vm = await call('POST', '/v1/vms', vmBody('read', prerequisites));
    const got: number[] = [];
    const plain: number[] = [];
    for (let round = 0; round < rounds; round++) {
      got.push(await rate(reads, width, () => call('GET', `/v1/vms/${vm.id}`)));
      plain.push(await rawReads(JSON.stringify(vm)));
    }
    rows.push([
      `${name}: VM reads over HTTP / bare Fastify`,
      perSecond(median(got)),
      perSecond(median(plain)),
      ratio(median(got), median(plain)),
    ]);
    await close();
  });
  return rows;
}

async function measureLists(name: string, served: string, bare: string): Promise<string[][]> {
  const store = await openStore(bare);
  const rows = await withServer(served, true, async ({ url, token, sample }) => {
    const own = sample.write.find((one) => 'put' in one && one.put.startsWith('vms/'));
    if (!own || !('put' in own)) throw new Error('the sample writes no VM');
    await store.commit({ write: [own] });
    await fill(store);
    const { call, close } = client(url, token);
    const readAll = async () => {
      for (let after: string | undefined; ; ) {
        const page = await store.list('vms/', { limit: 1000, ...(after === undefined ? {} : { after }) });
        for (const { value } of page.entries) JSON.parse(value);
        after = page.entries.at(-1)?.key;
        if (!page.more) return;
      }
    };
    const listAll = async () => {
      let page = await call('GET', '/v1/vms?limit=1000');
      while (page.next_page_token) page = await call('GET', `/v1/vms?limit=1000&page_token=${page.next_page_token}`);
    };
    const first = await rate(300, 4, () => call('GET', '/v1/vms?limit=100'));
    const bareFirst = await rate(300, 4, async () => {
      for (const { value } of (await store.list('vms/', { limit: 100 })).entries) JSON.parse(value);
    });
    const all = await rate(6, 1, listAll);
    const bareAll = await rate(6, 1, readAll);
    await close();
    return [
      [`${name}: first 100 of ${listed} VMs / store`, perSecond(first), perSecond(bareFirst), ratio(first, bareFirst)],
      [
        `${name}: all ${listed} VMs / store, ms`,
        (1000 / all).toFixed(0),
        (1000 / bareAll).toFixed(0),
        ratio(all, bareAll),
      ],
    ];
  });
  await store.close();
  return rows;
}

async function main(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
  let files = 0;
  const file = () => `embedded:${join(directory, `${files++}.db`)}`;
  const rows = [...(await measure('embedded', file(), file)), ...(await measureLists('embedded', file(), file()))];
  if (hasEtcd) {
    const server = await startEtcd();
    let prefixes = 0;
    const address = () => `etcd://${server.endpoint}/bench-${prefixes++}`;
    rows.push(...(await measure('etcd', address(), address)), ...(await measureLists('etcd', address(), address())));
    await server.stop();
  } else {
    console.error('etcd is not installed: measured on the embedded store only');
  }
  printTable(['', 'ucloud', 'bare', 'ratio'], rows);
  rmSync(directory, { recursive: true, force: true });
}

const [command, address, bulk] = positionals;
if (command === 'serve' && address !== undefined) await serve(address, bulk === 'true');
else await main();
