/**
 * Asks the API, while Terraform plans, whether there is room for all planned objects together.
 *
 * Each question names all objects that were planned so far. A question also asks ahead: it ends with as many VMs again of
 * each size, which take no room from planned VMs. The answers for these hold for the next VMs of the size until the
 * next question. So a thousand VMs need about ten questions.
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
  /** The refusals of the next VMs of the size. */
  ahead: Refusal[][];
}

interface ProjectPlan {
  readonly sizes: Map<string, Size>;
  readonly counts: Map<CountedKind, number>;
  waiting: Waiting[];
  busy: boolean;
  /** The number of planned deletions that the latest answer counts. */
  deletions: number;
}

/** VMs in a question, with the refusals of each. */
interface Item {
  readonly vm: PlannedVm;
  readonly refusals: Refusal[][];
}

/** The minimum number of VMs that a question asks ahead for. */
const minAhead = 16;
/** Limits of the API. A larger plan is not checked to its end. */
const maxVms = 5000;
const maxItems = 1000;

const keyOf = (object: PlannedVm | CountedKind): string =>
  typeof object === 'string' ? object : JSON.stringify(object);
const noRefusals = (count: number): Refusal[][] => Array.from({ length: count }, () => []);

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
        plan = { sizes: new Map(), counts: new Map(), waiting: [], busy: false, deletions: 0 };
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

  /** Asks one question at a time, since each depends on the answer before it. */
  async #work(project: string, plan: ProjectPlan): Promise<void> {
    plan.busy = true;
    // Objects that Terraform plans at once become one question.
    await setImmediate();
    while (plan.waiting.length > 0) {
      const waiting = plan.waiting.splice(0).filter((one) => !this.#answerAhead(plan, one));
      try {
        if (waiting.length > 0) await this.#ask(project, plan, waiting);
      } catch (error) {
        for (const size of plan.sizes.values()) size.ahead = [];
        for (const { reject } of waiting) reject(error);
      }
    }
    plan.busy = false;
  }

  /** Answers from what was asked ahead. A refusal does not hold after further deletions. */
  #answerAhead(plan: ProjectPlan, { object, resolve }: Waiting): boolean {
    const size = plan.sizes.get(keyOf(object));
    const [next] = size?.ahead ?? [];
    if (!size || !next || (next.length > 0 && plan.deletions !== this.#deletions.size)) return false;
    size.ahead.shift();
    size.planned++;
    resolve(next);
    return true;
  }

  async #ask(project: string, plan: ProjectPlan, waiting: readonly Waiting[]): Promise<void> {
    for (const { object } of waiting) enter(plan, object);
    const { items, ahead } = this.#itemsOf(plan, new Set(waiting.map(({ object }) => keyOf(object))));
    const answer = await this.#askUntilDeletionsAreKnown(project, plan, [...items, ...ahead]);
    const planned = new Map<string, Refusal[][]>(items.map(({ vm, refusals }) => [keyOf(vm), refusals]));
    for (const [kind, count] of plan.counts) planned.set(kind, noRefusals(count));
    spread(answer, [...items, ...ahead], planned);
    for (const size of plan.sizes.values()) size.ahead = ahead.find(({ vm }) => vm === size.vm)?.refusals ?? [];
    // The objects that wait are the last of their size or kind.
    for (const { object, resolve } of waiting.toReversed()) resolve(planned.get(keyOf(object))?.pop() ?? []);
  }

  /** The sizes of new objects come last, so that a refusal meets them and no object that was planned before. */
  #itemsOf({ sizes }: ProjectPlan, newest: ReadonlySet<string>): { items: Item[]; ahead: Item[] } {
    const remaining = [...sizes].filter(([, { vm }]) => vm.vm === undefined || !this.#deletions.has(vm.vm));
    const items = remaining
      .toSorted(([a], [b]) => Number(newest.has(a)) - Number(newest.has(b)))
      .map(([, { vm, planned }]): Item => ({ vm, refusals: noRefusals(planned) }));
    const growing = [...sizes.values()].filter(({ vm }) => vm.vm === undefined);
    const spareVms = maxVms - items.reduce((sum, { refusals }) => sum + refusals.length, 0);
    const most = items.length + growing.length > maxItems ? 0 : Math.floor(spareVms / growing.length);
    const ahead = growing.map(({ vm, planned }): Item => {
      return { vm, refusals: noRefusals(Math.max(0, Math.min(most, Math.max(minAhead, planned)))) };
    });
    return { items, ahead: ahead.filter(({ refusals }) => refusals.length > 0) };
  }

  async #askUntilDeletionsAreKnown(
    project: string,
    plan: ProjectPlan,
    items: readonly Item[],
  ): Promise<Answer['refusals']> {
    const vms = items.reduce((sum, { refusals }) => sum + refusals.length, 0);
    if (items.length > maxItems || vms > maxVms) return [];
    for (let first = true; !this.#ended; first = false) {
      plan.deletions = this.#deletions.size;
      const refusals = await this.#request(project, plan, items);
      if (refusals.length > 0 && first) await deletionGrace();
      if (refusals.length === 0 || this.#deletions.size === plan.deletions) return refusals;
    }
    return [];
  }

  async #request(project: string, { counts }: ProjectPlan, items: readonly Item[]): Promise<Answer['refusals']> {
    const body: Partial<Question> = {
      project,
      vms: items.map(({ vm, refusals }) => ({ ...vm, count: refusals.length })),
      ...Object.fromEntries(counts),
      leaving: [...this.#deletions].slice(0, maxVms),
    };
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
  else sizes.set(key, { vm: object, planned: 1, ahead: [] });
}

/** Gives each refusal of the answer to the objects that it is about. */
function spread(answer: Answer['refusals'], items: readonly Item[], counted: ReadonlyMap<string, Refusal[][]>): void {
  for (const { pointer, first, count, reason, message } of answer) {
    const [, kind = '', index, field] = pointer.split('/');
    const objects = (kind === 'vms' ? items[Number(index)]?.refusals : counted.get(kind)) ?? [];
    // The last objects of a counted kind exceed the quota.
    const from = kind === 'vms' ? first : Math.max(0, objects.length - count);
    for (const refusals of objects.slice(from, from + count)) {
      refusals.push({ reason, message, ...(field !== undefined && { field }) });
    }
  }
}
