/**
 * Deleting what others still use. Terraform deletes in the order of references. Where the configuration names ids instead,
 * as that which is generated for an import does, it deletes a network at the same time as the VMs in it, and the API
 * refuses the network as long as it has one. So a refusal is not the last word while those in the way go.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Item } from '../client/client.ts';
import { ApiError, isNotFound } from '../client/problem.ts';
import { timedOut } from './settle.ts';

/** Milliseconds between two attempts. */
const pause = 1_000;
/** How long those in the way may stay the same, with none of them being deleted, in milliseconds. */
const patience = 5_000;

/**
 * The object on its way out, where deletion takes time; undefined when it is gone. Throws the API's refusal when what is
 * in the way stays there, and when the time for the deletion is over.
 */
export async function deleteWhenUnused(
  client: Client,
  path: string,
  id: string,
  signal: AbortSignal,
  waits = { pause, patience },
): Promise<Item | undefined> {
  let inTheWay: string | undefined;
  let since = 0;
  for (;;) {
    try {
      return await client.delete(path, id, signal);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      if (!(error instanceof ApiError) || error.code !== 'in_use') throw error;
      const users = error.problem.users ?? [];
      const now = users.map((user) => user.id).join();
      if (now !== inTheWay || users.some((user) => user.being_deleted)) since = performance.now();
      else if (performance.now() - since >= waits.patience) throw error;
      inTheWay = now;
      await sleep(waits.pause, undefined, { signal }).catch((aborted: unknown) => {
        throw timedOut(signal) ? error : aborted;
      });
    }
  }
}
