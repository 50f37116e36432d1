/**
 * Carries out the steps of a VM's life. model/vm/lifecycle.ts decides which step comes next. A step may fail or crash
 * at any point; the next decision starts from the new state. No step relies on its state in memory.
 */
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { guests, schedules, type VmRecord, vms } from '../model/records/index.ts';
import { heldInterfaces, withWanted } from '../model/vm/interfaces.ts';
import {
  grantPending,
  nextStep,
  otherAddressesReason,
  rebootAccepted,
  rebootRestarted,
  startResources,
} from '../model/vm/lifecycle.ts';
import { backoffMs } from '../store/backoff.ts';
import { read, unchanged } from '../store/collection.ts';
import type { Commit, Store } from '../store/store.ts';
import type { ExitCause, Hypervisor, ObservedVm } from './hypervisor/hypervisor.ts';
import type { Underlay } from './hypervisor/specs.ts';
import type { HostImages } from './images/host-images.ts';
import { type InterfaceRuntime, InterfaceSteps } from './interface-steps.ts';
import type { HostLease } from './lease.ts';
import type { NetworkSync } from './network-sync.ts';
import {
  advanceOperations,
  currentReport,
  eventWrites,
  guestReadyCommit,
  type PlacedVmSnapshot,
  type ReportFields,
  removeReport,
  reportCommit,
  type VmSnapshot,
} from './reports.ts';
import type { HostView } from './view.ts';
import { imageUnavailable, vmSpec } from './vm-spec.ts';
import { claimsOfStart, releasesOf, rootUnavailable, type VolumeQuestion, VolumeSteps } from './volume-steps.ts';

/** Options of `VmSteps`. */
export interface VmStepsOptions {
  readonly store: Store;
  readonly view: HostView;
  readonly logger: Logger;
  readonly hypervisor: Hypervisor;
  /** The images on this host. Without them, VMs need no files of images. */
  readonly images: Pick<HostImages, 'status'> | undefined;
  /** The link of this host to the others. */
  readonly underlay: Underlay | undefined;
  /** The host name of the machine, for event messages. */
  readonly name: string;
  readonly lease: () => Pick<HostLease, 'holds' | 'valid'>;
  /** The time in seconds that a guest has for its shutdown. */
  readonly graceSeconds: number;
  /** The delay before the first retry of a failed step. It doubles with each failure, up to one minute. */
  readonly retryMs: number;
}

/** The maximum delay before a retry. */
export const maxRetryMs = 60_000;
/** A guest that ran at least this long counts as stable, so its next restart has no delay. */
const stableMs = 60_000;
/**
 * The maximum time that a start waits for the scheduler to grant more resources. A running scheduler needs
 * milliseconds.
 */
const grantTimeoutMs = 3_000;

const otherAddresses = {
  reason: otherAddressesReason,
  message:
    'The guest uses other addresses than the declared ones, and the host drops its packets. The guest must form its addresses from the MAC address (SLAAC with modified EUI-64, no temporary addresses).',
} as const;

/** The agent's state of one VM in memory. */
export interface VmRuntime {
  /** The VM as the agent last saw it on the machine; undefined if the machine has nothing of it. */
  observed?: ObservedVm;
  /** Whether the guest uses other addresses than the VM declares. */
  otherAddresses?: boolean;
  /** Whether the guest agent has answered lately. */
  guestAgent?: boolean;
  /** The time at which a simulated guest became ready. */
  readyAt?: Date;
  exitCause?: ExitCause;
  /** The number of consecutive failures. */
  failures: number;
  /** The number of consecutive exits that the agent did not request. */
  consecutiveExits: number;
  /** The earliest time of the next start, on the clock of `performance.now()`. */
  startNotBeforeMs: number;
  orphanLogged: boolean;
  /** A call of the hypervisor failed, so the agent must observe the VM again. */
  mustObserve: boolean;
  /** The guest ended during its start. */
  exitedDuringStart: boolean;
  /** The host no longer announces the addresses of the VM, because it stops. */
  withdrawn?: boolean;
  /** The time until which a start waits for the scheduler, on the clock of `performance.now()`. */
  grantDeadlineMs?: number;
  /** The agent has seen that no process of the VM exists. An incomplete start leaves one that does not count as running. */
  ended?: boolean;
  /** The guest ended by itself, and nothing has been cleaned up after it. */
  exited?: boolean;
  /** The volumes of the running guest, as JSON of their specifications; undefined if the agent does not know them. */
  volumes?: string;
  /** The interfaces of the running guest. */
  interfaces?: InterfaceRuntime;
  /** The question to the guest about its volumes, and the latest answer. */
  question?: VolumeQuestion;
  /** The number of consecutive failures to set the volumes. */
  volumeFailures?: number;
  /** Interrupts the current start. */
  abort?: AbortController;
}

/** The result of a step: decide again at once, or stop for now, with an optional delay in milliseconds. */
export type StepOutcome = { readonly again: true } | { readonly again: false; readonly afterMs?: number };
/** The agent decides about the VM again at once. */
export const again: StepOutcome = { again: true };
/** No step is left until a record or the machine changes. */
export const done: StepOutcome = { again: false };

/** Returns the outcome with the earlier visit. */
function sooner(a: StepOutcome, b: StepOutcome): StepOutcome {
  if (a.again || b.again) return again;
  const times = [a.afterMs, b.afterMs].filter((each) => each !== undefined);
  return times.length === 0 ? done : { again: false, afterMs: Math.min(...times) };
}

/** Carries out the steps of the VMs of one host. */
export class VmSteps {
  readonly #options: VmStepsOptions;
  readonly #networks: NetworkSync;
  readonly #closed: () => boolean;
  readonly #volumes: VolumeSteps;
  readonly #interfaces: InterfaceSteps;
  readonly #withdraw: (runtime: VmRuntime) => Promise<void>;

  /**
   * @param closed tells whether the agent is closing; it then starts no guest
   * @param revisit queues a visit of the VM
   * @param withdraw ends the announcements of the VM's addresses, before the VM ends
   */
  constructor(
    options: VmStepsOptions,
    networks: NetworkSync,
    closed: () => boolean,
    revisit: (vm: Id<'vm'>) => void,
    withdraw: (runtime: VmRuntime) => Promise<void>,
  ) {
    this.#options = options;
    this.#networks = networks;
    this.#closed = closed;
    this.#withdraw = withdraw;
    this.#interfaces = new InterfaceSteps(options, networks, (commit) => this.commit(commit));
    this.#volumes = new VolumeSteps(options, (commit) => this.commit(commit), revisit);
  }

  /** Takes the next step of the VM. Rejects if the step fails. */
  async take(snapshot: VmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    const { host, vm, placement, report, operations } = snapshot;
    const step = nextStep({
      host,
      vm: vm?.value,
      placement: placement?.value,
      report: report?.value,
      observed: runtime.observed,
      otherAddresses: runtime.otherAddresses,
      guestAgent: runtime.guestAgent,
      operation: operations[0]?.value,
    });
    if (placement === undefined) {
      switch (step.do) {
        case 'resolve_orphan':
          return this.#resolveOrphan(snapshot, runtime);
        case 'remove_report':
          return this.commit(removeReport(snapshot));
        default:
          return done;
      }
    }
    const placed: PlacedVmSnapshot = { ...snapshot, placement };
    const now = new Date();
    switch (step.do) {
      case 'destroy':
        return this.#destroy(placed, runtime);
      case 'refuse_operation': {
        const error = { code: 'invalid_state', message: 'The VM is to be stopped.' };
        return this.commit(advanceOperations(operations, now, { state: 'failed', progress: 100, error }));
      }
      case 'begin_operation':
        return this.commit(
          advanceOperations(operations.slice(0, 1), now, { state: 'running', progress: rebootAccepted }),
        );
      case 'stop':
        return this.#stop(placed, runtime, step.force);
      case 'report_stopped': {
        const write = currentReport(placed)
          ? eventWrites(placed, now, { severity: 'info', reason: 'stopped', message: 'Stopped.' })
          : [];
        await this.#ensureEnded(placed.id, runtime);
        write.push(...releasesOf(this.#options.view, placed.id));
        return this.commit(reportCommit(placed, { phase: 'stopped' }, now, { write }));
      }
      case 'report_exit':
        return this.#reportExit(placed, runtime);
      case 'start':
        return this.#start(placed, runtime);
      case 'report_running':
        return this.#reportRunning(placed, runtime);
      default: {
        const running = runtime.observed?.running === true;
        const wired = running ? await this.#interfaces.take(placed, runtime) : done;
        if (wired.again) return wired;
        const outcome = sooner(wired, running ? await this.#volumes.take(placed, runtime) : done);
        if (outcome.again) return outcome;
        const ready = await this.#reportReady(placed, runtime);
        return ready.again ? ready : outcome;
      }
    }
  }

  /**
   * Commits, and waits until the mirror shows the commit. After a failed condition, it waits until the mirror is up to
   * date.
   */
  async commit(commit: Commit): Promise<StepOutcome> {
    const { store, view } = this.#options;
    const result = await store.commit(commit);
    if (result.ok) await view.mirror.waitFor(result.revision);
    else await view.mirror.catchUp();
    return again;
  }

  async #start(snapshot: PlacedVmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    const { hypervisor, lease, store, view } = this.#options;
    const { id, placement } = snapshot;
    if (snapshot.vm === undefined) return again;
    const vm = snapshot.vm;
    const waitMs = runtime.startNotBeforeMs - performance.now();
    if (waitMs > 0) return { again: false, afterMs: waitMs };
    const grantWaitMs = this.#grantWaitMs(snapshot, vm.value, runtime);
    if (grantWaitMs > 0) return { again: false, afterMs: grantWaitMs };
    const reported = currentReport(snapshot);
    const claims = claimsOfStart(view, snapshot, new Date());
    const blocked = (await imageUnavailable(this.#options, vm.value)) ?? rootUnavailable(view, vm.value, claims);
    if (blocked) {
      if (reported?.phase !== blocked.phase || reported.message !== blocked.message) {
        return this.commit(reportCommit(snapshot, blocked, new Date()));
      }
      return { again: false, afterMs: 5_000 };
    }
    if (reported?.phase !== 'preparing' && reported?.phase !== 'starting') {
      return this.commit(reportCommit(snapshot, { phase: 'preparing' }, new Date()));
    }

    const granted = startResources(vm.value, placement.value);
    const resources = { ...granted, disk: view.sizeBesideCopies(id, granted.disk) };
    const spec = vmSpec(view, vm.value, placement.value.fence, resources, claims.volumes, this.#options.underlay);
    const abort = new AbortController();
    runtime.abort = abort;
    try {
      await hypervisor.prepare(spec, abort.signal);
      await this.#networks.sync();
      const holds = lease().holds;
      // `visitAll` runs when the host has a lease again; the delay is only a fallback.
      if (holds === undefined) return { again: false, afterMs: 1_000 };
      const now = new Date();
      const generation = vm.value.generation;
      // A process of an earlier attempt may still have other interfaces.
      const interfaces = withWanted(reported?.interfaces ?? [], heldInterfaces(vm.value.interfaces));
      const started_at = now.toISOString();
      const starting: ReportFields = { phase: 'starting', generation, resources, started_at, interfaces };
      const restarts = snapshot.operations.filter(({ value }) => value.state === 'running');
      const restarted = advanceOperations(restarts, now, { state: 'running', progress: rebootRestarted });
      const commit = reportCommit(snapshot, starting, now, {
        require: [unchanged(vm), holds, ...restarted.require, ...claims.require],
        write: [...restarted.write, ...claims.write],
      });
      const result = await store.commit(commit);
      if (!result.ok) {
        await view.mirror.catchUp();
        return again;
      }
      await view.mirror.waitFor(result.revision);
      if (!lease().valid || this.#closed()) return { again: false, afterMs: 1_000 };
      delete runtime.exitCause;
      delete runtime.readyAt;
      delete runtime.otherAddresses;
      delete runtime.guestAgent;
      delete runtime.volumes;
      delete runtime.interfaces;
      delete runtime.ended;
      delete runtime.exited;
      delete runtime.withdrawn;
      runtime.exitedDuringStart = false;
      await hypervisor.start(spec, abort.signal);
      if (runtime.exitedDuringStart) throw new Error('the guest ended during its start');
      runtime.observed = { id, running: true, fence: spec.fence, generation, started_at };
      runtime.interfaces = { applied: JSON.stringify(spec.interfaces), held: heldInterfaces(vm.value.interfaces) };
      return again;
    } finally {
      delete runtime.abort;
    }
  }

  /** Returns the time in milliseconds that a start must still wait for the scheduler's decision about a growing VM. */
  #grantWaitMs({ id, placement }: PlacedVmSnapshot, vm: VmRecord, runtime: VmRuntime): number {
    const schedule = this.#options.view.mirror.get(schedules, id)?.value;
    if (!grantPending(vm, placement.value, schedule)) {
      delete runtime.grantDeadlineMs;
      return 0;
    }
    runtime.grantDeadlineMs ??= performance.now() + grantTimeoutMs;
    return runtime.grantDeadlineMs - performance.now();
  }

  async #reportRunning(snapshot: PlacedVmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    const { vm, operations } = snapshot;
    if (vm === undefined) return again;
    // A guest that was to stop goes on.
    delete runtime.withdrawn;
    const now = new Date();
    const before = currentReport(snapshot);
    const generation = before?.generation ?? runtime.observed?.generation;
    const started_at = before?.started_at ?? runtime.observed?.started_at ?? now.toISOString();
    const startedWith = {
      ...(generation !== undefined && { generation }),
      ...(before?.resources && { resources: before.resources }),
    };
    const others = runtime.otherAddresses === true;
    const reported: ReportFields = {
      phase: 'running',
      started_at,
      ...startedWith,
      ...(others && otherAddresses),
      ...(runtime.interfaces?.held && { interfaces: [...runtime.interfaces.held] }),
      ...(before?.interfaces_wait && { interfaces_wait: true }),
      ...((runtime.guestAgent ?? before?.guest_agent) && { guest_agent: true }),
    };
    const restarted = operations.filter(({ value }) => value.state === 'running' && value.progress >= rebootRestarted);
    const { require, write } = advanceOperations(restarted, now, { state: 'succeeded', progress: 100 });
    const message = `${restarted.length > 0 ? 'Rebooted' : 'Started'} on ${this.#options.name}.`;
    const started = before?.phase === 'starting' || before?.phase === 'error';
    if (started) write.push(...eventWrites(snapshot, now, { severity: 'info', reason: 'started', message }));
    if (others && before?.reason !== otherAddresses.reason) {
      write.push(...eventWrites(snapshot, now, { severity: 'warning', ...otherAddresses }));
    }
    return this.commit(reportCommit(snapshot, reported, now, { require, write }));
  }

  /** Records the readiness of a guest on a host without a metadata server. No other step is left. */
  async #reportReady(snapshot: PlacedVmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    const { id, report } = snapshot;
    const { readyAt } = runtime;
    if (readyAt === undefined || report?.value.phase !== 'running') return done;
    const started = Date.parse(report.value.started_at ?? '');
    const known = this.#options.view.mirror.get(guests, id)?.value.ready_at;
    if (known !== undefined && Date.parse(known) >= started) return done;
    return this.commit(guestReadyCommit({ ...snapshot, report }, new Date(Math.max(readyAt.getTime(), started))));
  }

  /** Makes sure that no process of the VM exists, so that its volumes are free. */
  async #ensureEnded(id: VmSnapshot['id'], runtime: VmRuntime): Promise<void> {
    // A guest that ended by itself has left its interfaces on the host.
    if (runtime.observed === undefined || (runtime.ended && !runtime.exited)) return;
    await this.#options.hypervisor.stop(id, 0);
    runtime.ended = true;
    delete runtime.exited;
  }

  async #stop(snapshot: PlacedVmSnapshot, runtime: VmRuntime, force: boolean): Promise<StepOutcome> {
    const { hypervisor, graceSeconds } = this.#options;
    const reported = currentReport(snapshot);
    if (reported?.phase !== 'stopping') {
      const { generation, resources, started_at } = reported ?? {};
      const keep = {
        ...(generation !== undefined && { generation }),
        ...(resources && { resources }),
        ...(started_at && { started_at }),
      };
      return this.commit(reportCommit(snapshot, { phase: 'stopping', ...keep }, new Date()));
    }
    await this.#withdraw(runtime);
    await hypervisor.stop(snapshot.id, force ? 0 : graceSeconds);
    runtime.observed = { id: snapshot.id, running: false };
    runtime.ended = true;
    runtime.consecutiveExits = 0;
    runtime.startNotBeforeMs = 0;
    delete runtime.exitCause;
    return again;
  }

  async #reportExit(snapshot: PlacedVmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    await this.#ensureEnded(snapshot.id, runtime);
    const started = Date.parse(currentReport(snapshot)?.started_at ?? '');
    const now = new Date();
    runtime.consecutiveExits = now.getTime() - started > stableMs ? 1 : runtime.consecutiveExits + 1;
    const delayMs =
      runtime.consecutiveExits === 1
        ? 0
        : backoffMs(runtime.consecutiveExits, { firstMs: this.#options.retryMs, maxMs: maxRetryMs });
    runtime.startNotBeforeMs = performance.now() + delayMs;
    const [reason, cause] =
      runtime.exitCause === 'guest_shutdown'
        ? ['guest_shutdown', 'The guest shut itself down']
        : [
            'crashed',
            runtime.exitCause ? 'The VM ended unexpectedly' : 'The VM ended while the host agent was not running',
          ];
    const message = `${cause}; the host starts it again${delayMs > 0 ? ` in ${Math.ceil(delayMs / 1000)} s` : ''}.`;
    const severity = reason === 'crashed' ? 'warning' : 'info';
    const write = eventWrites(snapshot, now, { severity, reason, message });
    write.push(...releasesOf(this.#options.view, snapshot.id));
    return this.commit(reportCommit(snapshot, { phase: 'stopped', reason, message }, now, { write }));
  }

  async #destroy(snapshot: PlacedVmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    const { store, hypervisor } = this.#options;
    const { id, operations } = snapshot;
    // The mirror may be behind, so a missing record must be missing in the database too. A record that cannot be read
    // is a failure.
    if (snapshot.vm === undefined && (await read(store, vms, id))) {
      await this.#options.view.mirror.catchUp();
      return again;
    }
    await this.#withdraw(runtime);
    if (this.#options.view.copiesOf(id).length > 0) {
      // The disk stays until its copies are complete, but the guest does not. The view reports the end of each copy.
      await this.#ensureEnded(id, runtime);
      return done;
    }
    await hypervisor.destroy(id);
    delete runtime.observed;
    const now = new Date();
    const error = { code: 'being_deleted', message: 'The VM was deleted.' };
    const { require, write } = advanceOperations(operations, now, { state: 'failed', progress: 100, error });
    write.push(
      ...eventWrites(snapshot, now, {
        severity: 'info',
        reason: 'torn_down',
        message: 'The host has removed everything of the VM.',
      }),
      ...releasesOf(this.#options.view, id),
    );
    await this.commit(reportCommit(snapshot, { phase: 'gone' }, now, { require, write }));
    this.#networks.request();
    return again;
  }

  async #resolveOrphan({ id, host, report }: VmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    const { store, view, hypervisor, logger } = this.#options;
    const schedule = (await read(store, schedules, id))?.value;
    if (schedule?.host === host) {
      await view.mirror.catchUp();
      return again;
    }
    const newer = schedule?.host !== undefined && schedule.fence > (runtime.observed?.fence ?? 0);
    const released = report?.value.host === host && report.value.phase === 'gone';
    if (newer || released) {
      await hypervisor.destroy(id);
      delete runtime.observed;
      return again;
    }
    if (!runtime.orphanLogged) {
      logger.warn(
        { vm: id, running: runtime.observed?.running },
        'this machine has a VM that the database does not place here; the agent leaves it alone (`ucloud host clean` removes it)',
      );
    }
    runtime.orphanLogged = true;
    return done;
  }
}
