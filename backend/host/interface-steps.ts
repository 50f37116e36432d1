/**
 * Gives interfaces to the running guests of one host, changes their addresses, and takes them away.
 *
 * The report of a VM lists the interfaces that the guest has or may have, with the addresses that it may use. The agent adds
 * to the list before the guest gets more, on the condition that the record of the VM is unchanged. It removes from the list
 * after the guest has lost something. The API keeps listed addresses taken, so no two guests ever have one address.
 *
 * A guest may keep a removed interface: it is in its firmware, it is paused, or it is hostile. The host drops the packets of
 * the interface at once, and asks the guest again and again. After a time limit the report says that the change waits for
 * the next start of the VM.
 */
import type { ReportRecord } from '../model/records/index.ts';
import {
  changingInterfaces,
  type HeldInterface,
  heldInterfaces,
  holdsInterfaces,
  withWanted,
} from '../model/vm/interfaces.ts';
import { backoffMs } from '../store/backoff.ts';
import { unchanged } from '../store/collection.ts';
import type { Commit } from '../store/store.ts';
import type { InterfaceOutcome } from './hypervisor/hypervisor.ts';
import type { NetworkSync } from './network-sync.ts';
import { currentReport, eventWrites, type PlacedVmSnapshot, reportCommit } from './reports.ts';
import { interfaceSpecs } from './vm-spec.ts';
import type { StepOutcome, VmRuntime, VmStepsOptions } from './vm-steps.ts';

/** The time in milliseconds after which a change counts as one that waits for the next start. */
const limitMs = 10_000;
/** The interval in milliseconds between the first two requests to release an interface. It doubles with each request. */
const releaseRetryMs = 1_000;
const maxReleaseRetryMs = 30_000;

/** The agent's state of the interfaces of a running guest, in memory. */
export interface InterfaceRuntime {
  /** The specifications that the guest has, as JSON; undefined while something is missing. */
  applied?: string;
  /** The interfaces of the guest, as far as the agent knows them. */
  held?: readonly HeldInterface[];
  /** The current change: its specifications as JSON, its begin on the clock of `performance.now()`, and the attempts. */
  change?: { readonly specs: string; readonly sinceMs: number; attempts: number };
}

const isEqual = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
const waits = {
  severity: 'warning',
  reason: 'interfaces_wait',
  message:
    'A change of the interfaces waits for the next start of the VM: the guest has not taken or released an interface.',
} as const;

/** Brings the interfaces of a running guest to the declared state. */
export class InterfaceSteps {
  readonly #options: VmStepsOptions;
  readonly #networks: NetworkSync;
  readonly #commit: (commit: Commit) => Promise<StepOutcome>;

  constructor(options: VmStepsOptions, networks: NetworkSync, commit: (commit: Commit) => Promise<StepOutcome>) {
    this.#options = options;
    this.#networks = networks;
    this.#commit = commit;
  }

  /** Takes the next step. The outcome is `done` if nothing is left to do. */
  async take(snapshot: PlacedVmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    const { id, vm } = snapshot;
    const report = currentReport(snapshot);
    if (vm === undefined || report?.phase !== 'running') return { again: false };
    runtime.interfaces ??= {};
    const state = runtime.interfaces;
    const { view, underlay, hypervisor, logger } = this.#options;
    const specs = interfaceSpecs(view, vm.value, underlay);
    const text = JSON.stringify(specs);
    if (state.applied === text) return { again: false };
    const wanted = heldInterfaces(vm.value.interfaces);
    if (report.interfaces !== undefined && !holdsInterfaces(report.interfaces, wanted)) {
      const interfaces = withWanted(report.interfaces, wanted);
      // The API frees removed interfaces by this report, so the declaration must still contain the new ones.
      return this.#report(snapshot, report, { interfaces }, { require: [unchanged(vm)] });
    }
    if (state.change?.specs !== text) state.change = { specs: text, sinceMs: performance.now(), attempts: 0 };
    const { change } = state;
    change.attempts++;
    let outcome: InterfaceOutcome;
    // Until the outcome is known, the guest has or may have what the report says.
    delete state.held;
    try {
      await this.#networks.sync();
      outcome = await hypervisor.setInterfaces(id, specs);
    } catch (err) {
      logger.warn({ err, vm: id }, 'the interfaces of a VM are not in their state; the agent retries');
      const isLate = performance.now() - change.sinceMs > limitMs;
      if (isLate && report.interfaces_wait !== true) return this.#report(snapshot, report, { interfaces_wait: true });
      return { again: false, afterMs: this.#retryMs(change.attempts) };
    }
    for (const [mac, err] of outcome.faults) {
      logger.warn({ err, vm: id, mac }, 'the guest does not get an interface; the agent retries');
    }
    // An interface that is missing may come at any time. Without it, each report would be followed by another one.
    const held = withWanted(outcome.interfaces, wanted);
    state.held = held;
    const isComplete = changingInterfaces(vm.value, held).length === 0;
    const isLate = !isComplete && (outcome.needsRestart || performance.now() - change.sinceMs > limitMs);
    // Nothing but a new start helps.
    if (isComplete || (outcome.needsRestart && outcome.faults.size === 0)) state.applied = text;
    const waiting = isLate || (!isComplete && report.interfaces_wait === true);
    const same = isEqual(report.interfaces, held) && (report.interfaces_wait === true) === waiting;
    if (!same) return this.#report(snapshot, report, { interfaces: [...held], interfaces_wait: waiting });
    if (state.applied === text) return { again: false };
    return { again: false, afterMs: this.#retryMs(change.attempts) };
  }

  #retryMs(attempts: number): number {
    return backoffMs(attempts, { firstMs: releaseRetryMs, maxMs: maxReleaseRetryMs });
  }

  #report(
    snapshot: PlacedVmSnapshot,
    report: ReportRecord,
    change: { readonly interfaces?: HeldInterface[]; readonly interfaces_wait?: boolean },
    more: Pick<Commit, 'require'> = {},
  ): Promise<StepOutcome> {
    const now = new Date();
    const { host: _host, fence: _fence, at: _at, interfaces_wait: before, ...fields } = report;
    const { interfaces_wait: wait = before, ...others } = change;
    const begins = wait === true && before !== true;
    const reported = { ...fields, ...others, ...(wait === true && { interfaces_wait: true }) };
    return this.#commit(
      reportCommit(snapshot, reported, now, { ...more, write: begins ? eventWrites(snapshot, now, waits) : [] }),
    );
  }
}
