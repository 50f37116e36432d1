/**
 * Carries out a change: one transaction with the record, everything that keeps it unique, its audit record, its event,
 * and the answer for the client's Idempotency-Key.
 *
 * A handler decides on the mirror what to write, and under which guards. A guard is a condition of the transaction
 * together with what it means if it does not hold: an error for the client (the name is taken), or nothing, which means
 * that the world has moved and the handler must decide anew. So mere concurrency is never an error, and an error is
 * never an accident of a stale mirror: before one is answered the mirror is brought up to date and the decision made
 * again.
 *
 * A dry run goes the same way up to the commit, and looks whether its guards hold instead (dry-run.ts).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { newEvent } from '../../model/events.ts';
import { newTimeOrderedId } from '../../model/ids.ts';
import type { SomeAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { put } from '../../store/collection.ts';
import type { Condition, Entry, Revision, Store, Write } from '../../store/store.ts';
import { Turn } from '../concurrency/keyed-mutex.ts';
import { mirrorTimeoutMs } from '../read-model/mirror.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import type { DryRun } from './dry-run.ts';
import { IdempotencySlot, type StoredAnswer } from './idempotency.ts';
import { type QuotaGuard, quotaGuard } from './quota-guard.ts';

export interface Guard {
  readonly condition: Condition;
  /** What is wrong if the condition does not hold, given what was found instead; nothing means: decide anew. */
  readonly otherwise?: (found: readonly Entry[]) => UcloudError | undefined;
}

export interface Mutation {
  readonly guards: readonly Guard[];
  readonly writes: readonly Write[];
  /** What is changed, for audit and events. */
  readonly target: string;
  readonly project?: Id<'project'> | undefined;
  /** What the project gets more of: the project has to be there then, and its quota to allow it. */
  readonly quotaDelta: SomeAmounts | undefined;
  /** What happened to it, as a stable word and for people. */
  readonly reason: string;
  readonly message: string;
  /** Of a POST: the answer, to which the revision of the commit is added. Of others: how to make it afterwards. */
  readonly answer: StoredAnswer | ((revision: Revision) => ApiAnswer);
}

/** What a decision may come to: a change, or an answer because there is nothing to change. */
export type Decision = Mutation | { readonly nothing: ApiAnswer };

const attempts = 24;

const answerAt = ({ status, body, location }: StoredAnswer, revision: Revision): ApiAnswer => ({
  status,
  body: { ...body, revision },
  revision,
  version: revision,
  ...(location === undefined ? {} : { location }),
});

/** What stands against the condition, or nothing if it holds. */
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

/** The error of the first guard that does not hold and has one. */
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

/** Whether a commit would come through now. */
async function wouldCommit(store: Store, guards: readonly Guard[], dryRun: DryRun): Promise<boolean> {
  const found = await Promise.all(guards.map(({ condition }) => failedCondition(store, condition, dryRun)));
  return found.every((entries) => entries === undefined);
}

/** Decides and commits until it is done or cannot be. `decide` runs again after each lost race. */
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
    try {
      decision = await decide();
      if ('nothing' in decision) return decision.nothing;
      quota = quotaGuard(api, decision);
    } catch (error) {
      if (!(error instanceof UcloudError)) throw error;
      // The error may come from our own first attempt (its name is taken, by what it made), or from a stale mirror.
      const answer = await earlier();
      if (answer) return answer;
      if (attempt > 1) throw error;
      await mirror.refresh();
      continue;
    }
    if (quota.queue !== undefined && (await turn.take(quota.queue))) {
      // Others were there before: decided anew, and no attempt is lost.
      attempt--;
      continue;
    }
    const { guards, writes, answer } = decision;
    const { dryRun } = request;
    if (dryRun && (await wouldCommit(store, guards, dryRun))) return { status: 204, revision: mirror.revision };
    const result = dryRun
      ? { ok: false as const }
      : await store.commit({
          require: [...guards.map((guard) => guard.condition), ...quota.require, ...(slot ? [slot.free] : [])],
          write: [
            ...writes,
            ...quota.write,
            ...auditAndEvent(request, decision),
            ...(slot && typeof answer !== 'function' ? [slot.write(answer)] : []),
          ],
        });
    if (result.ok) {
      await mirror.waitFor(result.revision, { timeoutMs: mirrorTimeoutMs });
      return typeof answer === 'function' ? answer(result.revision) : answerAt(answer, result.revision);
    }
    const first = await earlier();
    if (first) return first;
    const error = await errorOf(store, guards, dryRun);
    if (error) throw error;
    await delay(Math.random() * Math.min(200, 2 ** attempt));
    await mirror.refresh();
  }
  throw new UcloudError('conflict', `what this request depends on kept changing during ${attempts} attempts`);
}
