/** The part of the database that the API keeps in memory, and the ways it looks things up. */
import { UcloudError } from '../../contract/errors.ts';
import type { Logger } from '../../model/component.ts';
import * as records from '../../model/records/index.ts';
import { type Mirror, type MirrorIndex, openMirror } from '../../store/mirror.ts';
import type { RecordKind } from '../../store/record-kind.ts';
import type { Store } from '../../store/store.ts';

/** Left out: what only transactions ask for (macs, addresses, uses, idempotency) and the audit. */
const kinds = [
  records.projects,
  records.quotaGuards,
  records.settings,
  records.tokens,
  records.sshKeys,
  records.images,
  records.prefixPools,
  records.prefixes,
  records.networks,
  records.vms,
  records.terraformStates,
  records.hostPolicies,
  records.names,
  records.vnis,
  records.subnets,
  records.prefixMaps,
  records.hosts,
  records.alive,
  records.reports,
  records.guests,
  records.imageReports,
  records.schedules,
  records.placements,
  records.operations,
  records.events,
];

/** Kinds of which every record may belong to a project. */
const scopedKinds = [
  records.tokens,
  records.sshKeys,
  records.images,
  records.prefixes,
  records.networks,
  records.vms,
  records.terraformStates,
  records.operations,
  records.events,
];

export interface ApiMirror extends Mirror {
  readonly prefixesByPool: MirrorIndex<records.PrefixRecord>;
  readonly schedulesByHost: MirrorIndex<records.ScheduleRecord>;
  readonly publicImages: MirrorIndex<records.ImageRecord>;
  readonly eventsByTarget: MirrorIndex<records.EventRecord>;
  readonly operationsByTarget: MirrorIndex<records.OperationRecord>;
  /** The records of a kind by their project. */
  byProject(kind: RecordKind): MirrorIndex<unknown>;
  /** Waits until the mirror shows what the database holds now. Rejects with store_unavailable if it cannot catch up. */
  refresh(): Promise<void>;
}

export const mirrorTimeoutMs = 5000;

export async function openApiMirror(store: Store, logger: Logger): Promise<ApiMirror> {
  // One watch over everything keeps each commit whole; what is not of these kinds is dropped on arrival.
  const mirror = await openMirror(store, { prefixes: [''], kinds, logger });
  const projectIndexes = new Map(
    scopedKinds.map((kind) => [
      kind.prefix,
      mirror.index<(typeof kind)['schema']>(kind, ({ value }) => value.project) as MirrorIndex<unknown>,
    ]),
  );
  const extensions = {
    prefixesByPool: mirror.index(records.prefixes, ({ value }) => value.pool),
    schedulesByHost: mirror.index(records.schedules, ({ value }) => value.host),
    publicImages: mirror.index(records.images, ({ value }) => (value.visibility === 'public' ? 'public' : undefined)),
    eventsByTarget: mirror.index(records.events, ({ value }) => value.target),
    operationsByTarget: mirror.index(records.operations, ({ value }) => value.target),
    byProject(kind: RecordKind): MirrorIndex<unknown> {
      const index = projectIndexes.get(kind.prefix);
      if (!index) throw new Error(`records of ${kind.prefix} belong to no project`);
      return index;
    },
    async refresh(): Promise<void> {
      const { revision } = await store.list(records.leaders.prefix, { limit: 1 });
      if (await mirror.waitFor(revision, { timeoutMs: mirrorTimeoutMs })) return;
      throw new UcloudError('store_unavailable', 'this server lags behind the database');
    },
  };
  return Object.assign(mirror, extensions);
}
