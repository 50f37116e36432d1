/**
 * Gives volumes to the running guests of one host, and takes them away.
 *
 * The report on an attachment means that the guest may have the volume. The agent writes it before it gives the volume to
 * the guest, on the condition that the attachment still exists. It removes the report after the guest has released the
 * volume or has ended. The collector of the API removes an attachment only without a report. So no two guests ever have
 * one volume.
 *
 * A running guest keeps a volume that is being detached while it uses it. The agent asks the guest again and again, beside
 * its visits of the VM, because the guest decides how long an answer takes.
 */
import type { Id } from '../contract/fields.ts';
import {
  type AttachmentReportRecord,
  attachmentReports,
  imageReports,
  images,
  type VmRecord,
  type VolumeAttachmentRecord,
  type VolumePlacementRecord,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { poolOf } from '../model/storage/pool.ts';
import { imageWait, sourceOf } from '../model/storage/volume-source.ts';
import {
  type AttachmentFacts,
  type VolumeOutcome,
  type VolumeSpec,
  type VolumeUses,
  volumeSpec,
} from '../model/vm/volumes.ts';
import { backoffMs } from '../store/backoff.ts';
import { absent, put, remove, unchanged } from '../store/collection.ts';
import type { Stored } from '../store/record-kind.ts';
import type { Commit, Condition, Write } from '../store/store.ts';
import { publicMessage } from './failures.ts';
import { poolSpec } from './pool-spec.ts';
import type { PlacedVmSnapshot } from './reports.ts';
import type { HostView } from './view.ts';
import type { StepOutcome, VmRuntime, VmStepsOptions } from './vm-steps.ts';

/** The interval in milliseconds between two requests to release a volume. */
const releaseRetryMs = 2_000;
const maxRetryMs = 60_000;
/** The interval in milliseconds between two questions whether the guest still uses a volume that is being detached. */
const questionIntervalMs = 3_000;

/** A question to a guest about volumes that are being detached. */
export interface VolumeQuestion {
  /** The volumes, as JSON. */
  readonly volumes: string;
  /** The time of the answer, on the clock of `performance.now()`. */
  answeredMs: number;
  /** Undefined while the guest has not answered; null without a guest agent. */
  answer?: VolumeUses | null;
}

interface Attached extends AttachmentFacts {
  readonly stored: Stored<VolumeAttachmentRecord>;
  readonly placed: Stored<VolumePlacementRecord> | undefined;
  /** The report of the current placement. */
  readonly claim: Stored<AttachmentReportRecord> | undefined;
  /** The volume for the guest; undefined if the guest must not have it. */
  readonly spec: VolumeSpec | undefined;
  /** The use of a volume that is being detached; null without a guest agent, undefined while the agent does not know. */
  readonly use?: string | null;
}

/** Tells whether the guest keeps a volume that is being detached. */
const isKept = ({ attachment, spec, claim }: Attached): boolean =>
  attachment.deleted_at !== undefined && spec !== undefined && claim !== undefined;

/** Returns the attachments of the VM with their records, in the order of their slots. */
function attachmentsOf(view: HostView, { id, host, placement }: PlacedVmSnapshot): Attached[] {
  const { mirror } = view;
  return view
    .attachmentsOf(id)
    .map((stored): Attached => {
      const { volume } = stored.value;
      const placed = mirror.get(volumePlacements, volume);
      const claim = mirror.get(attachmentReports, stored.id);
      const record = mirror.get(volumes, volume)?.value;
      const facts: AttachmentFacts = {
        attachment: stored.value,
        volume: record,
        placement: placed && { ...placed.value, size: view.sizeBesideCopies(volume, placed.value.size) },
        // A scheduler of an earlier version writes placements without a pool.
        pool: record && poolSpec(mirror, poolOf(record), host),
        report: claim?.value,
        data: mirror.get(volumeReports, volume)?.value,
      };
      const current = claim?.value.host === host && claim.value.fence === placement.value.fence;
      return { ...facts, stored, placed, claim: current ? claim : undefined, spec: volumeSpec(facts, host) };
    })
    .sort((a, b) => a.attachment.slot - b.attachment.slot);
}

const reportWrite = (
  { host, placement }: PlacedVmSnapshot,
  { stored }: Attached,
  phase: AttachmentReportRecord['phase'],
  now: Date,
  message?: string,
  reason?: string,
): Write =>
  put(attachmentReports, stored.id, {
    host,
    fence: placement.value.fence,
    phase,
    ...(reason !== undefined && { reason }),
    ...(message !== undefined && { message }),
    at: now.toISOString(),
  });

/** The volumes of a start, with the conditions and writes that claim them. */
export interface VolumeClaims {
  readonly volumes: readonly VolumeSpec[];
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
}

/** Returns the conditions that the attachment exists, and that the volume stays on this host. */
const unchangedRecords = ({ stored, placed }: Attached): Condition[] => [
  unchanged(stored),
  ...(placed ? [unchanged(placed)] : []),
];

/** Returns the volumes for a guest that starts, or those of them that `isWanted` selects. */
export function claimsOfStart(
  view: HostView,
  snapshot: PlacedVmSnapshot,
  now: Date,
  isWanted: (spec: VolumeSpec) => boolean = () => true,
): VolumeClaims {
  const wanted = attachmentsOf(view, snapshot).filter(({ spec }) => spec !== undefined && isWanted(spec));
  return {
    volumes: wanted.flatMap(({ spec }) => spec ?? []),
    require: wanted.flatMap(unchangedRecords),
    write: wanted.map((each) => reportWrite(snapshot, each, 'attaching', now)),
  };
}

/** Returns the report of a VM that cannot start because its root volume is not ready; undefined if it is. */
export function rootUnavailable(
  { mirror }: HostView,
  { root_volume: root }: VmRecord,
  { volumes: claimed }: VolumeClaims,
): { readonly phase: 'preparing'; readonly reason: string; readonly message: string } | undefined {
  if (root === undefined || claimed.some(({ id }) => id === root)) return undefined;
  const volume = mirror.get(volumes, root)?.value;
  const { size = 0, message: refusal } = mirror.get(volumePlacements, root)?.value ?? {};
  const source = volume && sourceOf(volume);
  const wait =
    volume && source && 'image' in source && mirror.get(volumeReports, root) === undefined
      ? imageWait(
          volume.project,
          mirror.get(images, source.image)?.value,
          mirror.get(imageReports, source.image)?.value,
          size,
        )
      : undefined;
  const message =
    refusal ?? volume?.source_error?.message ?? wait?.message ?? 'The VM waits until its root volume has its content.';
  return { phase: 'preparing', reason: 'root_volume_not_available', message };
}

/** Returns the writes for a guest that has ended: it has no volumes any more. */
export const releasesOf = (view: HostView, vm: Id<'vm'>): Write[] =>
  view.attachmentsOf(vm).map(({ id }) => remove(attachmentReports, id));

/** Brings the volumes of a running guest to the declared state. */
export class VolumeSteps {
  readonly #options: VmStepsOptions;
  readonly #commit: (commit: Commit) => Promise<StepOutcome>;
  readonly #revisit: (vm: Id<'vm'>) => void;

  constructor(
    options: VmStepsOptions,
    commit: (commit: Commit) => Promise<StepOutcome>,
    revisit: (vm: Id<'vm'>) => void,
  ) {
    this.#options = options;
    this.#commit = commit;
    this.#revisit = revisit;
  }

  /** Takes the next step. The outcome is `done` if nothing is left to do. */
  async take(snapshot: PlacedVmSnapshot, runtime: VmRuntime): Promise<StepOutcome> {
    const attached = this.#withoutFree(attachmentsOf(this.#options.view, snapshot), snapshot.id, runtime);
    const outcome = await this.#set(snapshot, runtime, attached);
    const asks = outcome.again === false && outcome.afterMs === undefined && attached.some(isKept);
    return asks ? { again: false, afterMs: questionIntervalMs } : outcome;
  }

  /**
   * Asks the guest about the volumes that are being detached and that it still has. Returns the attachments, without the
   * specifications of volumes that the guest does not use any more.
   */
  #withoutFree(attached: readonly Attached[], vm: Id<'vm'>, runtime: VmRuntime): Attached[] {
    const kept = attached.filter(isKept).map(({ attachment }) => attachment.volume);
    if (kept.length === 0) {
      delete runtime.question;
      return [...attached];
    }
    const volumes = kept.join();
    const last = runtime.question?.volumes === volumes ? runtime.question : undefined;
    const answer = last?.answer;
    if (last === undefined || (answer !== undefined && performance.now() - last.answeredMs >= questionIntervalMs)) {
      // The guest may have begun to use a volume since its last answer.
      this.#ask(vm, kept, runtime);
      return [...attached];
    }
    if (answer === undefined) return [...attached];
    return attached.map((each) => {
      const { volume } = each.attachment;
      if (!isKept(each)) return each;
      if (answer === null) return { ...each, use: null };
      const use = answer.get(volume);
      return use === undefined && answer.has(volume) ? { ...each, spec: undefined } : { ...each, use: use ?? null };
    });
  }

  #ask(vm: Id<'vm'>, volumes: readonly Id<'volume'>[], runtime: VmRuntime): void {
    const question: VolumeQuestion = { volumes: volumes.join(), answeredMs: 0 };
    runtime.question = question;
    const answered = (uses: VolumeUses | undefined) => {
      question.answer = uses ?? null;
      question.answeredMs = performance.now();
      this.#revisit(vm);
    };
    this.#options.hypervisor.volumeUses(vm, volumes).then(answered, (err: unknown) => {
      answered(undefined);
      this.#options.logger.warn({ err, vm }, 'the agent cannot ask the guest about its volumes');
    });
  }

  async #set(snapshot: PlacedVmSnapshot, runtime: VmRuntime, attached: readonly Attached[]): Promise<StepOutcome> {
    const noted = attached.flatMap((each) => this.#note(snapshot, each));
    if (noted.length > 0) return this.#commit({ require: [unchanged(snapshot.placement)], write: noted });
    const unclaimed = attached.filter(({ spec, claim }) => spec !== undefined && claim === undefined);
    if (unclaimed.length > 0) return this.#claim(snapshot, unclaimed);
    const leaving = attached.filter(({ spec, claim }) => spec === undefined && claim !== undefined);
    const specs = attached.flatMap(({ spec }) => spec ?? []);
    // A guest that never had a volume needs no look at its QEMU.
    if (specs.length === 0 && leaving.length === 0 && runtime.volumes === undefined) return { again: false };
    const applied = JSON.stringify(specs);
    if (leaving.length === 0 && runtime.volumes === applied) return { again: false };
    const { hypervisor } = this.#options;
    let outcome: VolumeOutcome;
    try {
      outcome = await hypervisor.setVolumes(snapshot.id, specs);
    } catch (err) {
      outcome = { present: [], faults: new Map(specs.map(({ id }) => [id, err])) };
      // Nothing is known of the volumes that leave.
      if (leaving.length > 0) return this.#retryLater(snapshot, runtime, err);
    }
    const present = new Set(outcome.present);
    const write = this.#reports(snapshot, attached, present, outcome.faults);
    if (write.length > 0) await this.#commit({ require: [unchanged(snapshot.placement)], write });
    const [fault] = outcome.faults.values();
    if (fault !== undefined) return this.#retryLater(snapshot, runtime, fault);
    runtime.volumeFailures = 0;
    if (leaving.some(({ attachment }) => present.has(attachment.volume))) {
      return { again: false, afterMs: releaseRetryMs };
    }
    // The commit may have failed. The next visit looks again, and remembers the volumes when no report is missing.
    if (write.length > 0) return { again: true };
    runtime.volumes = applied;
    return { again: false };
  }

  /** Returns the write of the reason why the guest keeps a volume that is being detached. */
  #note(snapshot: PlacedVmSnapshot, each: Attached): Write[] {
    const { claim, use } = each;
    if (!isKept(each) || claim === undefined || use === undefined) return [];
    const { phase, message } = claim.value;
    if (phase === 'detaching' && message === (use ?? undefined)) return [];
    const [text, reason] = use === null ? [] : [use, 'in_use'];
    return [reportWrite(snapshot, each, 'detaching', new Date(), text, reason)];
  }

  /** A fault of a volume is no fault of the VM, so it does not change the phase of the VM. */
  #retryLater(snapshot: PlacedVmSnapshot, runtime: VmRuntime, err: unknown): StepOutcome {
    const { logger, retryMs } = this.#options;
    runtime.volumeFailures = (runtime.volumeFailures ?? 0) + 1;
    const afterMs = backoffMs(runtime.volumeFailures, { firstMs: retryMs, maxMs: maxRetryMs });
    logger.warn(
      { err, vm: snapshot.id, retryMs: afterMs },
      'the volumes of a VM are not in their state; the agent retries',
    );
    return { again: false, afterMs };
  }

  #claim(snapshot: PlacedVmSnapshot, unclaimed: readonly Attached[]): Promise<StepOutcome> {
    const now = new Date();
    const before = ({ stored, report }: Attached) =>
      report === undefined ? [absent(attachmentReports, stored.id)] : [];
    return this.#commit({
      require: [
        unchanged(snapshot.placement),
        ...unclaimed.flatMap((each) => [...unchangedRecords(each), ...before(each)]),
      ],
      write: unclaimed.map((each) => reportWrite(snapshot, each, 'attaching', now)),
    });
  }

  /** Returns the changes of the reports after the guest has the volumes in `present`. */
  #reports(
    snapshot: PlacedVmSnapshot,
    attached: readonly Attached[],
    present: ReadonlySet<Id<'volume'>>,
    faults: VolumeOutcome['faults'],
  ): Write[] {
    const { mirror } = this.#options.view;
    const now = new Date();
    const at = now.toISOString();
    return attached.flatMap((each): Write[] => {
      const { attachment, spec, claim, stored } = each;
      if (spec === undefined) {
        if (claim === undefined) return [];
        if (!present.has(attachment.volume)) return [remove(attachmentReports, stored.id)];
        return claim.value.phase === 'detaching' ? [] : [reportWrite(snapshot, each, 'detaching', now)];
      }
      if (faults.has(spec.id) && !isKept(each)) {
        const message = publicMessage(faults.get(spec.id));
        if (claim?.value.message === message) return [];
        return [reportWrite(snapshot, each, claim?.value.phase ?? 'attaching', now, message)];
      }
      const data = mirror.get(volumeReports, spec.id)?.value;
      const { host } = snapshot;
      const right = isKept(each) || (claim?.value.phase === 'attached' && claim.value.message === undefined);
      return [
        ...(right ? [] : [reportWrite(snapshot, each, 'attached', now)]),
        ...(data?.host === host && data.size === spec.size
          ? []
          : [put(volumeReports, spec.id, { host, phase: 'available', size: spec.size, at })]),
      ];
    });
  }
}
