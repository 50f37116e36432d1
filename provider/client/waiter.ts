/**
 * Waits for states of objects, with one request for many objects. The API lists objects by ids. As a long poll, it
 * answers when one of them is newer than a revision.
 *
 * Waits form groups. The request of a group contains the ids of all objects, and the oldest revision that a wait has
 * seen. The answer contains the current state of each object, so a late wait misses no change. A wait that begins
 * during a request joins the next group. Unfinished waits of an answered group join that group too. So the number of
 * requests depends on the number of changes, not on the number of objects.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Caller, CallOptions, Item, List } from './item.ts';

interface Waiting {
  readonly id: string;
  revision: number;
  /** True after the abort of its signal. */
  aborted: boolean;
  /** Ends the request of the group if all its waits are aborted. */
  onAbort?: () => void;
  readonly done: (item: Item | undefined) => boolean;
  readonly resolve: (item: Item | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** The time that a group is open. One request then waits for all its objects. */
const groupWindowMs = 50;
/** The maximum number of waits in a group. */
const maxGroupSize = 100;
/** The duration of a long poll. It is shorter than the idle timeouts of common proxies. */
const longPollSeconds = 30;

/** Waits for states of objects. */
export class Waiter {
  readonly #client: Caller;
  readonly #openGroups = new Map<string, Set<Waiting>>();

  constructor(client: Caller) {
    this.#client = client;
  }

  /**
   * Returns the state for which `done` returns true. `done` gets every observed state, and undefined after the object's
   * end.
   * @param from the state that the caller knows
   * @throws ApiError, or the reason of the signal; Error if the object is gone and `done` does not accept that
   */
  wait(
    path: string,
    from: Item,
    done: (item: Item | undefined) => boolean,
    signal: AbortSignal,
  ): Promise<Item | undefined> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      if (done(from)) return resolve(from);
      const waiting: Waiting = {
        id: from.id,
        revision: from.revision,
        aborted: false,
        done,
        resolve: finish(resolve),
        reject: finish(reject),
      };
      const abort = () => {
        this.#openGroups.get(path)?.delete(waiting);
        waiting.aborted = true;
        waiting.onAbort?.();
        waiting.reject(signal.reason);
      };
      function finish<A>(then: (value: A) => void) {
        return (value: A) => {
          signal.removeEventListener('abort', abort);
          then(value);
        };
      }
      signal.addEventListener('abort', abort, { once: true });
      this.#join(path, waiting);
    });
  }

  #join(path: string, waiting: Waiting): void {
    let group = this.#openGroups.get(path);
    if (!group) {
      group = new Set();
      this.#openGroups.set(path, group);
      void this.#run(path, group);
    }
    group.add(waiting);
    if (group.size >= maxGroupSize) this.#openGroups.delete(path);
  }

  async #run(path: string, group: Set<Waiting>): Promise<void> {
    // The waits of one apply begin at about the same time, so the group stays open for a short time.
    await sleep(groupWindowMs);
    if (this.#openGroups.get(path) === group) this.#openGroups.delete(path);
    const members = [...group].filter((member) => !member.aborted);
    if (members.length === 0) return;
    const cancel = new AbortController();
    const onAbort = () => {
      if (members.every((member) => member.aborted)) cancel.abort();
    };
    for (const member of members) member.onAbort = onAbort;
    try {
      const ids = [...new Set(members.map(({ id }) => id))];
      const after = Math.min(...members.map(({ revision }) => revision));
      const query = { ids: ids.join(','), limit: ids.length, after, timeout: longPollSeconds };
      const options: CallOptions = {
        query,
        signal: cancel.signal,
        longPollMs: longPollSeconds * 1000,
        retries: Number.POSITIVE_INFINITY,
      };
      const list = (await this.#client.call('GET', path, options)) as List;
      const items = new Map(list.items.map((item) => [item.id, item]));
      for (const member of members) {
        if (member.aborted) continue;
        const item = items.get(member.id);
        member.revision = list.revision;
        if (member.done(item)) member.resolve(item);
        else if (item === undefined) member.reject(new Error(`${member.id} was deleted meanwhile`));
        else this.#join(path, member);
      }
    } catch (error) {
      for (const member of members) member.reject(error);
    }
  }
}
