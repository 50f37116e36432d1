/**
 * The agent of one host. It brings each VM on the machine to the state that the database declares.
 * model/vm/lifecycle.ts decides the next step, and describes states and invariants. vm-steps.ts carries out the step.
 * This file visits each VM after a change, and reports repeated failures.
 *
 * Level-triggered: each visit compares the current state with the declared state and does the missing steps. So a visit
 * may be repeated, late or cut short. The agent may lose its memory (observed VMs, retry times).
 *
 * Orphans. The machine may have a VM that is not placed here. The agent destroys it if the database proves that it is
 * void: the VM is placed elsewhere with a newer fence, or this host has reported `gone`. Otherwise there is no such
 * proof: the database is empty or restored from an old backup, or the operator has removed this host. The agent then
 * leaves the VM alone, running or not, and logs a warning. `ucloud host clean` removes it. An unneeded VM does less
 * harm than a lost VM. The orphan has no network, because only networks of placed VMs exist.
 *
 * Self-fencing. After the lease of the host is lost, the scheduler may move some VMs to other hosts
 * (`restartableElsewhere`). The agent ends these VMs at once, without a grace period. The lease counts from the sending
 * of a renewal, so this host sees the loss before any other process. VMs with a local disk go on running. The agent
 * starts no VM without a lease.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { UcloudError } from '../contract/errors.ts';
import type { Id } from '../contract/fields.ts';
import { idFrom } from '../model/ids.ts';
import type { AnnouncementFacts } from '../model/network/announcements.ts';
import { interfaceAddresses } from '../model/network/interface-addresses.ts';
import { placementId } from '../model/placement/placement-id.ts';
import {
  networks,
  placements,
  type ReportRecord,
  reports,
  schedules,
  type VmRecord,
  vms,
} from '../model/records/index.ts';
import { isRestore } from '../model/vm/lifecycle.ts';
import { backoffMs } from '../store/backoff.ts';
import { BgpWork } from './bgp/bgp-work.ts';
import type { Bird } from './bgp/bird.ts';
import { fabricOf, routesOf } from './fabric.ts';
import { publicMessage } from './failures.ts';
import type { ExitCause } from './hypervisor/hypervisor.ts';
import type { NetworkSpec, SecuritySpec } from './hypervisor/specs.ts';
import { NetworkSync } from './network-sync.ts';
import { PoolReports } from './pool-reports.ts';
import { advanceOperations, currentReport, eventWrites, reportCommit, type VmSnapshot } from './reports.ts';
import { RestoreWork } from './restores.ts';
import { securityOf } from './security.ts';
import { SnapshotDeliveries } from './snapshot-deliveries.ts';
import { SnapshotWork } from './snapshots.ts';
import { requiredNetworks } from './vm-spec.ts';
import { maxRetryMs, type VmRuntime, VmSteps, type VmStepsOptions } from './vm-steps.ts';
import { VolumeFills } from './volume-fills.ts';
import { VolumeRemoval } from './volume-removal.ts';
import { WorkQueue } from './work-queue.ts';

/** Options of an agent. */
export interface AgentOptions extends VmStepsOptions {
  readonly host: Id<'host'>;
  /** Tells whether the scheduler may move the VM while this host is unreachable. */
  readonly restartableElsewhere: (vm: VmRecord) => boolean;
  /** The agent calls this when the `alive` key of this host has changed. */
  readonly onAlive: () => void;
  /** bird, and the address of the host on the underlay. Without them, the host announces nothing. */
  readonly bgp?: { readonly bird: Bird; readonly underlayAddress: string } | undefined;
}

/** The number of consecutive failures after which the agent reports the phase `error`. The agent still retries. */
const maxFailuresBeforeError = 3;
/** The maximum number of VMs that the agent works on at the same time. */
const maxConcurrentVisits = 16;
/** The maximum time that `close` waits for the current steps. */
const closeTimeoutMs = 5_000;
/** The interval between two visits of a fenced VM. */
const fencedRecheckMs = 1_000;
/** The maximum number of steps of one visit. No VM needs as many. */
const maxStepsPerVisit = 32;

/** The agent of one host. */
export class Agent {
  readonly #options: AgentOptions;
  readonly #runtimes = new Map<Id<'vm'>, VmRuntime>();
  readonly #networks: NetworkSync;
  #neededNetworks: NetworkSpec[] | undefined;
  #security: SecuritySpec = { groups: [], peers: [], interfaces: [] };
  readonly #steps: VmSteps;
  readonly #volumeRemoval: VolumeRemoval;
  readonly #poolReports: PoolReports;
  readonly #snapshotWork: SnapshotWork;
  readonly #volumeFills: VolumeFills;
  readonly #restoreWork: RestoreWork;
  readonly #snapshotDeliveries: SnapshotDeliveries;
  readonly #bgp: BgpWork;
  readonly #queue: WorkQueue<Id<'vm'>>;
  readonly #unsubscribers: (() => void)[] = [];
  #closed = false;
  /**
   * The agent knows which VMs run. Before that, it decides nothing: a running VM would count as stopped, with a report that
   * lets the VM start elsewhere.
   */
  #hasObserved = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#networks = new NetworkSync({
      logger: options.logger,
      required: () => this.#requiredNetworks(),
      fabric: (own) => options.underlay && fabricOf(options.view, options.host, options.underlay, own),
      routes: () => routesOf(options.view, options.host),
      security: () => {
        this.#security = securityOf(options.view, options.host, this.#security);
        return this.#security;
      },
      apply: (...declaration) => options.hypervisor.setNetworks(...declaration),
      retryMs: maxRetryMs,
    });
    this.#steps = new VmSteps(
      options,
      this.#networks,
      () => this.#closed,
      (id) => this.#queue.add(id),
      (runtime) => this.#withdraw(runtime),
    );
    this.#volumeRemoval = new VolumeRemoval(options);
    this.#poolReports = new PoolReports(options);
    this.#snapshotWork = new SnapshotWork(options);
    this.#volumeFills = new VolumeFills(options);
    this.#restoreWork = new RestoreWork(options);
    this.#snapshotDeliveries = new SnapshotDeliveries(options);
    this.#bgp = new BgpWork({ ...options, bgp: options.bgp, facts: (draining) => this.#announced(draining) });
    this.#queue = new WorkQueue(maxConcurrentVisits, (id) => this.#visit(id));
  }

  /** Adopts the running VMs, then follows the database. */
  async start(): Promise<void> {
    const { hypervisor, view, host } = this.#options;
    this.#unsubscribers.push(hypervisor.onExit((id, cause) => this.#exited(id, cause)));
    for (const observed of await hypervisor.list()) {
      const runtime = this.#runtime(observed.id);
      // The VM may have ended meanwhile.
      if (!runtime.ended) runtime.observed = observed;
    }
    this.#hasObserved = true;
    this.#unsubscribers.push(
      view.listen(host, {
        vm: (id) => this.#changed(id),
        volume: (id) => {
          this.#volumeRemoval.changed(id);
          this.#snapshotWork.volumeChanged(id);
          this.#volumeFills.changed(id);
        },
        snapshot: (id) => this.#snapshotWork.changed(id),
        pool: (id) => this.#poolReports.changed(id),
        networks: () => {
          this.#networks.request();
          // A network may have spread to another host, or left it.
          this.#bgp.changed();
        },
        bgp: () => this.#bgp.changed(),
        alive: this.#options.onAlive,
      }),
    );
    // Another agent of this host may have started before the view was listened to.
    this.#options.onAlive();
    const ready = hypervisor.onReady?.((id, at) => {
      this.#runtime(id).readyAt = at;
      this.#queue.add(id);
    });
    const others = hypervisor.onOtherAddresses?.((id, otherAddresses) => {
      const runtime = this.#runtime(id);
      if (runtime.otherAddresses === otherAddresses) return;
      runtime.otherAddresses = otherAddresses;
      this.#queue.add(id);
    });
    const agents = hypervisor.onGuestAgent((id, guestAgent) => {
      const runtime = this.#runtime(id);
      if (runtime.guestAgent === guestAgent) return;
      runtime.guestAgent = guestAgent;
      this.#queue.add(id);
    });
    this.#unsubscribers.push(agents, ...[ready, others].filter((end) => end !== undefined));
    this.#networks.request();
    this.#bgp.changed();
    this.visitAll();
  }

  /** Looks at a new volume, whose image has changed on this host. */
  visitVolume(id: Id<'volume'>): void {
    this.#volumeFills.changed(id);
  }

  /** Queues a visit of every VM that is known, placed here, or reported by this host. */
  visitAll(): void {
    const { view, host } = this.#options;
    for (const id of this.#runtimes.keys()) this.#queue.add(id);
    for (const id of view.placedOn(host)) this.#changed(id);
    for (const { id } of view.reportsBy(host)) this.#queue.add(idFrom('vm', id));
    this.#volumeRemoval.visitAll();
    this.#snapshotWork.visitAll();
    this.#volumeFills.visitAll();
    this.#snapshotDeliveries.visitAll();
    this.#poolReports.visitAll();
  }

  /** Queues a visit of the VM. */
  visit(id: Id<'vm'>): void {
    this.#queue.add(id);
  }

  /** Interrupts the current steps and visits the running VMs first, because the lease is lost. */
  fence(): void {
    for (const [id, { abort, observed }] of this.#runtimes) {
      abort?.abort();
      if (observed?.running) this.#queue.add(id);
    }
  }

  /** Stops the agent. VMs go on running. Interrupts the current steps where possible. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const end of this.#unsubscribers) end();
    for (const { abort } of this.#runtimes.values()) abort?.abort();
    this.#networks.close();
    // `close` does not wait for a slow guest. The next agent observes the result.
    await Promise.race([
      Promise.all([
        this.#queue.close(),
        this.#volumeRemoval.close(),
        this.#snapshotWork.close(),
        this.#volumeFills.close(),
        this.#restoreWork.close(),
        this.#snapshotDeliveries.close(),
        this.#poolReports.close(),
        this.#bgp.close(),
      ]),
      delay(closeTimeoutMs, undefined, { ref: false }),
    ]);
  }

  #runtime(id: Id<'vm'>): VmRuntime {
    const known = this.#runtimes.get(id);
    if (known) return known;
    const runtime: VmRuntime = {
      failures: 0,
      consecutiveExits: 0,
      startNotBeforeMs: 0,
      orphanLogged: false,
      mustObserve: false,
      exitedDuringStart: false,
    };
    this.#runtimes.set(id, runtime);
    this.#options.view.follow(id);
    return runtime;
  }

  #forget(id: Id<'vm'>): void {
    this.#runtimes.delete(id);
    this.#options.view.unfollow(id);
  }

  /** Ends the announcements of a VM before the VM ends. */
  async #withdraw(runtime: VmRuntime): Promise<void> {
    if (!runtime.observed?.running || runtime.withdrawn) return;
    runtime.withdrawn = true;
    await this.#bgp.withdraw();
  }

  /**
   * Returns the networks that the host needs. Until the records of all VMs here are known, it also needs those from before:
   * a network that is left out would be removed from running VMs.
   */
  #requiredNetworks(): NetworkSpec[] {
    const { view, host, underlay } = this.#options;
    const now = requiredNetworks(view, host, underlay);
    if (view.placedOn(host).every((id) => view.isKnown(id))) {
      this.#neededNetworks = now;
      return now;
    }
    if (this.#neededNetworks === undefined) throw new Error('the records of the VMs of this host are not known yet');
    const ids = new Set(now.map(({ id }) => id));
    return [...now, ...this.#neededNetworks.filter(({ id }) => !ids.has(id))];
  }

  /** Returns the facts about the running VMs for the announcements of this host. */
  #announced(draining: boolean): AnnouncementFacts {
    const { view, host } = this.#options;
    const macs = new Set<string>();
    const interfaces = [...this.#runtimes].flatMap(([id, { observed, withdrawn }]) => {
      const { vm, placement, report } = this.#snapshot(id);
      const runs = observed?.running && !withdrawn && placement !== undefined && report?.value.phase !== 'stopping';
      if (!runs || vm === undefined || vm.value.deleted_at !== undefined) return [];
      return vm.value.interfaces.flatMap((each) => {
        const { network, mac } = each;
        macs.add(mac);
        const cidr = view.mirror.get(networks, network)?.value.cidr;
        if (cidr === undefined) return [];
        const elsewhere = view.isElsewhere(network, host);
        return interfaceAddresses(each).map((address) => ({ cidr, address, elsewhere }));
      });
    });
    const prefixes = routesOf(view, host).flatMap(({ prefix, mac }) => (macs.has(mac) ? [prefix] : []));
    return { interfaces, prefixes, draining };
  }

  #changed(id: Id<'vm'>): void {
    const { mirror } = this.#options.view;
    const runtime = this.#runtimes.get(id);
    // The VM must not start any more, so the agent interrupts its start.
    const placed = mirror.get(placements, placementId(this.#options.host, id));
    // The machine may have files of a VM that has moved, which this agent has not seen. They are void.
    if (!placed && mirror.get(schedules, id)?.value.host !== undefined) this.#runtime(id).mustObserve = true;
    if (runtime?.abort && (!placed || mirror.get(vms, id)?.value.deleted_at !== undefined)) runtime.abort.abort();
    this.#restoreWork.changed(id);
    this.#queue.add(id);
  }

  #exited(id: Id<'vm'>, cause: ExitCause | undefined): void {
    const runtime = this.#runtime(id);
    runtime.observed = { id, running: false };
    runtime.ended = true;
    runtime.exited = true;
    runtime.exitedDuringStart = true;
    if (cause) runtime.exitCause = cause;
    this.#queue.add(id);
  }

  #snapshot(id: Id<'vm'>): VmSnapshot {
    const { view, host } = this.#options;
    return {
      id,
      host,
      vm: view.mirror.get(vms, id),
      placement: view.mirror.get(placements, placementId(host, id)),
      report: view.mirror.get(reports, id),
      operations: view.openOperations(id),
    };
  }

  /**
   * Takes the missing steps of the VM. Never rejects. Returns the delay in milliseconds until the next visit, if there
   * is one.
   */
  async #visit(id: Id<'vm'>): Promise<number | undefined> {
    // The start ends with a visit of all VMs.
    if (!this.#hasObserved) return undefined;
    const runtime = this.#runtime(id);
    try {
      if (runtime.mustObserve) await this.#observe(id, runtime);
      for (let steps = 0; steps < maxStepsPerVisit; steps++) {
        if (this.#closed) return undefined;
        const snapshot = this.#snapshot(id);
        if (await this.#enforceFence(snapshot, runtime)) return fencedRecheckMs;
        // A record that is not there may exist. The view tells when it knows the VM.
        if (!this.#options.view.isKnown(id)) return undefined;
        // No copy changes the disks of a guest that starts, or of a VM that is being removed.
        if (!this.#restores(snapshot)) await this.#restoreWork.ended(id);
        const outcome = await this.#steps.take(snapshot, runtime);
        if (outcome.again) continue;
        // The machine has nothing of the VM, and the VM is not placed here.
        if (snapshot.placement === undefined && runtime.observed === undefined) this.#forget(id);
        if (outcome.afterMs === undefined) runtime.failures = 0;
        return outcome.afterMs;
      }
      return this.#options.retryMs;
    } catch (err) {
      return this.#handleFailure(id, runtime, err);
    } finally {
      this.#bgp.changed();
    }
  }

  #restores({ vm, operations }: VmSnapshot): boolean {
    return vm?.value.deleted_at === undefined && operations.some(({ value }) => isRestore(value));
  }

  async #observe(id: Id<'vm'>, runtime: VmRuntime): Promise<void> {
    const observed = (await this.#options.hypervisor.list()).find((each) => each.id === id);
    if (observed) runtime.observed = observed;
    else delete runtime.observed;
    runtime.mustObserve = false;
  }

  /** Ends the VM if the lease is lost and the VM may start elsewhere. Returns true while the VM must stay off. */
  async #enforceFence({ id, vm }: VmSnapshot, runtime: VmRuntime): Promise<boolean> {
    const { lease, restartableElsewhere, logger, hypervisor } = this.#options;
    if (lease().valid || vm === undefined || !restartableElsewhere(vm.value)) return false;
    if (runtime.observed?.running) {
      logger.warn({ vm: id }, 'the lease of this host is lost; the agent ends the VM, because it may start elsewhere');
      await hypervisor.stop(id, 0);
      runtime.observed = { id, running: false };
    }
    return true;
  }

  // ---- failures
  // -------------------------------------------------------------------------------------------------------

  /** Logs and reports a failed step. Returns the delay until the retry, in milliseconds. */
  async #handleFailure(id: Id<'vm'>, runtime: VmRuntime, err: unknown): Promise<number> {
    const { logger, retryMs } = this.#options;
    runtime.mustObserve = true;
    if (this.#closed) return retryMs;
    const snapshot = this.#snapshot(id);
    // The agent has interrupted the step: the VM is deleted, or the lease was lost.
    if (err instanceof Error && err.name === 'AbortError') return 0;
    runtime.failures++;
    const delayMs = backoffMs(runtime.failures, { firstMs: retryMs, maxMs: maxRetryMs });
    logger.warn({ err, vm: id, failures: runtime.failures, retryMs: delayMs }, 'a step failed; the agent retries it');
    if (err instanceof UcloudError && err.code === 'store_unavailable') return delayMs;
    try {
      await this.#reportFailure(snapshot, runtime, err, delayMs);
    } catch (reportErr) {
      logger.warn({ err: reportErr, vm: id }, 'the agent could not report the failure');
    }
    return delayMs;
  }

  async #reportFailure(snapshot: VmSnapshot, { failures }: VmRuntime, err: unknown, delayMs: number): Promise<void> {
    const { placement, operations } = snapshot;
    if (placement === undefined) return;
    const reported: ReportRecord | undefined = currentReport(snapshot);
    const now = new Date();
    const cause = publicMessage(err);
    const seconds = Math.ceil(delayMs / 1000);
    const message = `${cause} (failed ${failures} times; next attempt in ${seconds} s)`;
    const persistent = failures >= maxFailuresBeforeError;
    const { host: _host, fence: _fence, at: _at, ...before } = reported ?? { phase: 'preparing' as const };
    const phase = persistent ? ('error' as const) : before.phase;
    const reason = 'step_failed';
    const write =
      persistent && reported?.phase !== 'error'
        ? eventWrites(snapshot, now, { severity: 'error', reason, message: cause })
        : [];
    const error = { code: 'internal', message: cause };
    const actions = operations.filter(({ value }) => !isRestore(value));
    const failed = persistent
      ? advanceOperations(actions, now, { state: 'failed', progress: 100, error })
      : { require: [], write: [] };
    await this.#steps.commit(
      reportCommit({ ...snapshot, placement }, { ...before, phase, reason, message }, now, {
        require: failed.require,
        write: [...write, ...failed.write],
      }),
    );
  }
}
