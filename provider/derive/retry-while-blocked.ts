/**
 * What refuses a change may be about to go. Terraform makes, changes and deletes at the same time what does not refer to
 * one another: a network with the VMs in it, where the configuration names ids instead of references; a VM, and another
 * that gives it its name. So a refusal is not the last word while that which is in the way goes, nor for the moment that
 * Terraform needs to come to it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../client/client.ts';
import { type Item, isBeingDeleted } from '../client/item.ts';
import { ApiError, isNotFound } from '../client/problem.ts';
import type { ResourceSchema } from './fields.ts';
import { timedOut } from './wait-for-state.ts';

export interface Waits {
  /** Between two attempts, in milliseconds. */
  readonly pause: number;
  /** How long what is in the way may stay the same, with none of it being deleted, in milliseconds. */
  readonly patience: number;
}

const defaultWaits: Waits = { pause: 1_000, patience: 5_000 };

interface Obstacle {
  readonly id: string;
  readonly leaving: boolean;
}

/**
 * Attempts it until it succeeds, what is in the way stays there, or the time is over; then throws the refusal. `obstacles`
 * tells what is in the way; undefined if it is another error.
 */
async function insist<T>(
  attempt: () => Promise<T>,
  obstacles: (error: unknown) => Promise<readonly Obstacle[] | undefined>,
  signal: AbortSignal,
  waits: Waits,
): Promise<T> {
  let inTheWay: string | undefined;
  let since = 0;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const found = await obstacles(error);
      if (!found) throw error;
      const now = found.map(({ id }) => id).join();
      if (now !== inTheWay || found.some(({ leaving }) => leaving)) since = performance.now();
      else if (performance.now() - since >= waits.patience) throw error;
      inTheWay = now;
      await sleep(waits.pause, undefined, { signal }).catch((aborted: unknown) => {
        throw timedOut(signal) ? error : aborted;
      });
    }
  }
}

/** The object on its way out, where deletion takes time; undefined when it is gone. */
export function deleteWhenUnused(
  client: Client,
  path: string,
  id: string,
  signal: AbortSignal,
  waits = defaultWaits,
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
  return insist(attempt, users, signal, waits);
}

/** Creates or changes an object that asks for a name. */
export function whenNameIsFree<T>(
  {
    client,
    schema,
    signal,
  }: { readonly client: Client; readonly schema: ResourceSchema; readonly signal: AbortSignal },
  { name, project }: Readonly<Record<string, unknown>>,
  attempt: () => Promise<T>,
  waits = defaultWaits,
): Promise<T> {
  const holders = async (error: unknown) => {
    if (!(error instanceof ApiError) || error.code !== 'name_taken') return undefined;
    const named = await client.listAll(schema.path, { name: String(name) }, signal);
    return named
      .filter((item) => typeof project !== 'string' || item.project === project)
      .map((item) => ({ id: item.id, leaving: isBeingDeleted(item) }));
  };
  return insist(attempt, holders, signal, waits);
}
