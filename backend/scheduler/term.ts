/**
 * One leader's time in office: keeps the accounts, decides for each VM that has changed, commits.
 *
 * It begins when the mirror shows the creation of its leader key. From then on nobody else can change placements, so
 * the accounts in memory, kept up by the mirror, are the truth plus what this term has under way. What is under way is
 * entered at once, so no two commits give the same room away; a VM with a commit under way is left alone until the
 * mirror shows the outcome.
 *
 * A commit that fails without answer may or may not have happened: the term ends, and the next one reads anew what is.
 */
import type { Id } from '../contract/fields.ts';
import { antiAffinityOf } from '../model/anti-affinity.ts';
import type { Logger } from '../model/component.ts';
import { HostPool } from '../model/host-pool.ts';
import { type Demand, explainLacking, type Given, lackingOn, type NoHost, type Resources } from '../model/placement.ts';
import { alive, hostPolicies, hosts, images, leaders, placements, reports, schedules, vms } from '../model/records.ts';
import { declaredResources } from '../model/vm-lifecycle.ts';
import type { Leadership } from '../store/leadership.ts';
import { maxOperations } from '../store/limits.ts';
import { isChangeOf, type Mirror, type MirrorBatch } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';
import { decide } from './plan.ts';
import { grant, isNews, note, type Part, place, refuse, release, type Seen } from './writes.ts';

/** What a scheduler leads, in `leader/`. */
export const task = 'scheduler';
const mostUnderWay = 4;
/** How long a reason may show old numbers. */
const refreshMs = 30_000;

export class Term {
  readonly #store: Store;
  readonly #mirror: Mirror;
  readonly #leadership: Leadership;
  readonly #logger: Logger;
  readonly #pool = new HostPool();
  /** To be decided. */
  readonly #dirty = new Set<Id<'vm'>>();
  /** With a commit under way; true if it changed meanwhile. */
  readonly #underWay = new Map<Id<'vm'>, boolean>();
  /** Without a host that fits. */
  readonly #waiting = new Set<Id<'vm'>>();
  /** To be looked at again in a while: those whose reason shows old numbers, and those that cannot be written. */
  readonly #outdated = new Set<Id<'vm'>>();
  /** The conditions of a VM that did not hold, until they do. */
  readonly #refused = new Map<Id<'vm'>, string>();
  /** To be committed alone, as one of its last company was out of date. */
  readonly #alone = new Set<Id<'vm'>>();
  /** What does not fit anywhere, until a host changes or room appears. */
  readonly #impossible = new Map<string, NoHost>();
  readonly #ending = new AbortController();
  readonly #commits = new Set<Promise<void>>();
  #failure: { readonly cause: unknown } | undefined;
  #wake: () => void = () => undefined;

  constructor(store: Store, mirror: Mirror, leadership: Leadership, logger: Logger) {
    this.#store = store;
    this.#mirror = mirror;
    this.#leadership = leadership;
    this.#logger = logger;
  }

  /** Resolves when the term is over: `signal` has aborted or the leadership is lost. Rejects with the store's errors. */
  async run(signal: AbortSignal): Promise<void> {
    const over = AbortSignal.any([signal, this.#leadership.lease.lost, this.#ending.signal]);
    if (!(await this.#mirror.waitFor(this.#leadership.revision, { signal: over }))) return;
    const unsubscribe = this.#mirror.subscribe((batch) => this.#changed(batch));
    const refresh = setInterval(() => this.#refresh(), refreshMs).unref();
    over.addEventListener('abort', () => this.#wake());
    try {
      for (const { id } of this.#mirror.list(hosts)) this.#setHost(id as Id<'host'>);
      for (const { id, value } of this.#mirror.list(placements)) this.#account(id, value);
      for (const { id } of this.#mirror.list(vms)) this.#dirty.add(id as Id<'vm'>);
      for (const { id } of this.#mirror.list(schedules)) this.#dirty.add(id as Id<'vm'>);
      while (!over.aborted) {
        this.#work();
        const woken = Promise.withResolvers<void>();
        this.#wake = woken.resolve;
        await woken.promise;
      }
    } finally {
      clearInterval(refresh);
      unsubscribe();
      // Who waits for the mirror to show a commit need not any more, and might for ever if the database is away.
      this.#ending.abort();
      await Promise.all(this.#commits);
    }
    if (this.#failure) throw this.#failure.cause;
  }

  #changed({ changes }: MirrorBatch): void {
    for (const change of changes) {
      if (isChangeOf(vms, change) || isChangeOf(schedules, change)) this.#touch(change.id as Id<'vm'>);
      else if (isChangeOf(reports, change)) this.#touch(change.id as Id<'vm'>);
      else if (isChangeOf(placements, change)) this.#account(change.id, change.stored?.value);
      else if (isChangeOf(hosts, change) || isChangeOf(hostPolicies, change) || isChangeOf(alive, change)) {
        this.#setHost(change.id as Id<'host'>);
        this.#reconsider(change.id);
        if (isChangeOf(hosts, change) && change.stored === undefined) {
          for (const { id, value } of this.#mirror.list(schedules)) if (value.host === change.id) this.#touch(id);
        }
      } else if (isChangeOf(images, change) && change.previous === undefined) this.#reconsider();
    }
    this.#wake();
  }

  #touch(vm: Id<'vm'>): void {
    if (this.#underWay.has(vm)) this.#underWay.set(vm, true);
    else this.#dirty.add(vm);
  }

  /** Those who wait may have a chance now, or at least another reason; so may those on the host who want more of it. */
  #reconsider(host?: Id<'host'>): void {
    this.#impossible.clear();
    for (const vm of this.#waiting) this.#touch(vm);
    if (host === undefined) return;
    for (const { id } of this.#mirror.list(placements, `${host}/`)) {
      const vm = id.slice(host.length + 1);
      if (this.#mirror.get(schedules, vm)?.value.reason !== undefined) this.#touch(vm);
    }
  }

  #refresh(): void {
    for (const vm of this.#outdated) this.#touch(vm);
    this.#outdated.clear();
    this.#impossible.clear();
    this.#wake();
  }

  #setHost(id: Id<'host'>): void {
    this.#pool.enter(
      id,
      this.#mirror.get(hosts, id)?.value,
      this.#mirror.get(hostPolicies, id)?.value,
      this.#mirror.get(alive, id) !== undefined,
    );
  }

  /** Enters a placement (id: `<host>/<vm>`) as the mirror shows it. */
  #account(id: string, given: Given | undefined): void {
    const [host = '', vm = ''] = id.split('/');
    const before = this.#pool.placement(host, vm);
    this.#pool.setPlacement(host, vm, given);
    const room =
      before && (!given || given.cpus < before.cpus || given.memory < before.memory || given.disk < before.disk);
    if (room) {
      this.#reconsider(host);
    }
    this.#touch(vm);
  }

  #work(): void {
    while (this.#dirty.size > 0 && this.#commits.size < mostUnderWay) {
      const parts: Part[] = [];
      // One condition is that the leadership holds.
      let conditions = 1;
      let writes = 0;
      const now = new Date();
      for (const id of this.#dirty) {
        this.#dirty.delete(id);
        if (this.#underWay.has(id)) {
          this.#underWay.set(id, true);
          continue;
        }
        const part = this.#partFor(id, now);
        if (part === undefined) continue;
        parts.push(part);
        this.#underWay.set(id, false);
        conditions += part.require.length;
        writes += part.write.length;
        // The largest part has five conditions and four writes.
        if (this.#alone.delete(id) || Math.max(conditions + 5, writes + 4) > maxOperations) break;
      }
      if (parts.length === 0) continue;
      const commit = this.#commit(parts).finally(() => {
        this.#commits.delete(commit);
        this.#wake();
      });
      this.#commits.add(commit);
    }
  }

  #partFor(id: Id<'vm'>, now: Date): Part | undefined {
    const mirror = this.#mirror;
    const schedule = mirror.get(schedules, id);
    const host = schedule?.value.host;
    const placement = host === undefined ? undefined : mirror.get(placements, `${host}/${id}`);
    const seen: Seen = { id, vm: mirror.get(vms, id), schedule, placement, report: mirror.get(reports, id) };
    const hostKnown = host !== undefined && mirror.get(hosts, host) !== undefined;
    const vm = seen.vm?.value;
    const decision = decide({
      vm,
      schedule: schedule?.value,
      placement: placement?.value,
      report: seen.report?.value,
      hostKnown,
    });
    this.#waiting.delete(id);
    switch (decision.do) {
      case 'nothing':
        return undefined;
      case 'release':
        return release(seen, hostKnown);
      case 'clear':
        return schedule && note({ ...seen, schedule }, undefined);
      case 'grant':
        return schedule && placement && this.#grant({ ...seen, schedule, placement }, decision);
      case 'place':
        return vm && this.#place(seen, vm, now);
    }
  }

  #place(seen: Seen, vm: NonNullable<Seen['vm']>['value'], now: Date): Part | undefined {
    const architecture = this.#mirror.get(images, vm.image)?.value.architecture;
    const wish = antiAffinityOf(vm);
    const given: Given = { ...declaredResources(vm), ...(wish && { anti_affinity: wish }) };
    const demand = architecture && { ...given, architecture };
    const host = demand && this.#find(demand);
    if (host !== undefined) {
      this.#pool.setPlacement(host, seen.id, given);
      return place(seen, vm, host, this.#mirror.get(hosts, host)?.value.name ?? host, given, now);
    }
    this.#waiting.add(seen.id);
    const why = demand ? this.#whyNot(demand) : { refusals: [], message: `its image ${vm.image} does not exist` };
    const schedule = seen.schedule?.value;
    const news = isNews(schedule, why);
    if (!news && schedule?.message === why.message) return undefined;
    if (!news && now.getTime() - Date.parse(schedule?.at ?? '') < refreshMs) {
      this.#outdated.add(seen.id);
      return undefined;
    }
    return refuse(seen, vm, why, now);
  }

  #find(demand: Demand): Id<'host'> | undefined {
    return this.#impossible.has(shape(demand)) ? undefined : this.#pool.find(demand);
  }

  #whyNot(demand: Demand): NoHost {
    const known = this.#impossible.get(shape(demand));
    if (known) return known;
    const why = this.#pool.explain(demand);
    this.#impossible.set(shape(demand), why);
    return why;
  }

  #grant(
    seen: Parameters<typeof grant>[0],
    { host, resources, more }: { host: Id<'host'>; resources: Resources; more: boolean },
  ): Part | undefined {
    const given = this.#pool.placement(host, seen.id) ?? seen.placement.value;
    const free = this.#pool.get(host)?.free;
    const lacking = lackingOn(free, given, resources);
    if (more && lacking.length > 0) {
      const message = explainLacking(lacking);
      return seen.schedule.value.message === message ? undefined : note(seen, message);
    }
    this.#pool.setPlacement(host, seen.id, { ...given, ...resources });
    return grant(seen, host, resources);
  }

  async #commit(parts: readonly Part[]): Promise<void> {
    try {
      const result = await this.#store.commit({
        require: [this.#leadership.holds, ...parts.flatMap(({ require }) => require)],
        write: parts.flatMap(({ write }) => write),
      });
      if (result.ok) {
        for (const { id } of parts) this.#refused.delete(id);
        await this.#mirror.waitFor(result.revision, { signal: this.#ending.signal });
      } else await this.#catchUp(parts);
    } catch (cause) {
      this.#failure ??= { cause };
      this.#ending.abort();
    } finally {
      for (const { id } of parts) {
        const changed = this.#underWay.get(id);
        this.#underWay.delete(id);
        if (changed) this.#dirty.add(id);
      }
    }
  }

  /** A condition did not hold: somebody else leads, or the mirror was behind for one of the VMs. */
  async #catchUp(parts: readonly Part[]): Promise<void> {
    const { entries, revision } = await this.#store.list(leaders.prefix);
    if (entries.find(({ key }) => key === leaders.prefix + task)?.revision !== this.#leadership.revision) {
      this.#logger.warn({}, 'another scheduler leads');
      this.#ending.abort();
      return;
    }
    await this.#mirror.waitFor(revision, { signal: this.#ending.signal });
    for (const { id, host, require } of parts) {
      if (host !== undefined) this.#pool.setPlacement(host, id, this.#mirror.get(placements, `${host}/${id}`)?.value);
      if (parts.length > 1) this.#alone.add(id);
      else if (this.#isUnreadable(id, require)) continue;
      this.#underWay.set(id, true);
    }
    // What was reserved has come free again.
    this.#reconsider();
  }

  /** Whether the same conditions are refused twice, of which the mirror, which is not behind, says that they hold. */
  #isUnreadable(id: Id<'vm'>, require: Part['require']): boolean {
    const conditions = JSON.stringify(require);
    if (this.#refused.get(id) !== conditions) {
      this.#refused.set(id, conditions);
      return false;
    }
    this.#logger.warn({ vm: id, refreshMs }, 'a record of the VM cannot be read; it is left as it is');
    this.#outdated.add(id);
    return true;
  }
}

const shape = ({ cpus, memory, disk, architecture, anti_affinity: wish }: Demand) =>
  `${cpus}/${memory}/${disk}/${architecture}${wish ? `/${wish.mode}/${wish.group}` : ''}`;
