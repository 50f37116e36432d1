/** A hostile tenant against orders: loops, large labels, the largest commits, and the largest sums. */
import t from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { estimate } from '../../backend/model/billing/estimate.ts';
import { PriceList } from '../../backend/model/billing/price-list.ts';
import { QuantitySums } from '../../backend/model/billing/quantity-sums.ts';
import { Allowances } from '../../backend/model/quota/order-allowance.ts';
import * as records from '../../backend/model/records/index.ts';
import { maxOperations } from '../../backend/store/limits.ts';
import type { Commit, Store } from '../../backend/store/store.ts';
import { ApiClient, type Body, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { bound } from '../support/bound-store.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { testPublicKey } from '../support/ssh-keys.ts';
import { withStore } from '../support/stores.ts';

const GiB = 2 ** 30;

/** Returns the bytes of all records that orders of the past have left. */
async function bytesLeft(store: Store): Promise<number> {
  let bytes = 0;
  for (const { prefix } of [records.usage, records.endedOrders]) {
    for (let after: string | undefined; ; ) {
      const page = await store.list(prefix, { limit: 1000, ...(after !== undefined && { after }) });
      for (const { key, value } of page.entries) bytes += key.length + Buffer.byteLength(value);
      after = page.entries.at(-1)?.key;
      if (!page.more) break;
    }
  }
  return bytes;
}

/** The largest labels that the contract accepts. */
const labels = Object.fromEntries(
  Array.from({ length: 64 }, (_, index) => [
    `${`${'a'.repeat(60)}.`.repeat(4)}com/${String(index).padStart(63, 'b')}`.slice(-300),
    'c'.repeat(63),
  ]),
);

t.test('a loop of changes is slowed down, and leaves a bounded number of bytes', async (t) => {
  const most = 600_000;
  const allowances = () => new Allowances(24 * 3_600, most);
  const store = await withStore(t);
  const test = await startTestApi(t, { store: store.session(), orderAllowances: allowances() });
  const second = await startApi({
    ...{ store: store.session(), listen: { host: '::1', port: 0 }, logger: silentLogger },
    ...{ rateLimit: { requestsPerMinute: 1_000_000 }, orderAllowances: allowances() },
  });
  t.teardown(() => second.close());
  const { operator } = test;
  const member = await test.member(test.project);
  const servers = [member, new ApiClient(second.url, member.token)];
  const shared = await createVmPrerequisites(test, test.project);
  const body = { image: shared.image.id, disk_size: '1GiB', interfaces: [{ network: shared.network.id }] };
  const vm = await member.create('vms', { ...body, name: 'web', labels });
  const loops: ((round: number) => Promise<Awaited<ReturnType<ApiClient['request']>> | undefined>)[] = [
    (round) => servers[round % 2]?.request('PATCH', `/v1/vms/${vm.id}`, { cpus: 1 + (round % 2) }) as never,
    (round) =>
      servers[round % 2]?.request('PATCH', `/v1/vms/${vm.id}`, {
        power_state: round % 2 ? 'stopped' : 'running',
      }) as never,
    async (round) => {
      const made = await servers[round % 2]?.request('POST', '/v1/volumes', { name: 'x', size: '1GiB', labels });
      if (made?.status === 201) await servers[round % 2]?.expect(202, 'DELETE', `/v1/volumes/${made.body.id}`);
      return made;
    },
  ];
  for (const loop of loops) {
    let refused: Awaited<ReturnType<ApiClient['request']>> | undefined;
    for (let round = 0; round < 2_000 && !refused; round++) {
      const answer = await loop(round);
      if (answer?.status === 429) refused = answer;
      else if (answer && answer.status >= 400 && answer.body.code !== 'name_taken') t.fail(JSON.stringify(answer.body));
    }
    t.match(refused?.body, { code: 'rate_limited', detail: /each change leaves an order/ });
    t.ok(Number(refused?.headers.get('retry-after')) > 0);
  }
  const bytes = await bytesLeft(store);
  t.ok(bytes <= most, `${bytes} bytes are left, at most ${most} may be`);
  t.ok(bytes > most / 4, `${bytes} bytes are left, so the estimate is not far off`);

  t.equal((await member.request('PATCH', `/v1/vms/${vm.id}`, { description: 'x' })).status, 200, 'no order, no limit');
  const other = await operator.create('projects', { name: 'other' });
  t.equal((await operator.request('POST', '/v1/volumes', { name: 'v', size: '1GiB', project: other.id })).status, 201);
  t.equal((await member.request('DELETE', `/v1/vms/${vm.id}`)).status, 202, 'a deletion is never refused');
});

t.test('allowances fill up again, and full ones take no memory', async (t) => {
  const day = 24 * 3_600_000;
  const allowances = new Allowances(1_000, 7_000);
  allowances.take('a', 10_000, 0);
  t.equal(allowances.left('a', 0), 0);
  t.equal(allowances.left('a', day), 1_000);
  t.equal(allowances.secondsUntil('a', 500, 0), day / 2_000);
  t.equal(allowances.left('a', -day), 0, 'a clock that steps back gives nothing');
  t.equal(allowances.left('b', 0), 7_000);
  allowances.sweep(6 * day);
  t.equal(allowances.size, 1);
  allowances.sweep(7 * day);
  t.equal(allowances.size, 0);
});

t.test('the largest requests fit into one commit with their orders', async (t) => {
  const inner = await withStore(t);
  const sizes = new Map<string, number>();
  let last: Commit = { write: [] };
  const store: Store = {
    ...bound(inner),
    commit: async (commit) => {
      last = commit;
      return inner.commit(commit);
    },
  };
  const test = await startTestApi(t, { store });
  const { operator } = test;
  const address = { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' };
  const company = { legal_name: 'Example AG', address, email: 'billing@example.com' };
  const entity = await operator.create('legal-entities', { name: 'co', number_series: 'A-', ...company });
  const { id: billing_account } = await operator.create('billing-accounts', {
    ...{ name: 'acme', legal_entity: entity.id, currency: 'CHF', ...company },
  });
  await operator.create('budgets', { billing_account, max_monthly_cost: '1000000' });
  const product = await operator.create('products', { name: 'cpu', meter: 'vm_cpu' });
  await operator.create('prices', { product: product.id, currency: 'CHF', amount: '1', per: 'month' });
  const project = await operator.create('projects', {
    ...{ name: 'large', billing_account, quota: { vms: 100, volumes: 100 } },
  });
  await operator.create('budgets', { project: project.id, max_monthly_cost: '1000000' });
  const member = await test.member(project.id);
  const shared = await createVmPrerequisites(test, project.id);
  const numbers = (count: number) => Array.from({ length: count }, (_, index) => index);
  const blob = (n: number) =>
    Buffer.concat([Buffer.from('0000000b7373682d6564323535313900000020', 'hex'), Buffer.alloc(32, n + 1)]);
  const ids = async (plural: string, count: number, body: (n: number) => object) => {
    const made: Body[] = [];
    for (const n of numbers(count)) made.push(await member.create(plural, body(n)));
    return made.map(({ id }) => id);
  };
  const keys = await ids('ssh-keys', 64, (n) => ({
    name: `k${n}`,
    public_key: n === 0 ? testPublicKey : `ssh-ed25519 ${blob(n).toString('base64')}`,
  }));
  const prefix = await member.create('prefixes', { name: 'wide', length: 56 });
  const networks: Body[] = [];
  for (const n of numbers(8)) networks.push(await member.create('networks', { name: `n${n}`, prefix: prefix.id }));
  const groups = await ids('security-groups', 16, (n) => ({ name: `g${n}`, rules: [] }));
  const volumes = await ids('volumes', 16, (n) => ({ name: `v${n}`, size: '1GiB' }));
  const interfaces = networks.map(({ id, cidr }, n) => ({
    network: id,
    secondary_addresses: numbers(3).map((k) => cidr.replace('::/64', `::${k + 10}`)),
    security_groups: [groups[2 * n], groups[2 * n + 1]],
  }));
  const send = async (name: string, status: number, method: string, path: string, body: object) => {
    const answer = await member.request(method, path, body, { 'idempotency-key': name });
    t.equal(answer.status, status, `${name}: ${JSON.stringify(answer.body).slice(0, 300)}`);
    sizes.set(name, Math.max(last.write.length, last.require?.length ?? 0));
    return answer.body;
  };
  const base = { image: shared.image.id, disk_size: '1GiB', labels };
  const largest = { ...base, name: 'largest', interfaces, ssh_keys: keys.slice(0, 32) };
  const vm = await send('creation', 201, 'POST', '/v1/vms', largest);
  const change = { ssh_keys: keys.slice(32), cpus: 2, power_state: 'stopped', volumes, memory: '2GiB' };
  await send('change', 200, 'PATCH', `/v1/vms/${vm.id}`, change);
  t.comment(JSON.stringify(Object.fromEntries(sizes)));
  for (const [name, size] of sizes) t.ok(size <= maxOperations, `${name}: ${size}`);
});

t.test('sums beyond 2^53 stay exact', async (t) => {
  const meter = { id: 'prod-1', name: 'memory', meter: 'vm_memory' } as const;
  const price = { id: 'price-1', product: meter.id, currency: 'CHF', amount: 1n, per: 'month', minimumMs: 0 } as const;
  const prices = new PriceList('CHF', [meter], [{ ...price, validFrom: 0 }]);
  const largest = 512 * 1024 * GiB;
  const sums = new QuantitySums();
  for (let n = 0; n < 1_000; n++) sums.add([{ meter: 'vm_memory', quantity: largest - 2 ** 20 }]);
  const exact = BigInt(largest - 2 ** 20) * 1_000n;
  t.equal(BigInt(sums.items[0]?.quantity ?? 0), exact, 'sizes are multiples of 1 MiB');
  t.equal(estimate(prices, sums.items, 1).length, 1);
  for (let n = 0; n < 1_000; n++) sums.add([{ meter: 'vm_memory', quantity: largest - 2 ** 20 }], -1);
  t.strictSame(sums.items, []);
});
