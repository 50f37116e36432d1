/**
 * A dry run decides on a creation exactly as the creation does, and commits nothing. Objects that are leaving, such as
 * one that will be replaced, count as deleted together with everything that they hold.
 *
 * Every record that an object holds contains its id: its own record, its name, its MAC addresses, its addresses, its
 * /64 and its number. So one rule hides them all: a record whose `id` is leaving does not exist. The rule applies to
 * the mirror of the handler, to the usage of quota and budget, and to the conditions in `mutate` (mutate.ts).
 */
import type { TSchema } from '@sinclair/typebox';
import { endpoints } from '../../contract/index.ts';
import { QuantitySums } from '../../model/billing/quantity-sums.ts';
import { plus } from '../../model/quota/amounts.ts';
import { volumeAttachments } from '../../model/records/index.ts';
import type { MirrorIndex } from '../../store/mirror.ts';
import type { RecordKind, Stored } from '../../store/record-kind.ts';
import type { Entry } from '../../store/store.ts';
import { openOrderOf } from '../billing/ordering-store.ts';
import type { ApiMirror } from '../read-model/mirror.ts';
import type { ApiContext, Caller } from '../requests/context.ts';
import { amountsIn, projectOf } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';

/** The settings of a dry run. */
export interface DryRun {
  /** Tells whether a record of the database counts as deleted. */
  hides(entry: Entry): boolean;
}

const holderOf = (value: unknown): unknown => (value as { readonly id?: unknown } | null)?.id;

/** The maximum number of ids in `leaving`. */
const maxLeaving = 500;

function* without<T>(records: Iterable<Stored<T>>, leaving: ReadonlySet<unknown>): Generator<Stored<T>, void> {
  for (const stored of records) if (!leaving.has(holderOf(stored.value))) yield stored;
}

function mirrorWithout(mirror: ApiMirror, leaving: ReadonlySet<unknown>): ApiMirror {
  const indexWithout = <T>(index: MirrorIndex<T>): MirrorIndex<T> => ({
    list: (...given) => without(index.list(...given), leaving),
    listBackwards: (...given) => without(index.listBackwards(...given), leaving),
    get: (...given) => without(index.list(...given), leaving).next().value ?? undefined,
    size: (...given) => index.size(...given),
  });
  return {
    get revision() {
      return mirror.revision;
    },
    get<S extends TSchema>(kind: RecordKind<S>, id: string) {
      const stored = mirror.get(kind, id);
      return stored && leaving.has(holderOf(stored.value)) ? undefined : stored;
    },
    list: (...given) => without(mirror.list(...given), leaving),
    listBackwards: (...given) => without(mirror.listBackwards(...given), leaving),
    size: (...given) => mirror.size(...given),
    index: (...given) => mirror.index(...given),
    waitFor: (...given) => mirror.waitFor(...given),
    waitForChange: (...given) => mirror.waitForChange(...given),
    subscribe: (listener) => mirror.subscribe(listener),
    close: () => mirror.close(),
    schedulesByHost: mirror.schedulesByHost,
    volumesByHost: mirror.volumesByHost,
    snapshotsByHost: mirror.snapshotsByHost,
    by: (kind, field) => indexWithout(mirror.by(kind, field)),
    listPublic: (...given) => without(mirror.listPublic(...given), leaving),
    listShared: (...given) => without(mirror.listShared(...given), leaving),
    catchUp: (options) => mirror.catchUp(options),
    refresh: () => mirror.refresh(),
  };
}

/** The kinds of objects that only operators delete. */
const ofOperators: ReadonlySet<string> = new Set(
  endpoints.flatMap(({ id, access }) => (access === 'operator' && id.endsWith('_delete') ? [id.slice(0, -7)] : [])),
);

/**
 * Returns the objects among the ids that the caller may delete. For others the response would reveal objects that the
 * caller may not see.
 */
function deletable({ mirror, resources }: ApiContext, caller: Caller, ids: readonly string[]) {
  return ids.flatMap((id) => {
    const descriptor = resources.ofId(id);
    const stored = descriptor && mirror.get(descriptor.kind, id);
    if (!descriptor || !stored) return [];
    const mayDelete = descriptor.scope === 'project' && !ofOperators.has(descriptor.noun);
    const own = mayDelete && projectOf(stored.value) === caller.project;
    return caller.role === 'operator' || own ? [{ descriptor, id, value: stored.value }] : [];
  });
}

/** Returns the context and the settings for the handler of a dry run. @throws UcloudError `invalid_input` */
export function dryRunOf(
  api: ApiContext,
  caller: Caller,
  asked: string | undefined,
): { readonly api: ApiContext; readonly dryRun: DryRun } {
  const ids = asked === undefined ? [] : asked.split(',');
  if (ids.length > maxLeaving) {
    throw fieldError('invalid_input', '#query/leaving', `must be at most ${maxLeaving} ids`);
  }
  const gone = deletable(api, caller, ids);
  // A VM takes its attachments along, so its volumes are free.
  const attachments = gone.flatMap(({ id }) => [...api.mirror.by(volumeAttachments, 'vm').list(id)]);
  const leaving = new Set<unknown>([...gone, ...attachments].map(({ id }) => id));
  const usage = {
    of: (project: string) =>
      gone.reduce(
        (used, { descriptor, value }) => plus(used, amountsIn(descriptor, project, value), -1),
        api.usage.of(project),
      ),
  };
  const orders = gone.flatMap(({ id }) => openOrderOf(api.mirror, id)?.value ?? []);
  const projectUse = {
    of: (project: string) => {
      const sums = new QuantitySums().addAll(api.projectUse.of(project));
      for (const order of orders) if (order.project === project) sums.add(order.use, -1);
      return sums;
    },
  };
  return {
    api: { ...api, mirror: mirrorWithout(api.mirror, leaving), usage, projectUse },
    dryRun: { hides: ({ value }) => leaving.size > 0 && leaving.has(holderOf(JSON.parse(value))) },
  };
}
