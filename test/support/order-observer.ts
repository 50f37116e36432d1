/** Checks each revision of a database: each charged object has its order, and no use is lost or charged twice. */
import {
  type Chargeable,
  chargeableOf,
  chargeablePrefixes,
  isOrdered,
  type Metered,
  partKey,
  type RunningShape,
} from '../../backend/model/billing/meters.ts';
import * as records from '../../backend/model/records/index.ts';
import type { Batch, Change, Store } from '../../backend/store/store.ts';
import { until } from './eventually.ts';

const marker = 'test-markers/orders';
const prefixOf = (key: string): string => key.slice(0, key.indexOf('/') + 1);
const shown = (items: readonly Metered[]) =>
  items
    .map((item) => `${partKey(item)} ${item.quantity}`)
    .toSorted()
    .join();

interface Known {
  readonly charged: Map<string, Chargeable>;
  readonly orders: Map<string, records.OrderRecord>;
  readonly byObject: Map<string, Set<string>>;
}

/** Watches a database from the present on. */
export class OrderObserver {
  readonly violations: string[] = [];
  /** The numbers of commits that opened, changed and ended orders. */
  readonly counts = { opened: 0, changed: 0, ended: 0, uses: 0 };
  readonly #store: Store;
  readonly #stop = new AbortController();
  readonly #known: Known = { charged: new Map(), orders: new Map(), byObject: new Map() };
  /** The keys of records that never change. */
  readonly #fixed = new Set<string>();
  /** The end of the last use of each part of a meter, by resource. */
  readonly #ends = new Map<string, string>();
  #revision = 0;
  #working: Promise<void> = Promise.resolve();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Starts at the present revision of a database without objects. */
  async start(): Promise<this> {
    const { revision } = await this.#store.list(records.orders.prefix);
    const batches = this.#store.watch('', revision + 1, this.#stop.signal);
    this.#working = (async () => {
      for await (const batch of batches) {
        this.#see(batch);
        this.#revision = batch.revision;
      }
    })();
    return this;
  }

  get objects(): number {
    return this.#known.charged.size;
  }
  get orders(): number {
    return this.#known.orders.size;
  }

  /** Waits until all commits that are over are checked. */
  async catchUp(): Promise<void> {
    const result = await this.#store.commit({ write: [{ put: marker, value: '{}' }] });
    await until('the observer is up to date', () => result.ok && this.#revision >= result.revision);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#working;
  }

  /** The declarations of VMs, and the shapes that their guests have had. */
  readonly #declared = new Map<string, unknown>();
  readonly #shapes = new Map<string, RunningShape[]>();

  #fault(revision: number, text: string): void {
    this.violations.push(`revision ${revision}: ${text}`);
  }

  #see({ revision, changes }: Batch): void {
    const touched = new Set<string>();
    const before = new Map<string, records.OrderRecord>();
    const stored: records.UsageRecord[] = [];
    const ended = new Map<string, records.EndedOrderRecord>();
    for (const change of changes) {
      const key = change.type === 'put' ? change.entry.key : change.key;
      const value: unknown = change.type === 'put' ? JSON.parse(change.entry.value) : undefined;
      const prefix = prefixOf(key);
      const id = key.slice(prefix.length);
      if (String((value as { name?: unknown } | undefined)?.name).startsWith('dry-'))
        this.#fault(revision, `a dry run has written ${key}`);
      if (chargeablePrefixes.includes(prefix)) {
        touched.add(id);
        if (prefix === records.vms.prefix) this.#declared.set(id, value);
        const object = value === undefined ? undefined : chargeableOf(prefix, value);
        if (object) this.#known.charged.set(id, object);
        else this.#known.charged.delete(id);
      } else if (prefix === records.reports.prefix) {
        const { phase, resources } = (value ?? {}) as Partial<records.ReportRecord>;
        if (phase === 'running' && resources) this.#shapes.set(id, [...(this.#shapes.get(id) ?? []), resources]);
      } else if (prefix === records.orders.prefix)
        this.#order(id, value as records.OrderRecord | undefined, touched, before);
      else if (prefix === records.usage.prefix || prefix === records.endedOrders.prefix) {
        if (this.#fixed.has(key) || change.type === 'delete') this.#fault(revision, `${key} was there before`);
        this.#fixed.add(key);
        if (prefix === records.usage.prefix) stored.push(value as records.UsageRecord);
        else ended.set((value as records.EndedOrderRecord).id, value as records.EndedOrderRecord);
      }
    }
    for (const object of touched) this.#check(revision, object);
    this.#compare(revision, { before, stored, ended }, changes);
  }

  #order(
    id: string,
    next: records.OrderRecord | undefined,
    touched: Set<string>,
    before: Map<string, records.OrderRecord>,
  ) {
    const { orders, byObject } = this.#known;
    const previous = orders.get(id);
    if (previous) before.set(id, previous);
    const object = (next ?? previous)?.object;
    if (object !== undefined) {
      touched.add(object);
      const ids = byObject.get(object) ?? new Set();
      byObject.set(object, ids);
      if (next) ids.add(id);
      else ids.delete(id);
    }
    if (next) orders.set(id, next);
    else orders.delete(id);
    this.counts[next === undefined ? 'ended' : previous === undefined ? 'opened' : 'changed']++;
  }

  #check(revision: number, object: string): void {
    const { charged, orders, byObject } = this.#known;
    const quantities = charged.get(object)?.quantities;
    const open = [...(byObject.get(object) ?? [])].flatMap((id) => orders.get(id) ?? []);
    if (open.length !== (quantities ? 1 : 0)) this.#fault(revision, `${object} has ${open.length} orders`);
    const [order] = open;
    if (!order || !quantities) return;
    // A guest that runs keeps the larger shape. The server knows one of the reports so far.
    const declared = this.#declared.get(object);
    const shapes = declared === undefined ? [] : (this.#shapes.get(object) ?? []);
    const candidates = [
      quantities,
      ...shapes.map((shape) => chargeableOf(records.vms.prefix, declared, shape)?.quantities ?? []),
    ];
    const isRight = candidates.some(
      (each) => shown(order.use) === shown(each) && shown(order.items) === shown(each.filter(isOrdered)),
    );
    if (!isRight) this.#fault(revision, `the order of ${object} is ${shown(order.items)}, its use ${shown(order.use)}`);
    for (const { since, ...part } of order.use) {
      const end = this.#ends.get(`${object} ${partKey(part)}`);
      if (end !== undefined && since < end) this.#fault(revision, `${partKey(part)} of ${object} begins twice`);
    }
  }

  /** Each use that an order no longer has is stored in the same commit, and nothing else is. */
  #compare(
    revision: number,
    {
      before,
      stored,
      ended,
    }: {
      readonly before: ReadonlyMap<string, records.OrderRecord>;
      readonly stored: readonly records.UsageRecord[];
      readonly ended: ReadonlyMap<string, records.EndedOrderRecord>;
    },
    changes: readonly Change[],
  ): void {
    const { orders, byObject } = this.#known;
    const text = (resource: string, item: records.OrderRecord['use'][number]) =>
      `${resource} ${partKey(item)} ${item.quantity} ${item.since}`;
    const gone = [...before.values()].flatMap((order) => {
      const resource = order.object ?? order.id;
      const next = orders.get(order.id) ?? [...(byObject.get(resource) ?? [])].flatMap((id) => orders.get(id) ?? [])[0];
      const stays = new Set(next?.use.map((item) => text(resource, item)));
      return order.use.map((item) => text(resource, item)).filter((each) => !stays.has(each));
    });
    const noted = stored.flatMap(({ resource, uses }) => uses.map((item) => text(resource, item)));
    if (gone.toSorted().join() !== noted.toSorted().join())
      this.#fault(revision, `uses ended: ${gone.join()}; stored: ${noted.join()}; ${JSON.stringify(changes)}`);
    this.counts.uses += noted.length;
    for (const { resource, until, uses } of stored) {
      for (const item of uses) {
        if (item.since > until) this.#fault(revision, `a use of ${resource} ends before it begins`);
        this.#ends.set(`${resource} ${partKey(item)}`, until);
      }
    }
    const removed = [...before.keys()].filter((id) => !orders.has(id));
    if (removed.toSorted().join() !== [...ended.keys()].toSorted().join())
      this.#fault(revision, `orders removed: ${removed.join()}; ended: ${[...ended.keys()].join()}`);
  }
}
