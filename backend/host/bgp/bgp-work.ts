/**
 * The BGP sessions of one host. `changed` makes bird announce what the host must announce now, and reports the sessions.
 *
 * Level-triggered: each run computes the whole configuration from the declared peers and the running VMs, so a run may be
 * repeated, late or cut short. A host without peers needs no bird. A fault of one peer, such as a missing password file,
 * leaves the sessions with other peers alone.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Id } from '../../contract/fields.ts';
import type { Logger } from '../../model/component.ts';
import { type AnnouncementFacts, announcements } from '../../model/network/announcements.ts';
import { peersOf } from '../../model/network/bgp.ts';
import {
  type BgpPeerRecord,
  type BgpReportRecord,
  bgpPeers,
  bgpReports,
  hostPolicies,
  hosts,
} from '../../model/records/index.ts';
import { present, put, remove } from '../../store/collection.ts';
import type { Store } from '../../store/store.ts';
import { Mutex } from '../system/mutex.ts';
import type { HostView } from '../view.ts';
import { WorkQueue } from '../work-queue.ts';
import type { Bird } from './bird.ts';
import { birdConfig, type ConfiguredPeer, peerFault } from './bird-config.ts';
import { PasswordFault, readPassword } from './password-file.ts';

/** Options of `BgpWork`. */
export interface BgpWorkOptions {
  readonly store: Store;
  readonly view: HostView;
  readonly logger: Logger;
  readonly host: Id<'host'>;
  /** The process of bird, and the address of the host on the underlay. Without it, the host has no sessions. */
  readonly bgp: { readonly bird: Bird; readonly underlayAddress: string } | undefined;
  /** Returns the facts about the running VMs of the host. */
  readonly facts: (draining: boolean) => AnnouncementFacts;
}

/** The peers of the host. */
interface Selected {
  readonly peers: readonly BgpPeerRecord[];
  readonly surplus: readonly BgpPeerRecord[];
}
/** The peers of the host, with the faults of single ones. */
interface Outcome extends Selected {
  readonly faults: ReadonlyMap<string, string>;
}
type ReportedSession = BgpReportRecord['sessions'][number];

/** The interval between two looks at the sessions. */
const intervalMs = 5_000;
/** The maximum time that a VM waits for the end of its announcements. */
const maxWithdrawalMs = 3_000;
/** The time after a fault of bird during which VMs do not wait. */
const silenceMs = 30_000;
const maxReadMs = 2_000;
const maxMessageLength = 500;
const missingBird = 'bird is not installed on this host: apt-get install bird2';

/** Announces the prefixes of one host, and reports its BGP sessions. */
export class BgpWork {
  readonly #options: BgpWorkOptions;
  readonly #queue: WorkQueue<'bgp'>;
  readonly #mutex = new Mutex();
  /** The last passwords that were read, by file. A file that disappears must not end a session. */
  readonly #passwords = new Map<string, string>();
  /** The reads of password files in progress, by file. A file on a file system that hangs takes one thread of the process. */
  readonly #reads = new Map<string, Promise<string>>();
  #queued: Promise<Outcome> | undefined;
  /** The time until which VMs do not wait for bird, on the clock of `performance.now()`. */
  #silentUntil = 0;
  #loggedFault: string | undefined;

  constructor(options: BgpWorkOptions) {
    this.#options = options;
    this.#queue = new WorkQueue(1, () => this.#visit());
  }

  /** Brings bird to the current state in the background, and reports the sessions. */
  changed(): void {
    if (this.#options.bgp) this.#queue.add('bgp');
  }

  /**
   * Announces the current state now, before a VM stops. Never rejects, and waits only for a moment: a fault of bird must not
   * hold up a VM. After a fault, VMs do not wait for a while.
   */
  async withdraw(): Promise<void> {
    if (!this.#options.bgp) return;
    if (performance.now() < this.#silentUntil) return this.changed();
    const timer = new AbortController();
    const late = delay(maxWithdrawalMs, 'late' as const, { signal: timer.signal, ref: false }).catch(() => undefined);
    const outcome = await Promise.race([this.#apply().catch(() => 'late' as const), late]);
    timer.abort();
    if (outcome !== 'late') return;
    this.#silentUntil = performance.now() + silenceMs;
    this.changed();
  }

  /** Waits for the current work. bird goes on running. */
  close(): Promise<void> {
    return this.#queue.close();
  }

  async #visit(): Promise<number | undefined> {
    const { logger } = this.#options;
    let outcome: Outcome;
    let fault: string | undefined;
    try {
      outcome = await this.#apply();
    } catch (err) {
      outcome = { ...this.#peers(), faults: new Map() };
      // Only operators see the sessions.
      fault = (err instanceof Error ? err.message : String(err)).slice(0, maxMessageLength);
      // The fault stays until somebody mends it, so it is logged once.
      if (fault !== this.#loggedFault) logger.warn({ err }, 'the agent could not configure bird; it retries');
    }
    this.#loggedFault = fault;
    try {
      const hasSessions = await this.#report(outcome, fault);
      return hasSessions || fault !== undefined ? intervalMs : undefined;
    } catch (err) {
      logger.warn({ err }, 'the report on BGP sessions failed; the agent retries');
      return intervalMs;
    }
  }

  #peers(): Selected {
    const { view, host } = this.#options;
    const labels = view.mirror.get(hostPolicies, host)?.value.labels ?? {};
    return peersOf(
      [...view.mirror.list(bgpPeers)].map(({ value }) => value),
      labels,
    );
  }

  /** Brings bird to the current state. All calls during a run share the next run. */
  #apply(): Promise<Outcome> {
    this.#queued ??= this.#mutex.run(async () => {
      this.#queued = undefined;
      const { view, host, bgp, facts } = this.#options;
      const { peers, surplus } = this.#peers();
      const faults = new Map<string, string>();
      const outcome = { peers, surplus, faults };
      if (bgp === undefined) return outcome;
      for (const { id } of surplus) faults.set(id, 'This host already has a session with a peer of the same address.');
      if (peers.length > 0 && !(await bgp.bird.isInstalled())) {
        for (const { id } of peers) faults.set(id, missingBird);
        return outcome;
      }
      const configured: ConfiguredPeer[] = [];
      for (const peer of peers) {
        const password = await this.#password(peer, faults);
        if (password === undefined) continue;
        const fault = peerFault({ ...peer, ...password });
        if (fault === undefined) configured.push({ ...peer, ...password });
        else faults.set(peer.id, fault);
      }
      // The facts come last, so that they are those of now.
      const draining = view.mirror.get(hostPolicies, host)?.value.draining ?? false;
      const announced = announcements(facts(draining));
      const { bird, underlayAddress } = bgp;
      await bird.converge(birdConfig({ underlayAddress, peers: configured, announcements: announced }));
      return outcome;
    });
    return this.#queued;
  }

  /** Returns the password of a session; undefined if there must be one and none is known. */
  async #password(
    { id, password_file: path }: BgpPeerRecord,
    faults: Map<string, string>,
  ): Promise<{ readonly password?: string } | undefined> {
    if (path === undefined) return {};
    try {
      const password = await this.#read(path);
      this.#passwords.set(path, password);
      return { password };
    } catch (error) {
      if (!(error instanceof PasswordFault)) throw error;
      faults.set(id, error.message);
      // The last agent may have known the password.
      const password = this.#passwords.get(path) ?? (await this.#options.bgp?.bird.passwordOf(id));
      return password === undefined ? undefined : { password };
    }
  }

  /** Reads a password file, but waits only for a moment. */
  async #read(path: string): Promise<string> {
    let read = this.#reads.get(path);
    if (read === undefined) {
      read = readPassword(path).finally(() => this.#reads.delete(path));
      read.catch(() => undefined);
      this.#reads.set(path, read);
    }
    const timer = new AbortController();
    const late = delay(maxReadMs, undefined, { signal: timer.signal, ref: false }).catch(() => undefined);
    try {
      const password = await Promise.race([read, late]);
      if (password === undefined) throw new PasswordFault(`password_file: ${path} cannot be read: no answer`);
      return password;
    } finally {
      timer.abort();
    }
  }

  async #sessions({ peers, surplus, faults }: Outcome, fault: string | undefined): Promise<ReportedSession[]> {
    const isOff = peers.length === 0 || [...faults.values()].includes(missingBird);
    let silence: string | undefined;
    const found = isOff
      ? []
      : await this.#options.bgp?.bird.sessions().catch(() => {
          silence = 'bird does not answer; the agent starts it again.';
          return [];
        });
    const before = new Map(
      this.#options.view.mirror.get(bgpReports, this.#options.host)?.value.sessions.map((each) => [each.peer, each]),
    );
    const byPeer = new Map(found?.map((session) => [session.peer, session]));
    return [...peers, ...surplus].map(({ id }) => {
      const session = byPeer.get(id) ?? { state: 'down' as const, imported: 0 };
      const message = faults.get(id) ?? fault ?? silence ?? ('message' in session ? session.message : undefined);
      const { state, imported } = session;
      const reported = before.get(id);
      const now = 'since' in session ? session.since : undefined;
      // bird tries again and again. Only the first failure is news.
      const since = reported?.state === state && state !== 'established' ? (reported.since ?? now) : now;
      return { peer: id, state, ...(since && { since }), ...(message && { message }), imported };
    });
  }

  /** Reports the sessions. Returns whether there are any. */
  async #report(outcome: Outcome, fault: string | undefined): Promise<boolean> {
    const { store, view, host } = this.#options;
    const sessions = await this.#sessions(outcome, fault);
    const before = view.mirror.get(bgpReports, host);
    if (JSON.stringify(before?.value.sessions ?? []) !== JSON.stringify(sessions)) {
      const at = new Date().toISOString();
      const write = sessions.length === 0 ? remove(bgpReports, host) : put(bgpReports, host, { sessions, at });
      const result = await store.commit({ require: [present(hosts, host)], write: [write] });
      if (result.ok) await view.mirror.waitFor(result.revision);
      else await view.mirror.catchUp();
    }
    return sessions.length > 0;
  }
}
