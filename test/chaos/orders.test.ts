/**
 * No object without an order and no order without an object, at any revision of the database: random requests to API servers that
 * die at a commit, before or after it takes effect, and whose answers get lost. The jobs of the servers die with them.
 */
import t, { type Test } from 'tap';
import type { Api } from '../../backend/api/start.ts';
import { type Answer, ApiClient, type Body } from '../support/api.ts';
import { onBothStores, stopSharedEtcd, type TestDatabase } from '../support/both-stores.ts';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { KillableApi } from '../support/killable-api.ts';
import { OrderObserver } from '../support/order-observer.ts';
import { Random } from '../support/random.ts';

t.teardown(stopSharedEtcd);

const isLong = process.env.UCLOUD_CHAOS === 'all';
const rounds = isLong ? 400 : 40;
const hourMs = 3_600_000;
/** Half an hour from now, so that no time of a schedule comes by itself. */
const minute = (new Date().getUTCMinutes() + 30) % 60;

/** Several servers, and clients that send a request again until an answer comes. */
class Servers {
  readonly #random: Random;
  readonly #reliable: Api;
  readonly killable: readonly KillableApi[];
  #keys = 0;
  readonly codes = new Map<string, number>();
  readonly faults: string[] = [];

  constructor(random: Random, reliable: Api, killable: readonly KillableApi[]) {
    this.#random = random;
    this.#reliable = reliable;
    this.killable = killable;
  }

  get urls(): string[] {
    // The mortal ones come more often.
    const mortal = this.killable.flatMap(({ url }) => url ?? []);
    return [...mortal, ...mortal, ...mortal, this.#reliable.url];
  }

  /** Sends a request until it is answered, each time to any server. */
  async send(token: string | undefined, method: string, path: string, body?: object): Promise<Answer> {
    const headers: Record<string, string> = method === 'POST' ? { 'idempotency-key': `key-${this.#keys++}` } : {};
    for (let attempt = 0; attempt < 200; attempt++) {
      const client = new ApiClient(this.#random.pick(this.urls) ?? '', token);
      const answer = await client.request(method, path, body, headers).catch(() => undefined);
      if (answer === undefined || answer.status === 503) continue;
      const code = answer.status < 300 ? 'done' : String(answer.body.code);
      this.codes.set(code, (this.codes.get(code) ?? 0) + 1);
      if (answer.status >= 500) this.faults.push(`${method} ${path}: ${JSON.stringify(answer.body)}`);
      return answer;
    }
    throw new Error(`${method} ${path} is never answered`);
  }

  /** Sends a creation to two servers at once, with one key. Both name the same object. */
  async twice(token: string | undefined, path: string, body: object): Promise<void> {
    const headers = { 'idempotency-key': `twice-${this.#keys++}` };
    const once = async () => {
      const client = new ApiClient(this.#random.pick(this.urls) ?? '', token);
      return client.request('POST', path, body, headers).catch(() => undefined);
    };
    const answers = await Promise.all([once(), once()]);
    const ids = answers.flatMap((answer) => (answer?.status === 201 ? answer.body.id : []));
    if (new Set(ids).size > 1) this.faults.push(`one key made ${ids.join()}`);
  }

  async revive(calm = false): Promise<void> {
    for (const each of this.killable) {
      if (each.url !== undefined && !calm) continue;
      await (calm ? each.start() : each.start(1 + this.#random.below(40), 0.1));
    }
  }
}

/** The requests of a tenant. */
class Tenant {
  readonly #random: Random;
  readonly #servers: Servers;
  readonly #token: string | undefined;
  readonly #image: string;
  readonly #network: string;
  #names = 0;

  constructor(random: Random, servers: Servers, token: string | undefined, image: string, network: string) {
    this.#random = random;
    this.#servers = servers;
    this.#token = token;
    this.#image = image;
    this.#network = network;
  }

  send(method: string, path: string, body?: object): Promise<Answer> {
    return this.#servers.send(this.#token, method, `/v1/${path}`, body);
  }
  async list(plural: string): Promise<readonly Body[]> {
    return (await this.send('GET', `${plural}?limit=500`)).body.items ?? [];
  }
  async create(plural: string, body: object): Promise<Body> {
    const answer = await this.send('POST', plural, body);
    if (answer.status !== 201) throw new Error(`${plural}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
  vm(name: string, more: object = {}) {
    return { name, image: this.#image, disk_size: '1GiB', interfaces: [{ network: this.#network }], ...more };
  }
  #name(): string {
    return `n-${this.#names++}`;
  }
  /** Returns the id of one of the objects that `act` has made. */
  async #some(plural: string): Promise<string> {
    const own = (await this.list(plural)).filter(({ name }) => name.startsWith('n-'));
    return this.#random.pick(own)?.id ?? 'none';
  }

  /** A request at random. It may be refused. */
  async act(): Promise<unknown> {
    const random = this.#random;
    const GiB = () => `${1 + random.below(4)}GiB`;
    const vm = () => this.vm(this.#name(), { cpus: 1 + random.below(4), memory: GiB() });
    const volume = () => ({ name: this.#name(), size: GiB() });
    switch (random.below(21)) {
      case 0:
      case 1:
        return this.send('POST', 'vms', vm());
      case 2:
        return this.send('POST', 'volumes', volume());
      case 3:
        return this.#servers.twice(this.#token, '/v1/vms', vm());
      case 4:
        return this.#servers.twice(this.#token, '/v1/volumes', volume());
      case 5:
        return this.send('POST', 'prefixes', { name: this.#name(), length: 56 });
      case 6:
        return this.send('POST', 'vms?dry_run=true', { ...vm(), name: `dry-${this.#name()}` });
      case 7:
      case 17:
      case 18: {
        const path = `vms/${await this.#some('vms')}`;
        const sizes = [2, 3].map((cpus) => ({ cpus: cpus + random.below(3), memory: GiB() }));
        return Promise.all(sizes.map((size) => this.send('PATCH', path, size)));
      }
      case 8:
      case 19: {
        const path = `vms/${await this.#some('vms')}`;
        const states = ['running', 'stopped'].map((power_state) => ({ power_state }));
        return Promise.all(states.map((state) => this.send('PATCH', path, state)));
      }
      case 9:
      case 20:
        return this.send('PATCH', `volumes/${await this.#some('volumes')}`, { size: `${1 + random.below(9)}GiB` });
      case 10:
        return this.send('DELETE', `vms/${await this.#some('vms')}`);
      case 11:
        return this.send('DELETE', `volumes/${await this.#some('volumes')}`);
      case 12:
        return this.send('DELETE', `snapshots/${await this.#some('snapshots')}`);
      case 13: {
        const source = random.below(2) ? { vm: await this.#some('vms') } : { volume: await this.#some('volumes') };
        return this.send('POST', 'snapshots', { name: this.#name(), ...source });
      }
      case 14:
        return this.send('POST', 'volumes', { ...volume(), size: '16GiB', source_volume: await this.#some('volumes') });
      case 15:
        return this.send('POST', 'images', { name: this.#name(), volume: await this.#some('volumes') });
      default: {
        const [id, labels] = [await this.#some('vms'), { tier: this.#name() }];
        return this.send('PATCH', `vms/${id}`, { labels });
      }
    }
  }
}

async function story(t: Test, database: TestDatabase): Promise<void> {
  const random = new Random(Number(process.env.UCLOUD_TEST_SEED ?? Date.now() % 2 ** 31));
  t.comment(`seed ${random.seed}`);
  const store = await database.connect();
  const observer = await new OrderObserver(await database.connect()).start();
  t.teardown(() => observer.close());
  let nowMs = Date.now();
  const scheduleClock = { now: () => new Date(nowMs) };
  const cloud = await startTestCloud(t, { store, scheduleClock, moreHosts: 1 });
  const { api, member: ready } = cloud;
  const killable = [0, 1].map(() => new KillableApi(database, random, { scheduleClock }));
  const servers = new Servers(random, api.api, killable);
  t.teardown(() => Promise.all(killable.map((each) => each.close())));

  // Prices and a budget, so that the guards of budgets are part of the commits.
  const { operator } = api;
  const product = await operator.create('products', { name: 'cpu', meter: 'vm_cpu' });
  await operator.create('prices', { product: product.id, currency: 'CHF', amount: '1', per: 'month' });
  const address = { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' };
  const company = { legal_name: 'Example AG', address, email: 'billing@example.com' };
  const entity = await operator.create('legal-entities', { name: 'co', number_series: 'A-', ...company });
  const payer = { name: 'acme', legal_entity: entity.id, currency: 'CHF', ...company };
  const { id: billing_account } = await operator.create('billing-accounts', payer);
  await operator.create('budgets', { billing_account, max_monthly_cost: '60' });
  await operator.update('projects', cloud.project, { billing_account });

  const prefix = await ready.create('prefixes', { name: 'site', length: 60 });
  const network = await ready.create('networks', { name: 'web', prefix: prefix.id });
  const [image] = (await ready.list('images', '?name=demo')).items;
  const tenant = new Tenant(random, servers, ready.token, image?.id ?? '', network.id);
  await servers.revive();

  /** All of the steps that jobs complete: copies, restores, schedules. */
  const scripted = async () => {
    const volume = await tenant.create('volumes', { name: 'data', size: '2GiB' });
    const vm = await tenant.create('vms', tenant.vm('web', { volumes: [volume.id] }));
    const phase = async (plural: string, id: string, wanted: string) =>
      until(`${id} is ${wanted}`, async () => {
        const { body } = await tenant.send('GET', `${plural}/${id}`);
        return body.status?.phase === wanted;
      });
    await until('data', async () => (await tenant.send('GET', `volumes/${volume.id}`)).body.status?.size === '2GiB');
    const schedule = await tenant.create('snapshot-schedules', {
      ...{ name: 'hourly', volume: volume.id, cron: `${minute} * * * *`, retain: 1 },
    });
    const whole = await tenant.create('snapshots', { name: 'whole', vm: vm.id });
    await phase('snapshots', whole.id, 'available');
    const copy = await tenant.create('volumes', { name: 'copy', size: '3GiB', source_volume: volume.id });
    await phase('volumes', copy.id, 'available');
    const own = await tenant.create('images', { name: 'own', volume: volume.id });
    await phase('images', own.id, 'available');
    const scheduled = async () =>
      (await tenant.list('snapshots')).filter((each) => each.name.startsWith('hourly-')).map(({ name }) => name);
    for (let passed = 0; passed < 3; passed++) {
      const before = await scheduled();
      nowMs += hourMs;
      await tenant.send('PATCH', `snapshot-schedules/${schedule.id}`, { description: `${passed}` });
      await until('the snapshot of the next hour', async () => {
        const names = await scheduled();
        return names.length === 1 && names[0] !== before[0];
      });
    }
    await tenant.send('PATCH', `vms/${vm.id}`, { power_state: 'stopped' });
    await phase('vms', vm.id, 'stopped');
    const restore = await tenant.send('POST', `vms/${vm.id}/restore`, { snapshot: whole.id });
    await until('the restore', async () =>
      ['succeeded', 'failed'].includes((await tenant.send('GET', `operations/${restore.body.id}`)).body.state),
    );
    await tenant.send('DELETE', `snapshot-schedules/${schedule.id}`);
  };
  let isOver = false;
  const steps = scripted().finally(() => {
    isOver = true;
  });
  steps.catch(() => undefined);
  for (let round = 0; round < rounds || !isOver; round++) {
    await servers.revive();
    const width = round < rounds ? 4 : 0;
    await Promise.all(Array.from({ length: width }, () => tenant.act()));
    if (width === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await steps;

  // The calm phase: all servers live, and everything goes.
  await servers.revive(true);
  await observer.catchUp();
  t.ok(observer.objects > 0);
  const plurals = ['images', 'vms', 'snapshots', 'volumes'];
  await until('everything is gone', async () => {
    let left = 0;
    for (const plural of plurals) {
      for (const { id } of (await tenant.list(plural)).filter(({ name }) => name !== 'demo')) {
        left++;
        await tenant.send('DELETE', `${plural}/${id}`);
      }
    }
    return left === 0;
  });
  for (const { id } of await tenant.list('networks')) await tenant.send('DELETE', `networks/${id}`);
  for (const { id } of await tenant.list('prefixes')) await tenant.send('DELETE', `prefixes/${id}`);
  await observer.catchUp();
  t.equal(observer.objects, 0);
  t.equal(observer.orders, 0, 'no order is left');
  t.strictSame(observer.violations.slice(0, 5), []);
  t.strictSame(servers.faults.slice(0, 5), []);
  const [deaths, losses] = [
    killable.reduce((sum, each) => sum + each.deaths, 0),
    killable.reduce((sum, each) => sum + each.losses, 0),
  ];
  t.ok(deaths > 0 && losses > 0 && observer.counts.changed > 0, 'servers died, and answers got lost');
  t.comment(JSON.stringify({ deaths, losses, ...observer.counts, codes: Object.fromEntries(servers.codes) }));
}

await onBothStores(t, 'orders and objects agree at each revision', async (t, fresh) => story(t, await fresh()));
