/**
 * The agent of one host: makes the machine what the database says, VM by VM. Which step comes next is decided in
 * model/vm-lifecycle.ts, where states and invariants are described; this file carries steps out.
 *
 * Level-triggered: each visit to a VM looks at what is and does what is left, so visits may be repeated, may come too
 * often or too late, and may end anywhere. What the agent keeps in memory (what runs, when to try again) it can lose.
 *
 * Remains. On the machine may be a VM that is not placed here. If the database says that it has been placed elsewhere
 * with a newer fence, or if this host has reported `gone`, what is here is void and is destroyed. Otherwise nobody has
 * ever said that it may go: the database was lost, or restored from an old backup, or the operator has removed this
 * host from it. Then it is left alone, running or not, a warning is logged, and `ucloud host clean` removes it when the
 * operator says so. To lose a VM because of an empty database would be worse than to keep one too many. It gets no
 * network meanwhile (only networks of placed VMs exist), so that it is in nobody's way.
 *
 * Self-fencing. When the lease of the host is lost, the scheduler may one day give its VMs to others. Those VMs for
 * which that is possible (`restartableElsewhere`) are ended at once, without grace: the lease counts from when a
 * renewal was sent, so it is lost here before anybody else sees it end. No VM with a local disk is among them; those go
 * on running. Nothing is started before there is a lease again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { guests, placements, type ReportRecord, reports, schedules, type VmRecord, vms } from '../model/records.ts';
import { nextStep, rebootAccepted, rebootRestarted, restartRequired, startResources } from '../model/vm-lifecycle.ts';
import { read, unchanged } from '../store/collection.ts';
import type { Commit, Store } from '../store/store.ts';
import { forOwner } from './failures.ts';
import type { ExitCause, Hypervisor, ObservedVm } from './hypervisor/hypervisor.ts';
import type { HostLease } from './lease.ts';
import { NetworkSync } from './network-sync.ts';
import {
  advance,
  currentReport,
  event,
  forgetting,
  guestReady,
  type Placed,
  reporting,
  type Said,
  type VmSight,
} from './reports.ts';
import type { HostView } from './view.ts';
import { imageNotThere, specOf, wantedNetworks } from './vm-spec.ts';
import { WorkQueue } from './work-queue.ts';

export interface AgentOptions {
  readonly store: Store;
  readonly view: HostView;
  readonly logger: Logger;
  readonly hypervisor: Hypervisor;
  readonly host: Id<'host'>;
  readonly name: string;
  readonly lease: () => Pick<HostLease, 'holds' | 'valid'>;
  /** How long a guest that is asked to shut down is waited for. */
  readonly graceSeconds: number;
  /** Wait before a failed step is tried again; doubles each time up to a minute. */
  readonly retryMs: number;
  readonly restartableElsewhere: (vm: VmRecord) => boolean;
  /** The sign of life of this host has changed. */
  readonly onAlive: () => void;
}

const mostRetryMs = 60_000;
/** A guest that ran for so long before it ended counts as having run well. */
const stableMs = 60_000;
/** Failures in a row after which a VM is called in error. It is tried on all the same. */
const failuresUntilError = 3;
const concurrency = 16;
const closeMs = 5_000;
const fencedMs = 1_000;
/** No VM needs so many steps in a row. */
const mostSteps = 32;

/** What the agent remembers of a VM. */
interface Memory {
  observed?: ObservedVm;
  readyAt?: Date;
  exitCause?: ExitCause;
  /** Failures of steps in a row. */
  failures: number;
  /** Unexpected ends in a row. */
  exits: number;
  /** By performance.now(). */
  startNotBefore: number;
  warned: boolean;
  /** A call of the hypervisor failed: what runs has to be asked anew. */
  uncertain: boolean;
  /** It ended while it was being started. */
  ended: boolean;
  abort?: AbortController;
}

/** The answer of a step: look again, or done for now, with the milliseconds after which to look again. */
type Outcome = { readonly again: true } | { readonly again: false; readonly afterMs?: number };
const again: Outcome = { again: true };
const done: Outcome = { again: false };

export class Agent {
  readonly #options: AgentOptions;
  readonly #memories = new Map<Id<'vm'>, Memory>();
  readonly #networks: NetworkSync;
  readonly #queue: WorkQueue<Id<'vm'>>;
  readonly #ends: (() => void)[] = [];
  #networkRetry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#networks = new NetworkSync(
      () => wantedNetworks(options.view, options.host),
      (wanted) => options.hypervisor.setNetworks(wanted),
    );
    this.#queue = new WorkQueue(concurrency, (id) => this.#visit(id));
  }

  /** Adopts what runs, then follows the database. */
  async start(): Promise<void> {
    const { hypervisor, view, host } = this.#options;
    this.#ends.push(
      hypervisor.onExit((id, cause) => this.#exited(id, cause)),
      view.listen(host, {
        vm: (id) => this.#changed(id),
        networks: () => this.#syncNetworks(),
        alive: this.#options.onAlive,
      }),
    );
    for (const observed of await hypervisor.list()) this.#memory(observed.id).observed = observed;
    const ready = hypervisor.onReady?.((id, at) => {
      this.#memory(id).readyAt = at;
      this.#queue.add(id);
    });
    if (ready) this.#ends.push(ready);
    this.#syncNetworks();
    this.visitAll();
  }

  visitAll(): void {
    const { view, host } = this.#options;
    for (const id of this.#memories.keys()) this.#queue.add(id);
    for (const id of view.placedOn(host)) this.#queue.add(id);
    for (const { id } of view.reportsBy(host)) this.#queue.add(id);
  }

  /** The lease is lost: visits that fence come before all others. */
  fence(): void {
    for (const [id, { abort, observed }] of this.#memories) {
      abort?.abort();
      if (observed?.running) this.#queue.add(id);
    }
  }

  /** VMs go on running. A step under way is broken off where it can be. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const end of this.#ends) end();
    for (const { abort } of this.#memories.values()) abort?.abort();
    clearTimeout(this.#networkRetry);
    // A guest that is slow to shut down is not waited for: the next agent sees how it ended.
    await Promise.race([this.#queue.close(), delay(closeMs, undefined, { ref: false })]);
  }

  #memory(id: Id<'vm'>): Memory {
    const known = this.#memories.get(id);
    if (known) return known;
    const memory: Memory = { failures: 0, exits: 0, startNotBefore: 0, warned: false, uncertain: false, ended: false };
    this.#memories.set(id, memory);
    return memory;
  }

  #changed(id: Id<'vm'>): void {
    const { mirror } = this.#options.view;
    const memory = this.#memories.get(id);
    // Whoever waits for a start to succeed waits in vain.
    const placed = mirror.get(placements, `${this.#options.host}/${id}`);
    if (memory?.abort && (!placed || mirror.get(vms, id)?.value.deleted_at !== undefined)) memory.abort.abort();
    this.#queue.add(id);
  }

  #exited(id: Id<'vm'>, cause: ExitCause | undefined): void {
    const memory = this.#memory(id);
    memory.observed = { id, running: false };
    memory.ended = true;
    if (cause) memory.exitCause = cause;
    this.#queue.add(id);
  }

  #sight(id: Id<'vm'>): VmSight {
    const { view, host } = this.#options;
    return {
      id,
      host,
      vm: view.mirror.get(vms, id),
      placement: view.mirror.get(placements, `${host}/${id}`),
      report: view.mirror.get(reports, id),
      operations: view.openOperations(id),
    };
  }

  /** Does what is left to do for the VM. Never rejects. */
  async #visit(id: Id<'vm'>): Promise<number | undefined> {
    const memory = this.#memory(id);
    try {
      if (memory.uncertain) await this.#observe(id, memory);
      for (let steps = 0; steps < mostSteps; steps++) {
        if (this.#closed) return undefined;
        const sight = this.#sight(id);
        if (await this.#fenced(sight, memory)) return fencedMs;
        const outcome = await this.#step(sight, memory);
        if (outcome.again) continue;
        if (outcome.afterMs === undefined) memory.failures = 0;
        return outcome.afterMs;
      }
      return this.#options.retryMs;
    } catch (err) {
      return this.#failed(id, memory, err);
    }
  }

  async #observe(id: Id<'vm'>, memory: Memory): Promise<void> {
    const observed = (await this.#options.hypervisor.list()).find((each) => each.id === id);
    if (observed) memory.observed = observed;
    else delete memory.observed;
    memory.uncertain = false;
  }

  /** Ends the VM if it may be started elsewhere soon, and answers whether it has to stay so. */
  async #fenced({ id, vm }: VmSight, memory: Memory): Promise<boolean> {
    const { lease, restartableElsewhere, logger, hypervisor } = this.#options;
    if (lease().valid || vm === undefined || !restartableElsewhere(vm.value)) return false;
    if (memory.observed?.running) {
      logger.warn({ vm: id }, 'the lease of this host is lost: ending the VM, as it may be started elsewhere');
      await hypervisor.stop(id, 0);
      memory.observed = { id, running: false };
    }
    return true;
  }

  async #step(sight: VmSight, memory: Memory): Promise<Outcome> {
    const { id, host, vm, placement, report, operations } = sight;
    const step = nextStep({
      host,
      vm: vm?.value,
      placement: placement?.value,
      report: report?.value,
      observed: memory.observed,
      operation: operations[0]?.value,
    });
    if (placement === undefined) {
      switch (step.do) {
        case 'judge_remains':
          return this.#judgeRemains(sight, memory);
        case 'forget':
          return this.#commit(forgetting(sight));
        default:
          this.#memories.delete(id);
          return done;
      }
    }
    const placed: Placed = { ...sight, placement };
    const now = new Date();
    switch (step.do) {
      case 'destroy':
        return this.#destroy(placed, memory);
      case 'refuse_operation': {
        const error = { code: 'invalid_state', message: 'The VM is to be stopped.' };
        return this.#commit(advance(operations, now, { state: 'failed', progress: 100, error }));
      }
      case 'begin_operation':
        return this.#commit(advance(operations.slice(0, 1), now, { state: 'running', progress: rebootAccepted }));
      case 'stop':
        return this.#stop(placed, memory, step.force);
      case 'report_stopped': {
        const write = currentReport(placed)
          ? event(placed, now, { severity: 'info', reason: 'stopped', message: 'Stopped.' })
          : [];
        return this.#commit(reporting(placed, { phase: 'stopped' }, now, { write }));
      }
      case 'report_exit':
        return this.#reportExit(placed, memory);
      case 'start':
        return this.#start(placed, memory);
      case 'report_running':
        return this.#reportRunning(placed, memory);
      default:
        return this.#atRest(placed, memory);
    }
  }

  /** Commits and waits until the mirror shows it. If a condition failed, the mirror was behind: it catches up. */
  async #commit(commit: Commit): Promise<Outcome> {
    const { store, view } = this.#options;
    const result = await store.commit(commit);
    if (result.ok) await view.mirror.waitFor(result.revision);
    else await view.catchUp();
    return again;
  }

  // ---- running --------------------------------------------------------------------------------------------------------

  async #start(sight: Placed, memory: Memory): Promise<Outcome> {
    const { hypervisor, lease, store, view } = this.#options;
    const { id, placement } = sight;
    if (sight.vm === undefined) return again;
    const vm = sight.vm;
    const wait = memory.startNotBefore - performance.now();
    if (wait > 0) return { again: false, afterMs: wait };
    const said = currentReport(sight);
    const blocked = await imageNotThere(this.#options, vm.value);
    if (blocked) {
      if (said?.phase !== blocked.phase || said.message !== blocked.message) {
        return this.#commit(reporting(sight, blocked, new Date()));
      }
      return { again: false, afterMs: 5_000 };
    }
    if (said?.phase !== 'preparing' && said?.phase !== 'starting') {
      return this.#commit(reporting(sight, { phase: 'preparing' }, new Date()));
    }

    const resources = startResources(vm.value, placement.value);
    const spec = specOf(view, vm.value, placement.value.fence, resources);
    const abort = new AbortController();
    memory.abort = abort;
    try {
      await hypervisor.prepare(spec, abort.signal);
      await this.#networks.sync();
      const holds = lease().holds;
      // Told when there is a lease again.
      if (holds === undefined) return { again: false, afterMs: 1_000 };
      const now = new Date();
      const generation = vm.value.generation;
      const starting: Said = { phase: 'starting', generation, resources, started_at: now.toISOString() };
      const restarts = sight.operations.filter(({ value }) => value.state === 'running');
      const restarted = advance(restarts, now, { state: 'running', progress: rebootRestarted });
      const commit = reporting(sight, starting, now, {
        require: [unchanged(vm), holds, ...restarted.require],
        write: restarted.write,
      });
      const result = await store.commit(commit);
      if (!result.ok) {
        await view.catchUp();
        return again;
      }
      await view.mirror.waitFor(result.revision);
      if (!lease().valid || this.#closed) return { again: false, afterMs: 1_000 };
      delete memory.exitCause;
      delete memory.readyAt;
      memory.ended = false;
      await hypervisor.start(spec, abort.signal);
      if (memory.ended) throw new Error('the guest ended as soon as it was started');
      memory.observed = { id, running: true, fence: spec.fence, generation, started_at: now.toISOString() };
      return again;
    } finally {
      delete memory.abort;
    }
  }

  async #reportRunning(sight: Placed, memory: Memory): Promise<Outcome> {
    const { vm, operations } = sight;
    if (vm === undefined) return again;
    const now = new Date();
    const before = currentReport(sight);
    const generation = before?.generation ?? memory.observed?.generation;
    const started_at = before?.started_at ?? memory.observed?.started_at ?? now.toISOString();
    const what = {
      ...(generation !== undefined && { generation }),
      ...(before?.resources && { resources: before.resources }),
    };
    const said: Said = { phase: 'running', started_at, ...what, restart_required: restartRequired(vm.value, what) };
    const restarted = operations.filter(({ value }) => value.state === 'running' && value.progress >= rebootRestarted);
    const { require, write } = advance(restarted, now, { state: 'succeeded', progress: 100 });
    const message = `${restarted.length > 0 ? 'Rebooted' : 'Started'} on ${this.#options.name}.`;
    const started = before?.phase === 'starting' || before?.phase === 'error';
    if (started) write.push(...event(sight, now, { severity: 'info', reason: 'started', message }));
    return this.#commit(reporting(sight, said, now, { require, write }));
  }

  /** Nothing is left to do, except to record what a guest without a metadata server has said. */
  async #atRest(sight: Placed, memory: Memory): Promise<Outcome> {
    const { id, report } = sight;
    const { readyAt } = memory;
    if (readyAt === undefined || report?.value.phase !== 'running') return done;
    const started = Date.parse(report.value.started_at ?? '');
    const known = this.#options.view.mirror.get(guests, id)?.value.ready_at;
    if (known !== undefined && Date.parse(known) >= started) return done;
    return this.#commit(guestReady({ ...sight, report }, new Date(Math.max(readyAt.getTime(), started))));
  }

  // ---- ending ---------------------------------------------------------------------------------------------------------

  async #stop(sight: Placed, memory: Memory, force: boolean): Promise<Outcome> {
    const { hypervisor, graceSeconds } = this.#options;
    const said = currentReport(sight);
    if (said?.phase !== 'stopping') {
      const { generation, resources, started_at } = said ?? {};
      const keep = {
        ...(generation !== undefined && { generation }),
        ...(resources && { resources }),
        ...(started_at && { started_at }),
      };
      return this.#commit(reporting(sight, { phase: 'stopping', ...keep }, new Date()));
    }
    await hypervisor.stop(sight.id, force ? 0 : graceSeconds);
    memory.observed = { id: sight.id, running: false };
    memory.exits = 0;
    memory.startNotBefore = 0;
    delete memory.exitCause;
    return again;
  }

  async #reportExit(sight: Placed, memory: Memory): Promise<Outcome> {
    const started = Date.parse(currentReport(sight)?.started_at ?? '');
    const now = new Date();
    memory.exits = now.getTime() - started > stableMs ? 1 : memory.exits + 1;
    const wait = memory.exits === 1 ? 0 : Math.min(mostRetryMs, this.#options.retryMs * 2 ** (memory.exits - 1));
    memory.startNotBefore = performance.now() + wait;
    const [reason, what] =
      memory.exitCause === 'guest_shutdown'
        ? ['guest_shutdown', 'The guest has shut itself down']
        : ['crashed', memory.exitCause ? 'It ended unexpectedly' : 'It ended while the agent of its host was away'];
    const message = `${what}; it is started again${wait > 0 ? ` in ${Math.ceil(wait / 1000)} s` : ''}.`;
    const severity = reason === 'crashed' ? 'warning' : 'info';
    const write = event(sight, now, { severity, reason, message });
    return this.#commit(reporting(sight, { phase: 'stopped', reason, message }, now, { write }));
  }

  async #destroy(sight: Placed, memory: Memory): Promise<Outcome> {
    const { store, hypervisor } = this.#options;
    const { id, operations } = sight;
    // Not in the mirror must really mean not in the database.
    if (sight.vm === undefined && (await store.get(vms.prefix + id))) {
      await this.#options.view.catchUp();
      return again;
    }
    await hypervisor.destroy(id);
    delete memory.observed;
    const now = new Date();
    const error = { code: 'being_deleted', message: 'The VM was deleted.' };
    const { require, write } = advance(operations, now, { state: 'failed', progress: 100, error });
    write.push(
      ...event(sight, now, { severity: 'info', reason: 'torn_down', message: 'Nothing of it is left on its host.' }),
    );
    await this.#commit(reporting(sight, { phase: 'gone' }, now, { require, write }));
    this.#syncNetworks();
    return again;
  }

  async #judgeRemains({ id, host, report }: VmSight, memory: Memory): Promise<Outcome> {
    const { store, view, hypervisor, logger } = this.#options;
    const schedule = (await read(store, schedules, id))?.value;
    if (schedule?.host === host) {
      await view.catchUp();
      return again;
    }
    const newer = schedule?.host !== undefined && schedule.fence > (memory.observed?.fence ?? 0);
    const released = report?.value.host === host && report.value.phase === 'gone';
    if (newer || released) {
      await hypervisor.destroy(id);
      delete memory.observed;
      return again;
    }
    if (!memory.warned) {
      logger.warn(
        { vm: id, running: memory.observed?.running },
        'this machine has a VM that the database does not place here; it is left alone (`ucloud host clean` removes it)',
      );
    }
    memory.warned = true;
    return done;
  }

  // ---- failures -------------------------------------------------------------------------------------------------------

  /** A step failed: says so, and answers when to try again. */
  async #failed(id: Id<'vm'>, memory: Memory, err: unknown): Promise<number> {
    const { logger, retryMs } = this.#options;
    memory.uncertain = true;
    if (this.#closed) return retryMs;
    const sight = this.#sight(id);
    // Broken off on purpose: the VM is deleted or the lease was lost.
    if (err instanceof Error && err.name === 'AbortError') return 0;
    memory.failures++;
    const wait = Math.min(mostRetryMs, retryMs * 2 ** (memory.failures - 1));
    logger.warn({ err, vm: id, failures: memory.failures, retryMs: wait }, 'a step failed, it is tried again');
    if (err instanceof UcloudError && err.code === 'store_unavailable') return wait;
    try {
      await this.#reportFailure(sight, memory, err, wait);
    } catch (reportErr) {
      logger.warn({ err: reportErr, vm: id }, 'the failure could not be reported');
    }
    return wait;
  }

  async #reportFailure(sight: VmSight, { failures }: Memory, err: unknown, wait: number): Promise<void> {
    const { placement, operations } = sight;
    if (placement === undefined) return;
    const said: ReportRecord | undefined = currentReport(sight);
    const now = new Date();
    const cause = forOwner(err);
    const seconds = Math.ceil(wait / 1000);
    const message = `${cause} (failed ${failures} times; tried again in ${seconds} s)`;
    const persistent = failures >= failuresUntilError;
    const { host: _host, fence: _fence, at: _at, ...before } = said ?? { phase: 'preparing' as const };
    const phase = persistent ? ('error' as const) : before.phase;
    const reason = 'step_failed';
    const write =
      persistent && said?.phase !== 'error' ? event(sight, now, { severity: 'error', reason, message: cause }) : [];
    const error = { code: 'internal', message: cause };
    const failed = persistent
      ? advance(operations, now, { state: 'failed', progress: 100, error })
      : { require: [], write: [] };
    await this.#commit(
      reporting({ ...sight, placement }, { ...before, phase, reason, message }, now, {
        require: failed.require,
        write: [...write, ...failed.write],
      }),
    );
  }

  #syncNetworks(): void {
    clearTimeout(this.#networkRetry);
    this.#networks.sync().catch((err: unknown) => {
      if (this.#closed) return;
      this.#options.logger.warn({ err }, 'the networks of this host could not be set, they are tried again');
      this.#networkRetry = setTimeout(() => this.#syncNetworks(), mostRetryMs).unref();
    });
  }
}
