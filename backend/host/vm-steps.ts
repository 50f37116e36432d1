/**
 * The steps of a VM's life, carried out: model/vm-lifecycle.ts decides which comes next, this file does it. Each step may
 * end anywhere and is decided anew from what is then; what a step remembers it can lose.
 */
import type { Logger } from '../model/component.ts';
import { guests, schedules, type VmRecord, vms } from '../model/records.ts';
import { grantAwaited, nextStep, rebootAccepted, rebootRestarted, startResources } from '../model/vm-lifecycle.ts';
import { read, unchanged } from '../store/collection.ts';
import type { Commit, Store } from '../store/store.ts';
import type { ExitCause, Hypervisor, ObservedVm } from './hypervisor/hypervisor.ts';
import type { HostLease } from './lease.ts';
import type { NetworkSync } from './network-sync.ts';
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
import { imageNotThere, specOf } from './vm-spec.ts';

export interface VmStepsOptions {
  readonly store: Store;
  readonly view: HostView;
  readonly logger: Logger;
  readonly hypervisor: Hypervisor;
  readonly name: string;
  readonly lease: () => Pick<HostLease, 'holds' | 'valid'>;
  /** How long a guest that is asked to shut down is waited for. */
  readonly graceSeconds: number;
  /** Wait before a failed step is tried again; doubles each time up to a minute. */
  readonly retryMs: number;
}

/** Longest wait before something is tried again. */
export const mostRetryMs = 60_000;
/** A guest that ran for so long before it ended counts as having run well. */
const stableMs = 60_000;
/** How long a start waits for the scheduler to decide about a VM that is to grow. It takes milliseconds, if it is there. */
const grantMs = 3_000;

/** What the agent remembers of a VM. */
export interface Memory {
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
  /** By performance.now(): how long a start waits for the scheduler. */
  grantBy?: number;
  abort?: AbortController;
}

/** The answer of a step: look again, or done for now, with the milliseconds after which to look again. */
export type Outcome = { readonly again: true } | { readonly again: false; readonly afterMs?: number };
export const again: Outcome = { again: true };
export const done: Outcome = { again: false };

export class VmSteps {
  readonly #options: VmStepsOptions;
  readonly #networks: NetworkSync;
  readonly #closed: () => boolean;

  /** @param closed whether the agent is closing: then nothing is started. */
  constructor(options: VmStepsOptions, networks: NetworkSync, closed: () => boolean) {
    this.#options = options;
    this.#networks = networks;
    this.#closed = closed;
  }

  /** Takes the next step. Rejects if it fails. */
  async take(sight: VmSight, memory: Memory): Promise<Outcome> {
    const { host, vm, placement, report, operations } = sight;
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
          return this.commit(forgetting(sight));
        default:
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
        return this.commit(advance(operations, now, { state: 'failed', progress: 100, error }));
      }
      case 'begin_operation':
        return this.commit(advance(operations.slice(0, 1), now, { state: 'running', progress: rebootAccepted }));
      case 'stop':
        return this.#stop(placed, memory, step.force);
      case 'report_stopped': {
        const write = currentReport(placed)
          ? event(placed, now, { severity: 'info', reason: 'stopped', message: 'Stopped.' })
          : [];
        return this.commit(reporting(placed, { phase: 'stopped' }, now, { write }));
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
  async commit(commit: Commit): Promise<Outcome> {
    const { store, view } = this.#options;
    const result = await store.commit(commit);
    if (result.ok) await view.mirror.waitFor(result.revision);
    else await view.catchUp();
    return again;
  }

  async #start(sight: Placed, memory: Memory): Promise<Outcome> {
    const { hypervisor, lease, store, view } = this.#options;
    const { id, placement } = sight;
    if (sight.vm === undefined) return again;
    const vm = sight.vm;
    const wait = memory.startNotBefore - performance.now();
    if (wait > 0) return { again: false, afterMs: wait };
    const grantWait = this.#grantWait(sight, vm.value, memory);
    if (grantWait > 0) return { again: false, afterMs: grantWait };
    const said = currentReport(sight);
    const blocked = await imageNotThere(this.#options, vm.value);
    if (blocked) {
      if (said?.phase !== blocked.phase || said.message !== blocked.message) {
        return this.commit(reporting(sight, blocked, new Date()));
      }
      return { again: false, afterMs: 5_000 };
    }
    if (said?.phase !== 'preparing' && said?.phase !== 'starting') {
      return this.commit(reporting(sight, { phase: 'preparing' }, new Date()));
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
      if (!lease().valid || this.#closed()) return { again: false, afterMs: 1_000 };
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

  /** For how many milliseconds a start has to wait until the scheduler has decided what a VM that is to grow gets. */
  #grantWait({ id, placement }: Placed, vm: VmRecord, memory: Memory): number {
    const schedule = this.#options.view.mirror.get(schedules, id)?.value;
    if (!grantAwaited(vm, placement.value, schedule)) {
      delete memory.grantBy;
      return 0;
    }
    memory.grantBy ??= performance.now() + grantMs;
    return memory.grantBy - performance.now();
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
    const said: Said = { phase: 'running', started_at, ...what };
    const restarted = operations.filter(({ value }) => value.state === 'running' && value.progress >= rebootRestarted);
    const { require, write } = advance(restarted, now, { state: 'succeeded', progress: 100 });
    const message = `${restarted.length > 0 ? 'Rebooted' : 'Started'} on ${this.#options.name}.`;
    const started = before?.phase === 'starting' || before?.phase === 'error';
    if (started) write.push(...event(sight, now, { severity: 'info', reason: 'started', message }));
    return this.commit(reporting(sight, said, now, { require, write }));
  }

  /** Nothing is left to do, except to record what a guest without a metadata server has said. */
  async #atRest(sight: Placed, memory: Memory): Promise<Outcome> {
    const { id, report } = sight;
    const { readyAt } = memory;
    if (readyAt === undefined || report?.value.phase !== 'running') return done;
    const started = Date.parse(report.value.started_at ?? '');
    const known = this.#options.view.mirror.get(guests, id)?.value.ready_at;
    if (known !== undefined && Date.parse(known) >= started) return done;
    return this.commit(guestReady({ ...sight, report }, new Date(Math.max(readyAt.getTime(), started))));
  }

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
      return this.commit(reporting(sight, { phase: 'stopping', ...keep }, new Date()));
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
    return this.commit(reporting(sight, { phase: 'stopped', reason, message }, now, { write }));
  }

  async #destroy(sight: Placed, memory: Memory): Promise<Outcome> {
    const { store, hypervisor } = this.#options;
    const { id, operations } = sight;
    // Not in the mirror must really mean not in the database; one that cannot be read is a failure.
    if (sight.vm === undefined && (await read(store, vms, id))) {
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
    await this.commit(reporting(sight, { phase: 'gone' }, now, { require, write }));
    this.#networks.request();
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
}
