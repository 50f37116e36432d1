/**
 * Repeats a change while other objects block it. Terraform changes objects concurrently unless one refers to the other.
 * Examples are a network and its VMs, if the configuration contains ids instead of references; and a new VM that gets the
 * name of a renamed one. So the provider repeats a refused change while a blocking object is being deleted, and for some
 * seconds more, in which Terraform may begin to delete or rename it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../client/client.ts';
import { type Item, isBeingDeleted } from '../client/item.ts';
import { ApiError, isNotFound } from '../client/problem.ts';
import type { ResourceSchema } from './fields.ts';
import { timedOut } from './wait-for-state.ts';

/** The times of the attempts. */
export interface BlockedRetry {
  /** The time between two attempts, in milliseconds. */
  readonly intervalMs: number;
  /** The time for which the blocking objects may stay the same while none of them is being deleted, in milliseconds. */
  readonly graceMs: number;
}

const defaultRetry: BlockedRetry = { intervalMs: 1_000, graceMs: 5_000 };

interface Blocker {
  readonly id: string;
  readonly leaving: boolean;
}

/**
 * Repeats the attempt until it succeeds, the blocking objects stay the same for the grace time, or the signal aborts. Then
 * throws the refusal. `findBlockers` returns the blocking objects; undefined for an error with another cause.
 */
async function retryWhileBlocked<T>(
  attempt: () => Promise<T>,
  findBlockers: (error: unknown) => Promise<readonly Blocker[] | undefined>,
  signal: AbortSignal,
  retry: BlockedRetry,
): Promise<T> {
  let blockers: string | undefined;
  let since = 0;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const found = await findBlockers(error);
      if (!found) throw error;
      const now = found.map(({ id }) => id).join();
      if (now !== blockers || found.some(({ leaving }) => leaving)) since = performance.now();
      else if (performance.now() - since >= retry.graceMs) throw error;
      blockers = now;
      await sleep(retry.intervalMs, undefined, { signal }).catch((aborted: unknown) => {
        throw timedOut(signal) ? error : aborted;
      });
    }
  }
}

/**
 * Deletes an object as soon as no other object uses it. Returns the object if its deletion takes time; undefined if it is
 * gone.
 * @throws ApiError, ConnectionError
 */
export function deleteWhenUnused(
  client: Client,
  path: string,
  id: string,
  signal: AbortSignal,
  retry = defaultRetry,
): Promise<Item | undefined> {
  const attempt = () =>
    client.delete(path, id, signal).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
  const users = async (error: unknown) =>
    error instanceof ApiError && error.code === 'in_use'
      ? (error.problem.users ?? []).map((user) => ({ id: user.id, leaving: user.being_deleted }))
      : undefined;
  return retryWhileBlocked(attempt, users, signal, retry);
}

/** Creates or changes an object as soon as its name and its volumes are free. @throws ApiError, ConnectionError */
export function whenNameIsFree<T>(
  {
    client,
    schema,
    signal,
  }: { readonly client: Client; readonly schema: ResourceSchema; readonly signal: AbortSignal },
  { name, project }: Readonly<Record<string, unknown>>,
  attempt: () => Promise<T>,
  retry = defaultRetry,
): Promise<T> {
  const holders = async (error: unknown) => {
    if (!(error instanceof ApiError)) return undefined;
    // A volume may be on its way from another VM.
    if (error.code === 'in_use')
      return (error.problem.users ?? []).map(({ id, being_deleted }) => ({ id, leaving: being_deleted }));
    if (error.code !== 'name_taken') return undefined;
    const named = await client.listAll(schema.path, { name: String(name) }, signal);
    return named
      .filter((item) => typeof project !== 'string' || item.project === project)
      .map((item) => ({ id: item.id, leaving: isBeingDeleted(item) }));
  };
  return retryWhileBlocked(attempt, holders, signal, retry);
}
