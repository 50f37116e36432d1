/**
 * Measures what orders cost, and the closing of a month: `node bench/ordering.ts [--creates 1500] [--rounds 5] [--vms 100000]
 * [--intervals 10] [--accounts 100]`.
 *
 *   creates  VMs per second over HTTP, compared with the same without orders, in turn
 *   closing  a month with so many VMs and intervals of each: the time and the largest memory of the billing process, with many
 *            accounts, and with all VMs in one project of one account
 *
 * The creations run on the embedded store, and on etcd if it is installed. Each API runs in its own process, and so does each
 * closing. The closing reads an embedded store.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Pool } from 'undici';
import { startApi } from '../backend/api/start.ts';
import { ensureOperatorToken, ensureProject } from '../backend/api/tokens/first-operator-token.ts';
import { startBilling } from '../backend/billing/start.ts';
import { vmQuantities } from '../backend/model/billing/meters.ts';
import { newId } from '../backend/model/ids.ts';
import * as records from '../backend/model/records/index.ts';
import { put } from '../backend/store/collection.ts';
import { openStore } from '../backend/store/open.ts';
import type { Store, Write } from '../backend/store/store.ts';
import { hasEtcd, startEtcd } from '../test/support/etcd.ts';
import { until } from '../test/support/eventually.ts';
import { silentLogger } from '../test/support/silent-logger.ts';
import { median, rate } from './support/load.ts';
import { perSecond, printTable, ratio } from './support/table.ts';

const { values: options, positionals } = parseArgs({
  options: {
    creates: { type: 'string', default: '1500' },
    rounds: { type: 'string', default: '5' },
    vms: { type: 'string', default: '100000' },
    intervals: { type: 'string', default: '10' },
    accounts: { type: 'string', default: '100' },
  },
  allowPositionals: true,
});
const [creates, rounds, vms, intervals, accounts] = [
  ...[Number(options.creates), Number(options.rounds), Number(options.vms)],
  ...[Number(options.intervals), Number(options.accounts)],
] as [number, number, number, number, number];
const width = 64;
const GiB = 2 ** 30;

// ---- creations

interface Served {
  readonly url: string;
  readonly token: string;
  readonly project: string;
}

/** The child process: the API on a store, with or without orders. */
async function serve(address: string, withoutOrders: boolean): Promise<void> {
  const store = await openStore(address);
  const token = await ensureOperatorToken(store);
  const project = await ensureProject(store, 'bench');
  if (!token) throw new Error('the store is not new');
  const api = await startApi({
    ...{ store, listen: { host: '::1', port: 0 }, logger: silentLogger, withoutOrders },
    rateLimit: { requestsPerMinute: 1e9 },
  });
  const served: Served = { url: api.url, token: token.secret, project };
  process.send?.(served);
  process.once('message', async () => {
    await api.close();
    await store.close();
    process.disconnect();
  });
}

/** An API in a child process, with a network and an image. */
async function startServer(address: string, withoutOrders: boolean) {
  const child = fork(import.meta.filename, ['serve', address, String(withoutOrders)]);
  const [{ url, token, project }] = (await once(child, 'message')) as [Served];
  const pool = new Pool(url, { connections: width });
  const create = async (plural: string, body: object): Promise<{ id: string }> => {
    const answer = await pool.request({
      ...{ method: 'POST', path: `/v1/${plural}`, body: JSON.stringify(body) },
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    });
    const text = await answer.body.text();
    if (answer.statusCode >= 300) throw new Error(`${plural}: ${answer.statusCode} ${text}`);
    return JSON.parse(text);
  };
  const { id } = await create('prefix-pools', { name: 'bench', cidr: '2001:db8::/40' });
  const prefix = await create('prefixes', { name: 'bench', project, pool: id });
  const network = await create('networks', { name: 'bench', project, prefix: prefix.id });
  const image = await create('images', { name: 'bench', project, source: 'file:bench.raw' });
  const common = { project, image: image.id, disk_size: '1GiB', interfaces: [{ network: network.id }] };
  return {
    createVm: (name: string) => create('vms', { ...common, name }),
    async stop() {
      await pool.close();
      const exit = once(child, 'exit');
      child.send('stop');
      await exit;
    },
  };
}

async function measureCreates(name: string, address: () => string): Promise<string[]> {
  const servers = [await startServer(address(), false), await startServer(address(), true)];
  const rates: number[][] = [[], []];
  for (const server of servers) await rate(300, width, (i) => server.createVm(`warm-${i}`));
  for (let round = 0; round < rounds; round++) {
    // In turn, so that a disturbance of the machine affects both.
    for (const index of round % 2 === 0 ? [0, 1] : [1, 0]) {
      rates[index]?.push(await rate(creates, width, (i) => servers[index]?.createVm(`vm-${round}-${i}`) as never));
    }
  }
  for (const server of servers) await server.stop();
  const [ordered = 0, plain = 0] = rates.map(median);
  return [`${name}: VM creates with orders / without`, perSecond(ordered), perSecond(plain), ratio(ordered, plain)];
}

// ---- closing

const month = { from: Date.UTC(2026, 2, 1), to: Date.UTC(2026, 3, 1) };
const time = (ms: number) => new Date(ms).toISOString();

async function write(store: Store, writes: readonly Write[]): Promise<void> {
  const commits: Promise<unknown>[] = [];
  for (let at = 0; at < writes.length; at += 100) {
    commits.push(store.commit({ write: writes.slice(at, at + 100) }));
    if (commits.length === 8) await Promise.all(commits.splice(0));
  }
  await Promise.all(commits);
}

/** Fills a store with a month of VMs, which were stopped and started. Returns the number of intervals. */
async function fill(store: Store, projects: number): Promise<number> {
  const at = time(month.from);
  const declared = { created_at: at, updated_at: at };
  const address = { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' };
  const company = { labels: {}, legal_name: 'Example AG', address, email: 'billing@example.com' };
  const kept = { delete_protection: false, ...declared };
  const legal_entity = newId('legal_entity');
  const meters = ['vm', 'vm_cpu', 'vm_memory', 'vm_disk', 'running_vm', 'running_cpu', 'running_memory'] as const;
  const entity = {
    ...{ id: legal_entity, name: 'bench', number_series: 'B-', vat_number: 'CHE-107.787.577 MWST' },
    ...company,
    ...kept,
  };
  const setup: Write[] = [put(records.legalEntities, legal_entity, entity)];
  for (const meter of meters) {
    const [product, price] = [newId('product'), newId('price')];
    const amount = '0.00012345';
    setup.push(
      put(records.products, product, { id: product, name: meter, labels: {}, meter, description: '', ...kept }),
      put(records.prices, price, {
        ...{ id: price, labels: {}, product, currency: 'CHF', amount, per: 'hour', valid_from: time(0) },
        ...{ minimum_seconds: 3_600, monthly_cap: '0.05', ...declared },
      }),
    );
  }
  await write(store, setup);
  let count = 0;
  for (let p = 0; p < projects; p++) {
    const [project, account] = [newId('project'), newId('billing_account')];
    const writes: Write[] = [
      put(records.billingAccounts, account, {
        ...{ id: account, name: `a-${p}`, ...company, currency: 'CHF', legal_entity, customer_kind: 'business' },
        ...{ payment: 'bill', payment_days: 30, ...kept },
      }),
      put(records.accountTerms, `${project}/${at}`, { project, name: `p-${p}`, account, since: at }),
    ];
    for (let n = 0; n < vms / projects; n++) {
      const [order, object] = [newId('order'), newId('vm')];
      const quantities = vmQuantities({
        ...{ cpus: 1 + (n % 4), memory: (1 + (n % 8)) * GiB, disk_size: 10 * GiB, power_state: 'running' },
      });
      const running = quantities.filter(({ meter }) => meter.startsWith('running'));
      let since = month.from + n * 1_000;
      count += quantities.length;
      for (let left = intervals - quantities.length; left > 0; left -= running.length) {
        const until = since + 3_600_000 * (1 + (n % 5));
        const uses = running.slice(0, left).map((item) => ({ ...item, since: time(since) }) as never);
        count += uses.length;
        const key = `${project}/${time(until).slice(0, 7)}/${object}/${time(until)}/${order}/1`;
        const labels = { tier: 'bench' };
        writes.push(
          put(records.usage, key, { project, order, resource: object, title: 'vm', labels, until: time(until), uses }),
        );
        since = until + 600_000;
      }
      writes.push(
        put(records.orders, order, {
          ...{ id: order, project, object, title: `vm-${n}`, description: '', labels: { tier: 'bench' } },
          items: quantities.filter(({ meter }) => !meter.startsWith('running')) as never,
          opened_at: time(month.from + n * 1_000),
          use: quantities.map((item) => {
            const begun = item.meter.startsWith('running') ? since : month.from + n * 1_000;
            return { ...item, since: time(begun) } as never;
          }),
          ...declared,
        }),
      );
      if (writes.length > 2_000) await write(store, writes.splice(0));
    }
    await write(store, writes);
  }
  return count;
}

interface Closed {
  readonly seconds: number;
  readonly mebibytes: number;
  readonly bills: number;
}

/** The child process: the billing component, from its start to the last bill. */
async function close(address: string, wanted: number): Promise<void> {
  const store = await openStore(address);
  const begun = performance.now();
  const billing = await startBilling({ store, logger: silentLogger, now: () => new Date(month.to + 86_400_000) });
  await until(
    'all months are closed',
    async () => (await store.list(records.closedMonths.prefix, { limit: wanted })).entries.length === wanted,
    3_600,
  );
  const seconds = (performance.now() - begun) / 1_000;
  const bills = (await store.list(records.bills.prefix, { limit: wanted })).entries.length;
  const closed: Closed = { seconds, bills, mebibytes: process.resourceUsage().maxRSS / 1024 };
  process.send?.(closed);
  await billing.close();
  await store.close();
  process.disconnect();
}

async function measureClosing(name: string, address: string, projects: number): Promise<string[][]> {
  const store = await openStore(address);
  const count = await fill(store, projects);
  await store.close();
  const child = fork(import.meta.filename, ['close', address, String(projects)]);
  const [{ seconds, mebibytes, bills }] = (await once(child, 'message')) as [Closed];
  await once(child, 'exit');
  if (bills !== projects) throw new Error(`${bills} bills of ${projects} accounts`);
  const what = `${name}: ${vms.toLocaleString('en')} VMs, ${count.toLocaleString('en')} intervals`;
  return [
    [`${what}, seconds`, seconds.toFixed(1), '60', ratio(seconds, 60)],
    [`${what}, MiB`, mebibytes.toFixed(0), '1024', ratio(mebibytes, 1024)],
  ];
}

async function main(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
  let files = 0;
  const file = () => `embedded:${join(directory, `${files++}.db`)}`;
  const rows: string[][] = [];
  if (creates > 0) {
    rows.push(await measureCreates('embedded', file));
    if (hasEtcd) {
      const server = await startEtcd();
      let prefixes = 0;
      rows.push(await measureCreates('etcd', () => `etcd://${server.endpoint}/bench-${prefixes++}`));
      await server.stop();
    } else console.error('etcd is not installed: measured on the embedded store only');
  }
  const limits: string[][] = [];
  if (vms > 0) {
    limits.push(...(await measureClosing(`${accounts} accounts`, file(), accounts)));
    limits.push(...(await measureClosing('one account', file(), 1)));
  }
  if (rows.length > 0) printTable(['', 'with, per s', 'without, per s', 'ratio'], rows);
  if (limits.length > 0) printTable(['closing of a month', 'figure', 'at most', 'ratio'], limits);
  rmSync(directory, { recursive: true, force: true });
}

const [command, address = '', argument] = positionals;
if (command === 'serve') await serve(address, argument === 'true');
else if (command === 'close') await close(address, Number(argument));
else await main();
