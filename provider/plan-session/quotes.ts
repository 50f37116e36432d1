/**
 * The costs of objects by the prices of the API. Objects that Terraform plans at the same time become one request, and
 * the cost of equal objects is asked for once in a run.
 */
import { setImmediate } from 'node:timers/promises';
import type { Caller } from '../client/item.ts';
import { isNotFound } from '../client/problem.ts';
import type { components } from '../schema/api.gen.ts';

type Request = components['schemas']['Quote'];
type Result = components['schemas']['QuoteResult'];

/** The kinds of objects in a quote. */
export const quotedKinds = ['vms', 'volumes', 'snapshots', 'prefixes'] as const;
export type QuotedKind = (typeof quotedKinds)[number];

/** An object of a quote: its kind, and the fields that cost money. */
export interface PricedPart {
  readonly kind: QuotedKind;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The cost of an object, before VAT. */
export interface Cost {
  readonly currency: string;
  readonly monthly: string;
  readonly once: string;
}

interface Waiting {
  readonly part: PricedPart;
  readonly resolve: (cost: Cost | undefined) => void;
  readonly reject: (error: unknown) => void;
}

interface ProjectQuotes {
  readonly known: Map<string, Promise<Cost | undefined>>;
  waiting: Waiting[];
}

/** The maximum number of objects of one kind in a request. */
const maxItems = 1000;

/** Returns the body of a request with these parts. */
export function quoteBody(parts: readonly (PricedPart & { readonly count?: number })[]): Partial<Request> {
  const body: Record<string, object[]> = {};
  for (const { kind, fields, count = 1 } of parts) {
    const list = body[kind] ?? [];
    list.push(count === 1 ? fields : { ...fields, count });
    body[kind] = list;
  }
  return body as Partial<Request>;
}

/** Returns equal parts as one, with their number. */
export function counted(parts: readonly PricedPart[]): (PricedPart & { count: number })[] {
  const all = new Map<string, PricedPart & { count: number }>();
  for (const part of parts) {
    const key = JSON.stringify(part);
    const same = all.get(key);
    if (same) same.count += 1;
    else all.set(key, { ...part, count: 1 });
  }
  return [...all.values()];
}

/** The quotes of one run. */
export class Quotes {
  readonly #client: Caller;
  readonly #projects = new Map<string, ProjectQuotes>();
  /** The projects without prices. */
  readonly #free = new Set<string>();

  constructor(client: Caller) {
    this.#client = client;
  }

  /** Tells whether the project is known to have no prices. */
  isFree(project: string): boolean {
    return this.#free.has(project);
  }

  /** Returns the cost of an object; undefined if there are no prices. @throws ApiError, ConnectionError */
  of(project: string, part: PricedPart): Promise<Cost | undefined> {
    if (this.#free.has(project)) return Promise.resolve(undefined);
    let quotes = this.#projects.get(project);
    if (!quotes) {
      quotes = { known: new Map(), waiting: [] };
      this.#projects.set(project, quotes);
    }
    const { known, waiting } = quotes;
    const key = JSON.stringify(part);
    const before = known.get(key);
    if (before) return before;
    const asked = new Promise<Cost | undefined>((resolve, reject) => {
      waiting.push({ part, resolve, reject });
      if (waiting.length === 1) void this.#askSoon(project, quotes);
    });
    known.set(key, asked);
    asked.catch(() => known.delete(key));
    return asked;
  }

  /** Returns the cost of many objects together, which is rounded less often than the sum. Undefined without prices. */
  async total(project: string, parts: readonly PricedPart[]): Promise<Cost[]> {
    const all = counted(parts);
    const costs: Cost[] = [];
    for (let from = 0; from < all.length; from += maxItems) {
      const { currency, monthly, once } = await this.#request(project, quoteBody(all.slice(from, from + maxItems)));
      if (currency !== undefined) costs.push({ currency, monthly, once });
    }
    return costs;
  }

  async #askSoon(project: string, quotes: ProjectQuotes): Promise<void> {
    await setImmediate();
    for (const waiting of chunks(quotes.waiting.splice(0))) {
      try {
        const { currency, items } = await this.#request(project, quoteBody(waiting.map(({ part }) => part)));
        if (currency === undefined) this.#free.add(project);
        const costs = new Map(items.map(({ pointer, monthly, once }) => [pointer, { monthly, once }]));
        const places = new Map<QuotedKind, number>();
        for (const { part, resolve } of waiting) {
          const index = places.get(part.kind) ?? 0;
          places.set(part.kind, index + 1);
          const cost = costs.get(`/${part.kind}/${index}`);
          resolve(currency !== undefined && cost ? { currency, ...cost } : undefined);
        }
      } catch (error) {
        for (const { reject } of waiting) reject(error);
      }
    }
  }

  async #request(
    project: string,
    body: Partial<Request>,
  ): Promise<Pick<Result, 'currency' | 'items'> & Omit<Cost, 'currency'>> {
    try {
      return (await this.#client.call('POST', '/v1/quotes', { body: { project, ...body }, retries: 1 })) as Result;
    } catch (error) {
      // The API is older than quotes.
      if (isNotFound(error)) return { monthly: '0', once: '0', items: [] };
      throw error;
    }
  }
}

function chunks(waiting: readonly Waiting[]): Waiting[][] {
  const all: Waiting[][] = [];
  for (let from = 0; from < waiting.length; from += maxItems) all.push(waiting.slice(from, from + maxItems));
  return all;
}
