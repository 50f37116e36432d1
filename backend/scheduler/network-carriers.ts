/**
 * Keeps `network-carriers/`, while the scheduler leads. The records follow the members of networks and the signs of life of hosts.
 * They are few and small, so agents need not mirror the members of all networks.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { idFrom } from '../model/ids.ts';
import { completeCarriers, maxCarriers, preferredCarriers } from '../model/network/carriers.ts';
import { parseMemberId } from '../model/network/members.ts';
import { alive, hosts, networkCarriers, networkMembers } from '../model/records/index.ts';
import { absent, put, remove, unchanged } from '../store/collection.ts';
import type { Leadership } from '../store/leadership.ts';
import { isChangeOf, type Mirror, type MirrorBatch } from '../store/mirror.ts';
import type { Condition, Store, Write } from '../store/store.ts';

/** The parts of the scheduler that the loop needs. */
export interface CarrierLoopOptions {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly logger: Logger;
}

const maxNetworksPerCommit = 50;
const retryMs = 500;

/** Writes the carriers of networks for one term of leadership. */
export class CarrierLoop {
  readonly #options: CarrierLoopOptions;
  readonly #leadership: Leadership;
  /** The number of members, by network and host. */
  readonly #members = new Map<Id<'network'>, Map<Id<'host'>, number>>();
  readonly #networksOn = new Map<Id<'host'>, Set<Id<'network'>>>();
  readonly #changed = new Set<Id<'network'>>();
  #wake: () => void = () => undefined;

  constructor(options: CarrierLoopOptions, leadership: Leadership) {
    this.#options = options;
    this.#leadership = leadership;
  }

  /** Runs until `signal` aborts. An error is logged, and the loop goes on. */
  async run(signal: AbortSignal): Promise<void> {
    const { mirror, logger } = this.#options;
    for (const { id, value } of mirror.list(networkMembers)) this.#count(id, value.host, 1);
    for (const { id } of mirror.list(networkCarriers)) {
      if (id !== completeCarriers) this.#changed.add(idFrom('network', id));
    }
    const unsubscribe = mirror.subscribe((batch) => this.#apply(batch));
    const end = () => this.#wake();
    signal.addEventListener('abort', end);
    try {
      while (!signal.aborted) {
        const woken = Promise.withResolvers<void>();
        this.#wake = woken.resolve;
        try {
          if (await this.#write(signal)) continue;
          await woken.promise;
        } catch (err) {
          if (signal.aborted) return;
          logger.warn({ err }, 'the carriers of networks are not written; the scheduler retries');
          await delay(retryMs, undefined, { signal, ref: false }).catch(() => undefined);
        }
      }
    } finally {
      signal.removeEventListener('abort', end);
      unsubscribe();
    }
  }

  #count(member: string, host: Id<'host'>, by: number): void {
    const { network } = parseMemberId(member);
    const hostsOf = this.#members.get(network) ?? new Map<Id<'host'>, number>();
    this.#members.set(network, hostsOf);
    const before = hostsOf.get(host) ?? 0;
    const after = before + by;
    if (after === 0) hostsOf.delete(host);
    else hostsOf.set(host, after);
    if (hostsOf.size === 0) this.#members.delete(network);
    if (before !== 0 && after !== 0) return;
    const networksOf = this.#networksOn.get(host) ?? new Set<Id<'network'>>();
    this.#networksOn.set(host, networksOf);
    if (after === 0) networksOf.delete(network);
    else networksOf.add(network);
    if (networksOf.size === 0) this.#networksOn.delete(host);
    this.#changed.add(network);
  }

  #apply({ changes }: MirrorBatch): void {
    for (const change of changes) {
      if (isChangeOf(networkMembers, change)) {
        const { previous, stored } = change;
        if (previous?.value.host === stored?.value.host) continue;
        if (stored) this.#count(change.id, stored.value.host, 1);
        if (previous) this.#count(change.id, previous.value.host, -1);
      } else if (isChangeOf(alive, change) || isChangeOf(hosts, change)) {
        // The host may have become a better or a worse carrier.
        const isSame = isChangeOf(alive, change)
          ? (change.previous === undefined) === (change.stored === undefined)
          : (change.previous?.value.underlay === undefined) === (change.stored?.value.underlay === undefined);
        if (isSame) continue;
        for (const network of this.#networksOn.get(idFrom('host', change.id)) ?? []) this.#changed.add(network);
      } else if (isChangeOf(networkCarriers, change) && change.id !== completeCarriers) {
        this.#changed.add(idFrom('network', change.id));
      }
    }
    if (this.#changed.size > 0) this.#wake();
  }

  /** Writes some of the changed carriers. Returns false if nothing is left to do. */
  async #write(signal: AbortSignal): Promise<boolean> {
    const { store, mirror } = this.#options;
    const require: Condition[] = [this.#leadership.holds];
    const write: Write[] = [];
    const taken: Id<'network'>[] = [];
    for (const network of this.#changed) {
      this.#changed.delete(network);
      const known = mirror.get(networkCarriers, network);
      const wanted = this.#carriersOf(network);
      if (wanted.join() === (known?.value.hosts ?? []).join()) continue;
      taken.push(network);
      require.push(known ? unchanged(known) : absent(networkCarriers, network));
      write.push(
        wanted.length > 0 ? put(networkCarriers, network, { hosts: wanted }) : remove(networkCarriers, network),
      );
      if (write.length === maxNetworksPerCommit) break;
    }
    if (write.length === 0) {
      if (mirror.get(networkCarriers, completeCarriers)) return false;
      write.push(put(networkCarriers, completeCarriers, { hosts: [] }));
    }
    try {
      const result = await store.commit({ require, write });
      if (result.ok) await mirror.waitFor(result.revision, { signal });
      else {
        // The mirror was behind, or another scheduler leads; then the term is about to end.
        for (const network of taken) this.#changed.add(network);
        await mirror.catchUp({ signal });
        await delay(retryMs, undefined, { signal, ref: false }).catch(() => undefined);
      }
      return true;
    } catch (error) {
      for (const network of taken) this.#changed.add(network);
      throw error;
    }
  }

  #carriersOf(network: Id<'network'>): Id<'host'>[] {
    const { mirror } = this.#options;
    const usable = [...(this.#members.get(network)?.keys() ?? [])].filter(
      (host) => mirror.get(hosts, host)?.value.underlay !== undefined,
    );
    return preferredCarriers(network, usable, (host) => mirror.get(alive, host) !== undefined).slice(0, maxCarriers);
  }
}
