/**
 * Asks the API, while Terraform plans, whether there is room for all planned objects together.
 *
 * Each question names all objects that were planned so far, so a plan of 200 VMs needs about twenty questions.
 *
 * A deletion makes room. So before the check reports a refusal, it waits for deletions (deletions.ts). If the plan
 * contains new deletions by then, the check asks again.
 */
import { setImmediate } from 'node:timers/promises';
import type { Caller } from '../client/item.ts';
import { isNotFound } from '../client/problem.ts';
import type { components } from '../schema/api.gen.ts';
import type { countedKinds } from '../schema/resources.gen.ts';
import { deletionGrace } from './deletions.ts';

type Question = components['schemas']['CapacityCheck'];
type Answer = components['schemas']['CapacityCheckResult'];

/** A VM that the plan creates. With `vm`: the change of an existing VM. */
export type PlannedVm = Omit<Question['vms'][number], 'count'>;

/** A kind of objects of which the API counts only the number. */
export type CountedKind = (typeof countedKinds)[number];

/** The reason why an object has no room. */
export interface Refusal {
  readonly reason: Answer['refusals'][number]['reason'];
  readonly message: string;
  /** The field that asks for too much, if it is one field. */
  readonly field?: string;
}

/** An object that was planned, and the caller that waits for its refusals. */
interface Waiting {
  readonly object: PlannedVm | CountedKind;
  readonly resolve: (refusals: readonly Refusal[]) => void;
  readonly reject: (error: unknown) => void;
}

/** VMs of one size. */
interface Size {
  readonly vm: PlannedVm;
  planned: number;
}

interface ProjectPlan {
  readonly sizes: Map<string, Size>;
  readonly counts: Map<CountedKind, number>;
  waiting: Waiting[];
  busy: boolean;
}

/** Limits of the API. A larger plan is not checked to its end. */
const maxVms = 5000;
const maxItems = 1000;

const keyOf = (object: PlannedVm | CountedKind): string =>
  typeof object === 'string' ? object : JSON.stringify(object);

/** The capacity checks of one run. */
export class CapacityChecks {
  readonly #client: Caller;
  readonly #deletions: ReadonlySet<string>;
  readonly #projects = new Map<string, ProjectPlan>();
  #ended = false;

  constructor(client: Caller, deletions: ReadonlySet<string>) {
    this.#client = client;
    this.#deletions = deletions;
  }

  /** Returns the refusals of a planned object. @throws ApiError, ConnectionError */
  check(project: string, object: PlannedVm | CountedKind): Promise<readonly Refusal[]> {
    if (this.#ended) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      let plan = this.#projects.get(project);
      if (!plan) {
        plan = { sizes: new Map(), counts: new Map(), waiting: [], busy: false };
        this.#projects.set(project, plan);
      }
      plan.waiting.push({ object, resolve, reject });
      if (!plan.busy) void this.#work(project, plan);
    });
  }

  /** Ends all checks. An apply calls this: planned objects exist from then on, and must not count twice. */
  end(): void {
    this.#ended = true;
  }

  /** Asks one question at a time. Objects that Terraform plans meanwhile become the next question. */
  async #work(project: string, plan: ProjectPlan): Promise<void> {
    plan.busy = true;
    await setImmediate();
    while (plan.waiting.length > 0) {
      const waiting = plan.waiting.splice(0);
      try {
        await this.#ask(project, plan, waiting);
      } catch (error) {
        for (const { reject } of waiting) reject(error);
      }
    }
    plan.busy = false;
  }

  async #ask(project: string, plan: ProjectPlan, waiting: readonly Waiting[]): Promise<void> {
    for (const { object } of waiting) enter(plan, object);
    const sizes = this.#sizesOf(plan, new Set(waiting.map(({ object }) => keyOf(object))));
    const answer = await this.#askUntilDeletionsAreKnown(project, plan, sizes);
    const refusals = refusalsByKey(answer, sizes, plan.counts);
    // The objects that wait are the last of their size or kind.
    for (const { object, resolve } of waiting.toReversed()) resolve(refusals.get(keyOf(object))?.pop() ?? []);
  }

  /** The sizes of new objects come last, so that a refusal meets them and no object that was planned before. */
  #sizesOf({ sizes }: ProjectPlan, newest: ReadonlySet<string>): Size[] {
    return [...sizes]
      .filter(([, { vm }]) => vm.vm === undefined || !this.#deletions.has(vm.vm))
      .toSorted(([a], [b]) => Number(newest.has(a)) - Number(newest.has(b)))
      .map(([, size]) => size);
  }

  async #askUntilDeletionsAreKnown(
    project: string,
    { counts }: ProjectPlan,
    sizes: readonly Size[],
  ): Promise<Answer['refusals']> {
    const vms = sizes.reduce((sum, { planned }) => sum + planned, 0);
    if (sizes.length > maxItems || vms > maxVms) return [];
    for (let first = true; !this.#ended; first = false) {
      const known = this.#deletions.size;
      const refusals = await this.#request({
        project,
        vms: sizes.map(({ vm, planned }) => ({ ...vm, count: planned })),
        ...Object.fromEntries(counts),
        leaving: [...this.#deletions].slice(0, maxVms),
      });
      if (refusals.length > 0 && first) await deletionGrace();
      if (refusals.length === 0 || this.#deletions.size === known) return refusals;
    }
    return [];
  }

  async #request(body: Partial<Question>): Promise<Answer['refusals']> {
    try {
      const answer = await this.#client.call('POST', '/v1/capacity-checks', { body, retries: 0 });
      return (answer as Answer).refusals;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      // The API is older than this question.
      this.end();
      return [];
    }
  }
}

/** Counts the object as planned. */
function enter({ sizes, counts }: ProjectPlan, object: PlannedVm | CountedKind): void {
  if (typeof object === 'string') {
    counts.set(object, (counts.get(object) ?? 0) + 1);
    return;
  }
  const key = keyOf(object);
  const size = sizes.get(key);
  if (size) size.planned++;
  else sizes.set(key, { vm: object, planned: 1 });
}

/** Returns the refusals of each planned object, by size or kind and in the order of planning. */
function refusalsByKey(
  answer: Answer['refusals'],
  sizes: readonly Size[],
  counts: ReadonlyMap<CountedKind, number>,
): Map<string, Refusal[][]> {
  const none = (count: number): Refusal[][] => Array.from({ length: count }, () => []);
  const vms = sizes.map(({ planned }) => none(planned));
  const all = new Map<string, Refusal[][]>([...counts].map(([kind, count]) => [kind, none(count)]));
  for (const { pointer, first, count, reason, message } of answer) {
    const [, kind = '', index, field] = pointer.split('/');
    const objects = (kind === 'vms' ? vms[Number(index)] : all.get(kind)) ?? [];
    // The last objects of a counted kind exceed the quota.
    const from = kind === 'vms' ? first : Math.max(0, objects.length - count);
    for (const refusals of objects.slice(from, from + count)) {
      refusals.push({ reason, message, ...(field !== undefined && { field }) });
    }
  }
  for (const [index, { vm }] of sizes.entries()) all.set(keyOf(vm), vms[index] ?? []);
  return all;
}
