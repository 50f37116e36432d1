/**
 * The BGP sessions of one host. `changed` makes bird announce what the host must announce now, and reports the sessions.
 *
 * Level-triggered: each run computes the whole configuration from the declared peers and the running VMs, so a run may be
 * repeated, late or cut short. A host without peers needs no bird. A fault of one peer, such as a missing password file,
 * leaves the sessions with other peers alone.
 */
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
import { birdConfig, type ConfiguredPeer } from './bird-config.ts';
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
const maxMessageLength = 500;
const missingBird = 'bird is not installed on this host: apt-get install bird2';

/** Announces the prefixes of one host, and reports its BGP sessions. */
export class BgpWork {
  readonly #options: BgpWorkOptions;
  readonly #queue: WorkQueue<'bgp'>;
  readonly #mutex = new Mutex();
  /** The last passwords that were read, by file. A file that disappears must not end a session. */
  readonly #passwords = new Map<string, string>();
  #loggedFault: string | undefined;

  constructor(options: BgpWorkOptions) {
    this.#options = options;
    this.#queue = new WorkQueue(1, () => this.#visit());
  }

  /** Brings bird to the current state in the background, and reports the sessions. */
  changed(): void {
    if (this.#options.bgp) this.#queue.add('bgp');
  }

  /** Announces the current state now, before a VM stops. Never rejects: a fault of bird must not hold up a VM. */
  async withdraw(): Promise<void> {
    try {
      await this.#apply();
    } catch {
      this.changed();
    }
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

  /** Brings bird to the current state. */
  #apply(): Promise<Outcome> {
    return this.#mutex.run(async () => {
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
        if (password !== undefined) configured.push({ ...peer, ...password });
      }
      // The facts come last, so that they are those of now.
      const draining = view.mirror.get(hostPolicies, host)?.value.draining ?? false;
      const announced = announcements(facts(draining));
      const { bird, underlayAddress } = bgp;
      await bird.converge(birdConfig({ underlayAddress, peers: configured, announcements: announced }));
      return outcome;
    });
  }

  /** Returns the password of a session; undefined if there must be one and none is known. */
  async #password(
    { id, password_file: path }: BgpPeerRecord,
    faults: Map<string, string>,
  ): Promise<{ readonly password?: string } | undefined> {
    if (path === undefined) return {};
    try {
      const password = await readPassword(path);
      this.#passwords.set(path, password);
      return { password };
    } catch (error) {
      if (!(error instanceof PasswordFault)) throw error;
      faults.set(id, error.message);
      const password = this.#passwords.get(path);
      return password === undefined ? undefined : { password };
    }
  }

  async #sessions({ peers, surplus, faults }: Outcome, fault: string | undefined): Promise<ReportedSession[]> {
    const isOff = peers.length === 0 || [...faults.values()].includes(missingBird);
    const found = isOff ? [] : await this.#options.bgp?.bird.sessions().catch(() => []);
    const byPeer = new Map(found?.map((session) => [session.peer, session]));
    return [...peers, ...surplus].map(({ id }) => {
      const session = byPeer.get(id) ?? { state: 'down' as const, imported: 0 };
      const message = faults.get(id) ?? fault ?? ('message' in session ? session.message : undefined);
      const { state, imported } = session;
      const since = 'since' in session ? session.since : undefined;
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
