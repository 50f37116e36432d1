/**
 * Asks the API whether there is room for all that is planned, while it is being planned.
 *
 * Terraform has objects planned one by one, up to `-parallelism` at once, and never says what else is in the plan. But
 * one client serves one walk over one plan. So what has been planned is remembered, and each question names all of it:
 * who comes later finds the room that is left.
 *
 * A thousand VMs are not as many questions. Objects that come together ask together, and equal VMs are one item. And each
 * question asks ahead: at its end, where it takes nothing away from what is planned, it names as many VMs again of each
 * size. What is said of those holds for the next ones, until there is another question.
 *
 * What the plan deletes or replaces makes room. Terraform plans deletions in no order that one could rely on: mostly at
 * once, as they depend on little. So before it is told that there is no room, a moment is left for deletions to be planned,
 * and if any were, it is asked again. Later ones cannot be known; the warning says so (derive/room.ts).
 *
 * When something is applied, the plan is over: from then on objects exist that were planned, and must not count twice.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { components } from '../schema/api.gen.ts';
import type { Caller } from './item.ts';
import { isNotFound } from './problem.ts';

type Check = components['schemas']['CapacityCheck'];
type Answer = components['schemas']['CapacityCheckResult'];
export type PlannedVm = Omit<Check['vms'][number], 'count'>;

/** What is counted by number alone. */
export const countedKinds = [
  'networks',
  'prefixes',
  'images',
  'ssh_keys',
  'tokens',
] as const satisfies readonly (keyof Check)[];
export type CountedKind = (typeof countedKinds)[number];

export interface Refusal {
  readonly reason: Answer['refusals'][number]['reason'];
  readonly message: string;
  /** The field that asks for too much, where it is one. */
  readonly field?: string;
}

interface Asking {
  readonly what: PlannedVm | CountedKind;
  readonly resolve: (refusals: readonly Refusal[]) => void;
  readonly reject: (error: unknown) => void;
}

/** VMs of one size. */
interface Size {
  readonly vm: PlannedVm;
  planned: number;
  /** What was said of the next ones. */
  ahead: Refusal[][];
}

interface ProjectPlan {
  readonly sizes: Map<string, Size>;
  readonly counts: Map<CountedKind, number>;
  asking: Asking[];
  busy: boolean;
}

/** One item of a question, and where to put what is said of each of its objects. */
interface Item {
  readonly vm: PlannedVm;
  readonly said: Refusal[][];
}

/** How long a question waits for company, in milliseconds: less than anybody notices. */
const batchWindowMs = 3;
/** How long deletions may take to be planned before it is told that there is no room, in milliseconds. */
const deletionGraceMs = 250;
/** VMs that are asked ahead for at least. */
const leastAhead = 16;
/** What the API takes; a larger plan is not checked to its end. */
const mostVms = 5000;
const mostItems = 1000;

const nothing = (count: number): Refusal[][] => Array.from({ length: count }, () => []);
const total = (items: readonly { readonly said: readonly unknown[] }[]): number =>
  items.reduce((sum, { said }) => sum + said.length, 0);

export class CapacityChecks {
  readonly #client: Caller;
  readonly #projects = new Map<string, ProjectPlan>();
  readonly #leaving = new Set<string>();
  #over = false;

  constructor(client: Caller) {
    this.#client = client;
  }

  /** What there is no room for of an object that is planned; nothing once something has been applied. */
  check(project: string, what: PlannedVm | CountedKind): Promise<readonly Refusal[]> {
    if (this.#over) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      let plan = this.#projects.get(project);
      if (!plan) {
        plan = { sizes: new Map(), counts: new Map(), asking: [], busy: false };
        this.#projects.set(project, plan);
      }
      plan.asking.push({ what, resolve, reject });
      if (!plan.busy) void this.#work(project, plan);
    });
  }

  /** Whether it is known already that it will be gone. */
  isLeaving(id: string): boolean {
    return this.#leaving.has(id);
  }

  /** The plan deletes or replaces it. */
  leaves(id: string): void {
    if (this.#leaving.has(id)) return;
    this.#leaving.add(id);
    // There may be room now for what was said to have none.
    for (const { sizes } of this.#projects.values()) {
      for (const size of sizes.values()) {
        const refused = size.ahead.findIndex((refusals) => refusals.length > 0);
        if (refused >= 0) size.ahead.splice(refused);
      }
    }
  }

  /** The plan is being applied. */
  end(): void {
    this.#over = true;
  }

  /** One question at a time: the next one has to know what was said. */
  async #work(project: string, plan: ProjectPlan): Promise<void> {
    plan.busy = true;
    while (plan.asking.length > 0) {
      if (plan.asking.every((one) => this.#foretold(plan, one) === undefined)) await sleep(batchWindowMs);
      const asking = plan.asking;
      plan.asking = [];
      const rest = asking.filter((one) => {
        const size = this.#foretold(plan, one);
        if (!size) return true;
        size.planned++;
        one.resolve(size.ahead.shift() ?? []);
        return false;
      });
      try {
        if (rest.length > 0) await this.#ask(project, plan, rest);
      } catch (error) {
        for (const { reject } of rest) reject(error);
      }
    }
    plan.busy = false;
  }

  /** The VMs of its size, if it is known what there is to say of the next one. */
  #foretold({ sizes }: ProjectPlan, { what }: Asking): Size | undefined {
    const size = typeof what === 'string' ? undefined : sizes.get(keyOf(what));
    return size && size.ahead.length > 0 ? size : undefined;
  }

  async #ask(project: string, plan: ProjectPlan, asking: readonly Asking[]): Promise<void> {
    const earlier = [...plan.sizes.values()]
      .filter(({ vm }) => vm.vm === undefined || !this.#leaving.has(vm.vm))
      .map(({ vm, planned }): Item => ({ vm, said: nothing(planned) }));
    const { items, said } = this.#enter(plan, asking);
    const sizes = [...plan.sizes.values()].filter(({ vm }) => vm.vm === undefined);
    const fitting = earlier.length + items.length + sizes.length <= mostItems;
    const spare = fitting ? Math.max(0, Math.floor((mostVms - total(earlier) - total(items)) / sizes.length)) : 0;
    for (const size of sizes) size.ahead = nothing(Math.min(spare, Math.max(leastAhead, size.planned)));
    const further = sizes.filter(({ ahead }) => ahead.length > 0).map(({ vm, ahead }): Item => ({ vm, said: ahead }));

    const vms = [...earlier, ...items, ...further];
    const tooLarge = vms.length > mostItems || total(vms) > mostVms;
    try {
      const refusals = tooLarge ? [] : await this.#insist(project, plan, vms);
      for (const { pointer, first, count, reason, message } of refusals) {
        const [, kind = '', index, field] = pointer.split('/');
        const places = kind === 'vms' ? vms[Number(index)]?.said : said.get(kind);
        // Of what is only counted, the last ones are those that were planned now.
        const from = kind === 'vms' ? first : Math.max(0, (places?.length ?? 0) - count);
        for (const place of places?.slice(from, from + count) ?? []) {
          place.push({ reason, message, ...(field !== undefined && { field }) });
        }
      }
    } catch (error) {
      for (const size of sizes) size.ahead = [];
      throw error;
    }
    const taken = new Map<string, number>();
    for (const { what, resolve } of asking) {
      const key = keyOf(what);
      const index = taken.get(key) ?? 0;
      taken.set(key, index + 1);
      resolve(said.get(key)?.[index] ?? []);
    }
  }

  /** Counts them as planned; they become items of their own, after those that were planned before. */
  #enter({ sizes, counts }: ProjectPlan, asking: readonly Asking[]) {
    const items: Item[] = [];
    const said = new Map<string, Refusal[][]>();
    for (const { what } of asking) {
      const key = keyOf(what);
      let places = said.get(key);
      if (!places) {
        places = [];
        said.set(key, places);
        if (typeof what !== 'string') items.push({ vm: what, said: places });
      }
      places.push([]);
      if (typeof what === 'string') counts.set(what, (counts.get(what) ?? 0) + 1);
      else sizes.set(key, { vm: what, planned: (sizes.get(key)?.planned ?? 0) + 1, ahead: [] });
    }
    return { items, said };
  }

  /** What is refused though all deletions count that were planned until a moment after the first answer. */
  async #insist(project: string, plan: ProjectPlan, items: readonly Item[]): Promise<Answer['refusals']> {
    for (let patient = true; !this.#over; patient = false) {
      const counted = this.#leaving.size;
      const refusals = await this.#request(project, plan, items);
      if (refusals.length > 0 && patient) await sleep(deletionGraceMs);
      if (refusals.length === 0 || this.#leaving.size === counted) return refusals;
    }
    return [];
  }

  async #request(project: string, { counts }: ProjectPlan, items: readonly Item[]): Promise<Answer['refusals']> {
    const body: Partial<Check> = {
      project,
      vms: items.map(({ vm, said }) => ({ ...vm, count: said.length })),
      ...Object.fromEntries(counts),
      leaving: [...this.#leaving].slice(0, mostVms),
    };
    try {
      const answer = await this.#client.call('POST', '/v1/capacity-checks', { body, retries: 0 });
      return (answer as Answer).refusals;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      // An API that does not know the question yet.
      this.end();
      return [];
    }
  }
}

const keyOf = (what: PlannedVm | CountedKind): string => (typeof what === 'string' ? what : JSON.stringify(what));
