/**
 * Carries out a change in one transaction: the records, the keys that make them unique, the audit record, the event,
 * and the answer for the client's Idempotency-Key.
 *
 * A handler decides with the mirror on the writes and their guards. A guard is a condition of the transaction together
 * with its meaning if it does not hold. The meaning is an error for the client, such as a taken name, or that the
 * handler must decide again. So concurrency alone causes no error. An outdated mirror causes none either: before an
 * error is returned, the mirror catches up and the handler decides again.
 *
 * A dry run does the same up to the commit, and then checks the guards instead (dry-run.ts).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { newEvent } from '../../model/events.ts';
import { newTimeOrderedId } from '../../model/ids.ts';
import type { SomeAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { type Backoff, randomBackoffMs } from '../../store/backoff.ts';
import { put } from '../../store/collection.ts';
import { maxOperations } from '../../store/limits.ts';
import { raiseFormat as raiseStoreFormat } from '../../store/raise-format.ts';
import type { Commit, Condition, Entry, Revision, Store, Write } from '../../store/store.ts';
import { type CostGuard, costGuard } from '../billing/cost-guard.ts';
import { Turn } from '../concurrency/keyed-mutex.ts';
import { mirrorTimeoutMs } from '../read-model/mirror.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import type { DryRun } from './dry-run.ts';
import { IdempotencySlot, type StoredAnswer } from './idempotency.ts';
import { type QuotaGuard, type QuotaPointers, quotaGuard } from './quota-guard.ts';

/** A condition of a transaction, and the error of its failure. */
export interface Guard {
  readonly condition: Condition;
  /** Returns the error, given the entries that were found; undefined means that the handler decides again. */
  readonly otherwise?: (found: readonly Entry[]) => UcloudError | undefined;
}

/** A change that a handler has decided on. */
export interface Mutation {
  readonly guards: readonly Guard[];
  readonly writes: readonly Write[];
  /** The id of the changed object, for audit and events. */
  readonly target: string;
  readonly project?: Id<'project'> | undefined;
  /** The increase of the project's usage. The project must then exist, and its quota must allow the increase. */
  readonly quotaDelta: SomeAmounts | undefined;
  /** The fields that increase the usage, if they have other names than usual. */
  readonly quotaPointers?: QuotaPointers | undefined;
  /** The reason and the message of the event: a constant word, and a text for people. */
  readonly reason: string;
  readonly message: string;
  /**
   * The answer of a POST, without the revision of the commit. For other methods it is a function that is called after
   * the commit.
   */
  readonly answer: StoredAnswer | ((revision: Revision) => ApiAnswer);
}

/** The decision of a handler: a change, or an answer without a change. */
export type Decision = Mutation | { readonly nothing: ApiAnswer };

const attempts = 24;
const backoff: Backoff = { firstMs: 2, maxMs: 200 };

const answerAt = ({ status, body, location }: StoredAnswer, revision: Revision): ApiAnswer => ({
  status,
  body: { ...body, revision },
  revision,
  version: revision,
  ...(location === undefined ? {} : { location }),
});

/** Returns the entries that contradict the condition; undefined if it holds. */
async function failedCondition(
  store: Store,
  condition: Condition,
  dryRun: DryRun | undefined,
): Promise<readonly Entry[] | undefined> {
  if ('prefix' in condition) {
    const { entries } = await store.list(condition.prefix, { limit: 10 });
    return entries.length > 0 ? entries : undefined;
  }
  const stored = await store.get(condition.key);
  const entry = stored && dryRun?.hides(stored) ? undefined : stored;
  const found = entry ? [entry] : [];
  if ('revision' in condition) return entry?.revision === condition.revision ? undefined : found;
  return (entry !== undefined) === condition.exists ? undefined : found;
}

/** Returns the error of the first guard that has one and does not hold. */
async function errorOf(store: Store, guards: readonly Guard[], dryRun?: DryRun): Promise<UcloudError | undefined> {
  const telling = guards.filter((guard) => guard.otherwise);
  const found = await Promise.all(telling.map((guard) => failedCondition(store, guard.condition, dryRun)));
  for (const [i, guard] of telling.entries()) {
    const entries = found[i];
    const error = entries && guard.otherwise?.(entries);
    if (error) return error;
  }
  return undefined;
}

function auditAndEvent(request: ApiRequest, { target, project, reason, message }: Mutation): Write[] {
  const { now, caller } = request;
  const at = now.toISOString();
  const audit = newTimeOrderedId('audit_record', now);
  const scope = project === undefined ? {} : { project };
  return [
    put(records.auditRecords, audit, {
      id: audit,
      at,
      token: caller.token,
      ...scope,
      operation: request.endpoint.id,
      target,
      request_id: request.id,
      source: caller.source,
    }),
    put(records.events, ...newEvent(now, { id: target, project }, { severity: 'info', reason, message })),
  ];
}

/** Raises the format of the database before a record that needs a newer one is written. */
export async function raiseFormat({ store, mirror }: ApiContext, writes: readonly Write[]): Promise<void> {
  const present = mirror.get(records.formats, records.storeFormat)?.value.reader ?? 1;
  if (present >= records.currentFormat) return;
  const needed = Math.max(1, ...writes.map((write) => ('put' in write ? records.formatOf(write.put, write.value) : 1)));
  if (needed > 1) await raiseStoreFormat(store, { kind: records.formats, id: records.storeFormat }, needed);
}

/** Returns the conditions without repetitions. A commit has a limited number of them. */
const distinct = (conditions: readonly Condition[]): Condition[] => [
  ...new Map(conditions.map((condition) => [JSON.stringify(condition), condition])).values(),
];

/** The conditions and writes that the store adds to a commit for an order. */
const ofOrder = 4;

/** Checks that the database can carry out the change in one transaction. @throws UcloudError `rule_violated` */
function checkSize({ require = [], write }: Commit): void {
  if (Math.max(require.length, write.length) <= maxOperations - ofOrder) return;
  const rule = 'must refer to fewer objects: the change is too large for one transaction of the database';
  throw new UcloudError('rule_violated', `the body ${rule}`, { errors: [{ pointer: '', detail: rule }] });
}

/** Tells whether a commit would succeed now. */
async function wouldCommit(store: Store, guards: readonly Guard[], dryRun: DryRun): Promise<boolean> {
  const found = await Promise.all(guards.map(({ condition }) => failedCondition(store, condition, dryRun)));
  return found.every((entries) => entries === undefined);
}

/**
 * Decides and commits until the commit succeeds or `decide` throws. `decide` runs again after each lost race. @throws
 * UcloudError every error of `decide` and of the guards
 */
export async function mutate(
  api: ApiContext,
  request: ApiRequest,
  decide: () => Decision | Promise<Decision>,
): Promise<ApiAnswer> {
  const turn = new Turn(api.mutexes);
  try {
    return await mutateInTurn(api, request, decide, turn);
  } finally {
    turn.end();
  }
}

async function mutateInTurn(
  api: ApiContext,
  request: ApiRequest,
  decide: () => Decision | Promise<Decision>,
  turn: Turn,
): Promise<ApiAnswer> {
  const { store, mirror } = api;
  const slot = request.idempotencyKey === undefined ? undefined : new IdempotencySlot(request, request.idempotencyKey);
  const earlier = async (): Promise<ApiAnswer | undefined> => {
    const first = await slot?.find(store);
    if (!first) return undefined;
    await mirror.waitFor(first.revision, { timeoutMs: mirrorTimeoutMs });
    return { ...answerAt(first.answer, first.revision), replayed: true };
  };

  for (let attempt = 1; attempt <= attempts; attempt++) {
    let decision: Decision;
    let quota: QuotaGuard;
    let cost: CostGuard;
    try {
      decision = await decide();
      if ('nothing' in decision) return decision.nothing;
      quota = quotaGuard(api, decision);
      cost = costGuard(api, decision.writes, request.now);
    } catch (error) {
      if (!(error instanceof UcloudError)) throw error;
      // The error may come from our own first attempt, which took the name, or from an outdated mirror.
      const answer = await earlier();
      if (answer) return answer;
      if (attempt > 1) throw error;
      await mirror.refresh();
      continue;
    }
    // All projects with a budget of their account share a queue, which therefore replaces that of the quota.
    const queue = cost.queue ?? quota.queue;
    if (queue !== undefined && (await turn.take(queue))) {
      // Another request committed first. The handler decides again, and this attempt does not count.
      attempt--;
      continue;
    }
    const { guards, writes, answer } = decision;
    const { dryRun } = request;
    if (dryRun && (await wouldCommit(store, guards, dryRun))) return { status: 204, revision: mirror.revision };
    if (!dryRun) await raiseFormat(api, writes);
    const commit: Commit = {
      require: distinct([
        ...guards.map((guard) => guard.condition),
        ...quota.require,
        ...cost.require,
        ...(slot ? [slot.free] : []),
      ]),
      write: [
        ...writes,
        ...quota.write,
        ...cost.write,
        ...auditAndEvent(request, decision),
        ...(slot && typeof answer !== 'function' ? [slot.write(answer)] : []),
      ],
    };
    checkSize(commit);
    const result = dryRun ? { ok: false as const } : await store.commit(commit);
    if (result.ok) {
      await mirror.waitFor(result.revision, { timeoutMs: mirrorTimeoutMs });
      return typeof answer === 'function' ? answer(result.revision) : answerAt(answer, result.revision);
    }
    const first = await earlier();
    if (first) return first;
    const error = await errorOf(store, guards, dryRun);
    if (error) throw error;
    await delay(randomBackoffMs(attempt, backoff));
    await mirror.refresh();
  }
  throw new UcloudError(
    'conflict',
    `other requests changed the same objects during all ${attempts} attempts; send the request again`,
  );
}
