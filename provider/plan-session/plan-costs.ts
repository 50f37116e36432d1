/**
 * The cost of the whole plan. Terraform plans objects one by one and announces no end. So the summary comes with the last
 * call of the plan: the call that ended last is held back until another one begins, or until none has run for 250 ms. At
 * most one call is held back, so large plans do not wait.
 *
 * Terraform does not plan objects that refer to a held one. VMs refer to most other objects, so no call is held back while
 * VMs of the configuration are missing. A plan that destroys all begins with the VMs, so it waits for all objects.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Caller } from '../client/item.ts';
import type { components } from '../schema/api.gen.ts';
import { amountOf, decimalsOf, textOf } from './amounts.ts';
import type { EarlierPhase } from './earlier-phases.ts';
import { type Cost, counted, type PricedPart, type Quotes, quoteBody } from './quotes.ts';

type Refusal = components['schemas']['CapacityCheckResult']['refusals'][number];

/** The time in milliseconds without a call after which the plan has probably ended. */
const quietMs = 250;
/** The number of summaries after which no further call is held back: Terraform then plans one object after the other. */
const maxSummaries = 3;

/** A planned object. `undefined` parts are known after the apply. */
interface Change {
  readonly project: string;
  readonly before: readonly PricedPart[];
  readonly after: readonly PricedPart[] | undefined;
  /** Another object takes the place of this one. */
  readonly replaced?: true;
}

/** The cost of the plan. */
export interface PlanSummary {
  /** `+42.10 CHF per month, 10.00 CHF once`. Undefined if the cost does not change. */
  readonly text: string | undefined;
  /** The number of planned objects whose cost is known after the apply. */
  readonly unknown: number;
  /** True for a summary after which no other one follows. */
  readonly last: boolean;
  /** The budgets that the plan exceeds. */
  readonly refusals: readonly Refusal[];
}

interface Sum {
  monthly: bigint;
  once: bigint;
  decimals: number;
}

/** The costs of one run. */
export class PlanCosts {
  readonly #client: Caller;
  readonly #quotes: Quotes;
  readonly #vmBlocks: number;
  readonly #pricedObjects: number;
  readonly #changes = new Map<string, Change>();
  readonly #known = new Map<string, { readonly project: string; readonly parts: readonly PricedPart[] }>();
  #created = 0;
  #plannedVms = 0;
  #destroyed = 0;
  /** The plan contains more than deletions. */
  #plansMore = false;
  #running = 0;
  #lastEnd = 0;
  #begun = 0;
  /** Ends the wait of the call that is held back. */
  #begin = new AbortController();
  #summaries = 0;
  #told = '';
  #ended = false;

  constructor(client: Caller, quotes: Quotes, { vmBlocks, pricedObjects }: EarlierPhase) {
    this.#client = client;
    this.#quotes = quotes;
    this.#vmBlocks = vmBlocks;
    this.#pricedObjects = pricedObjects;
  }

  /** Notes what an existing object consists of. */
  note(id: string, project: string, parts: readonly PricedPart[]): void {
    this.#known.set(id, { project, parts });
  }

  /** Notes that an instance of a block with VMs was planned. */
  planVm(): void {
    this.#plannedVms += 1;
  }

  /** Notes that an object with a price is planned to be destroyed. */
  planDestroy(): void {
    this.#destroyed += 1;
  }

  /** Notes a call that a plan to destroy everything does not make. */
  planOrRead(): void {
    this.#plansMore = true;
  }

  create(project: string, after: readonly PricedPart[] | undefined): void {
    this.#changes.set(`new ${this.#created++}`, { project, before: [], after });
  }

  change(id: string, project: string, before: readonly PricedPart[], after: readonly PricedPart[] | undefined): void {
    this.#changes.set(id, { project, before, after });
  }

  /** Notes a replacement: what is charged once is charged again. */
  replace(id: string, project: string, before: readonly PricedPart[], after: readonly PricedPart[] | undefined): void {
    this.#changes.set(id, { project, before, after, replaced: true });
  }

  /** Notes that the object is removed. Nothing is known about an object that was never read. */
  remove(id: string): void {
    const known = this.#known.get(id);
    if (known) this.#changes.set(id, { project: known.project, before: known.parts, after: [] });
  }

  /** Ends all summaries. An apply calls this. */
  end(): void {
    this.#ended = true;
    this.#begin.abort();
  }

  /** Runs a call of Terraform. Each call tells that the one before was not the last of the plan. */
  async during<T>(call: () => Promise<T>): Promise<T> {
    this.#running += 1;
    this.#begun += 1;
    this.#begin.abort();
    try {
      return await call();
    } finally {
      this.#running -= 1;
      this.#lastEnd = performance.now();
    }
  }

  /** Waits after a call until another one begins, and otherwise returns the summary. */
  async summary(): Promise<PlanSummary | undefined> {
    if (!this.#mayBeLast()) return undefined;
    const begun = this.#begun;
    // The call that was held back so far is not the last one.
    this.#begin.abort();
    this.#begin = new AbortController();
    const { signal } = this.#begin;
    do {
      await sleep(quietMs - (performance.now() - this.#lastEnd), undefined, { signal }).catch(() => undefined);
      if (signal.aborted || this.#ended) return undefined;
    } while (this.#running > 0 || performance.now() - this.#lastEnd < quietMs);
    const [text, refusals] = await Promise.all([this.#text(), this.#refusals()]);
    const unknown = [...this.#changes.values()].filter(({ after }) => after === undefined).length;
    const told = JSON.stringify([text, refusals]);
    // Another call may have begun meanwhile, which then ends with the summary.
    if (begun !== this.#begun || signal.aborted || told === this.#told || (text === undefined && refusals.length === 0))
      return undefined;
    this.#told = told;
    this.#summaries += 1;
    return { text, unknown, last: this.#summaries === maxSummaries, refusals };
  }

  #mayBeLast(): boolean {
    if (this.#ended || this.#summaries >= maxSummaries) return false;
    if (this.#plansMore ? this.#plannedVms < this.#vmBlocks : this.#destroyed < this.#pricedObjects) return false;
    return [...this.#changes.values()].some(
      ({ project, before, after, replaced }) =>
        !this.#quotes.isFree(project) && (replaced || JSON.stringify(before) !== JSON.stringify(after)),
    );
  }

  #byProject(): Map<string, Change[]> {
    const all = new Map<string, Change[]>();
    for (const change of this.#changes.values()) {
      if (change.after === undefined) continue;
      all.set(change.project, [...(all.get(change.project) ?? []), change]);
    }
    return all;
  }

  async #text(): Promise<string | undefined> {
    const sums = new Map<string, Sum>();
    const add = ({ currency, monthly, once }: Cost, sign: bigint) => {
      const sum = sums.get(currency) ?? { monthly: 0n, once: 0n, decimals: 0 };
      sum.monthly += sign * amountOf(monthly);
      sum.once += amountOf(once);
      sum.decimals = Math.max(sum.decimals, decimalsOf(monthly));
      sums.set(currency, sum);
    };
    for (const [project, changes] of this.#byProject()) {
      for (const cost of await this.#quotes.total(
        project,
        changes.flatMap(({ after }) => after ?? []),
      ))
        add({ ...cost, once: '0' }, 1n);
      for (const cost of await this.#quotes.total(
        project,
        changes.flatMap(({ before }) => before),
      ))
        add({ ...cost, once: '0' }, -1n);
      for (const { currency, once } of await this.#onceOf(project, changes)) add({ currency, monthly: '0', once }, 1n);
    }
    const words = [...sums].flatMap(([currency, { monthly, once, decimals }]) => [
      ...(monthly === 0n ? [] : [`${monthly < 0n ? '-' : '+'}${textOf(monthly, decimals)} ${currency} per month`]),
      ...(once === 0n ? [] : [`${textOf(once, decimals)} ${currency} once`]),
    ]);
    return words.length === 0 ? undefined : words.join(', ');
  }

  /** Returns what is charged once. A removal returns nothing of it. */
  async #onceOf(project: string, changes: readonly Change[]): Promise<{ currency: string; once: string }[]> {
    const costs = await Promise.all(
      changes.map(async ({ before, after, replaced }) => {
        const of = async (parts: readonly PricedPart[]) => {
          const all = await Promise.all(parts.map((part) => this.#quotes.of(project, part)));
          return { currency: all[0]?.currency, once: all.reduce((sum, each) => sum + amountOf(each?.once ?? '0'), 0n) };
        };
        const [old, next] = await Promise.all([of(replaced ? [] : before), of(after ?? [])]);
        return { currency: next.currency, once: next.once - old.once };
      }),
    );
    return costs.flatMap(({ currency, once }) =>
      currency !== undefined && once > 0n ? [{ currency, once: textOf(once, 0) }] : [],
    );
  }

  /** Returns the budgets that the plan exceeds. An API that cannot tell refuses nothing. */
  async #refusals(): Promise<readonly Refusal[]> {
    const answers = await Promise.all(
      [...this.#byProject()].map(async ([project, changes]) => {
        const added = quoteBody(counted(changes.flatMap(({ after }) => after ?? [])));
        const removed = quoteBody(counted(changes.flatMap(({ before }) => before)));
        return this.refusedCost(project, added, removed);
      }),
    );
    return answers.flat().filter(({ reason }) => reason === 'budget_exceeded');
  }

  /** Asks which rules of cost refuse these objects. @throws ApiError, ConnectionError */
  async refusedCost(project: string, added: object, removed: object = {}): Promise<readonly Refusal[]> {
    const body = { project, added, removed };
    const answer = await this.#client.call('POST', '/v1/capacity-checks', { body, retries: 0 });
    return (answer as components['schemas']['CapacityCheckResult']).refusals;
  }
}
