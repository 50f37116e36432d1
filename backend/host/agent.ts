/**
 * The agent of one host: makes the machine what the database says, VM by VM. Which step comes next is decided in
 * model/vm-lifecycle.ts, where states and invariants are described; vm-steps.ts carries it out; this file sees to it that
 * each VM is visited when something has changed, and tells what keeps failing.
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
import { placements, type ReportRecord, reports, type VmRecord, vms } from '../model/records.ts';
import { forOwner } from './failures.ts';
import type { ExitCause } from './hypervisor/hypervisor.ts';
import { NetworkSync } from './network-sync.ts';
import { advance, currentReport, event, reporting, type VmSight } from './reports.ts';
import { wantedNetworks } from './vm-spec.ts';
import { type Memory, mostRetryMs, VmSteps, type VmStepsOptions } from './vm-steps.ts';
import { WorkQueue } from './work-queue.ts';

export interface AgentOptions extends VmStepsOptions {
  readonly host: Id<'host'>;
  readonly restartableElsewhere: (vm: VmRecord) => boolean;
  /** The sign of life of this host has changed. */
  readonly onAlive: () => void;
}

/** Failures in a row after which a VM is called in error. It is tried on all the same. */
const failuresUntilError = 3;
const concurrency = 16;
const closeMs = 5_000;
const fencedMs = 1_000;
/** No VM needs so many steps in a row. */
const mostSteps = 32;

export class Agent {
  readonly #options: AgentOptions;
  readonly #memories = new Map<Id<'vm'>, Memory>();
  readonly #networks: NetworkSync;
  readonly #steps: VmSteps;
  readonly #queue: WorkQueue<Id<'vm'>>;
  readonly #ends: (() => void)[] = [];
  #closed = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#networks = new NetworkSync({
      logger: options.logger,
      wanted: () => wantedNetworks(options.view, options.host),
      set: (networks) => options.hypervisor.setNetworks(networks),
      retryMs: mostRetryMs,
    });
    this.#steps = new VmSteps(options, this.#networks, () => this.#closed);
    this.#queue = new WorkQueue(concurrency, (id) => this.#visit(id));
  }

  /** Adopts what runs, then follows the database. */
  async start(): Promise<void> {
    const { hypervisor, view, host } = this.#options;
    this.#ends.push(
      hypervisor.onExit((id, cause) => this.#exited(id, cause)),
      view.listen(host, {
        vm: (id) => this.#changed(id),
        networks: () => this.#networks.request(),
        alive: this.#options.onAlive,
      }),
    );
    for (const observed of await hypervisor.list()) this.#memory(observed.id).observed = observed;
    const ready = hypervisor.onReady?.((id, at) => {
      this.#memory(id).readyAt = at;
      this.#queue.add(id);
    });
    if (ready) this.#ends.push(ready);
    this.#networks.request();
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
    this.#networks.close();
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
        const outcome = await this.#steps.take(sight, memory);
        if (outcome.again) continue;
        // Nothing of it is here and nothing is to come.
        if (sight.placement === undefined && memory.observed === undefined) this.#memories.delete(id);
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
    await this.#steps.commit(
      reporting({ ...sight, placement }, { ...before, phase, reason, message }, now, {
        require: failed.require,
        write: [...write, ...failed.write],
      }),
    );
  }
}
