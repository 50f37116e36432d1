/**
 * Hosts whose agents can be killed as by kill -9: at any time, or exactly before or after the n-th action. A dead agent
 * does nothing more, nothing renews its lease, and the VMs and disks that it has created stay.
 */

import type { Id } from '../../backend/contract/fields.ts';
import type { Hypervisor } from '../../backend/host/hypervisor/hypervisor.ts';
import { createSimulatedHypervisor, type SimulatedHypervisor } from '../../backend/host/hypervisor/simulated.ts';
import { type Host, type HostOptions, startHost } from '../../backend/host/start.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { reports } from '../../backend/model/records/index.ts';
import type { EmbeddedStore } from '../../backend/store/embedded.ts';
import { isChangeOf, type Mirror } from '../../backend/store/mirror.ts';
import type { Store } from '../../backend/store/store.ts';
import { silentLogger } from './silent-logger.ts';
import { capacity } from './simulated-host.ts';

const never = new Promise<never>(() => undefined);

/** The runs of all VMs on all hosts of a test. */
export class RunHistory {
  readonly running = new Map<Id<'vm'>, string>();
  readonly runs = new Map<Id<'vm'>, number>();
  readonly violations: string[] = [];

  began(vm: Id<'vm'>, where: string): void {
    const other = this.running.get(vm);
    if (other !== undefined) this.violations.push(`${vm} was started on ${where} while it ran on ${other}`);
    this.running.set(vm, where);
    this.runs.set(vm, (this.runs.get(vm) ?? 0) + 1);
  }
  ended(vm: Id<'vm'>): void {
    this.running.delete(vm);
  }
  /** Records a violation for each VM that is reported as gone while it runs. Returns a function that stops it. */
  watch(mirror: Mirror): () => void {
    return mirror.subscribe(({ changes }) => {
      for (const change of changes) {
        const phase = isChangeOf(reports, change) ? change.stored?.value.phase : undefined;
        if (phase === 'gone' && this.running.has(idFrom('vm', change.id)))
          this.violations.push(`${change.id} runs and is reported as gone`);
      }
    });
  }
}

/** A host whose agent can be killed and restarted. */
export class KillableHost {
  readonly #store: EmbeddedStore;
  readonly #dataDir: string;
  readonly #history: RunHistory;
  readonly #options: Partial<HostOptions>;
  #hypervisor: SimulatedHypervisor;
  #kill: () => Promise<void> = async () => undefined;
  #host: Host | undefined;
  /** The number of boundaries that the current agent has passed. */
  boundaries = 0;
  /** Resolves after the planned crash of the agent. */
  crashed: Promise<string> = never;

  constructor(store: EmbeddedStore, dataDir: string, history: RunHistory, options: Partial<HostOptions> = {}) {
    this.#store = store;
    this.#dataDir = dataDir;
    this.#history = history;
    this.#options = options;
    this.#hypervisor = this.#open();
  }

  get hypervisor(): SimulatedHypervisor {
    return this.#hypervisor;
  }
  get id(): Id<'host'> | undefined {
    return this.#host?.id;
  }

  #open(): SimulatedHypervisor {
    return createSimulatedHypervisor({ dataDir: this.#dataDir, capacity, bootMs: 1, readyMs: 1, shutdownMs: 1 });
  }

  /**
   * Starts an agent.
   * @param crashAt the boundary at which the agent dies. Each commit and each call of the hypervisor has one boundary
   * before and one after it.
   */
  async start(crashAt = Number.POSITIVE_INFINITY): Promise<void> {
    await this.#kill();
    await this.#hypervisor.close();
    const hypervisor = this.#open();
    this.#hypervisor = hypervisor;
    const session = this.#store.session();
    const crash = Promise.withResolvers<string>();
    this.crashed = crash.promise;
    this.boundaries = 0;
    let dead = false;
    const die = async (where: string) => {
      if (dead) return;
      dead = true;
      crash.resolve(where);
      await hypervisor.close();
      await session.close();
    };
    this.#kill = () => die('killed');
    const boundary = async (where: string) => {
      if (!dead && ++this.boundaries === crashAt) void die(`${where} (boundary ${crashAt})`);
      if (dead) await never;
    };
    const guarded = async <T>(name: string, call: () => Promise<T>, seen?: (value: T) => void): Promise<T> => {
      await boundary(`before ${name}`);
      try {
        const value = await call();
        seen?.(value);
        return value;
      } finally {
        await boundary(`after ${name}`);
      }
    };
    const alive =
      <A extends unknown[], T>(call: (...args: A) => Promise<T>) =>
      async (...args: A): Promise<T> => {
        if (dead) await never;
        const value = await call(...args);
        if (dead) await never;
        return value;
      };
    const store: Store = {
      get: alive((key) => session.get(key)),
      list: alive((prefix, options) => session.list(prefix, options)),
      lease: alive((ttl) => session.lease(ttl)),
      compact: alive((revision) => session.compact(revision)),
      watch: (prefix, from, signal) => session.watch(prefix, from, signal),
      close: () => session.close(),
      commit: (commit) => guarded('a commit', () => session.commit(commit)),
    };
    const history = this.#history;
    const mortal: Hypervisor = {
      kind: hypervisor.kind,
      accelerator: hypervisor.accelerator,
      architecture: hypervisor.architecture,
      connectionFilter: () => hypervisor.connectionFilter(),
      capacity: () => hypervisor.capacity(),
      usedImages: () => hypervisor.usedImages(),
      list: () => guarded('list', () => hypervisor.list()),
      prepare: (spec, signal) => guarded('prepare', () => hypervisor.prepare(spec, signal)),
      start: (spec, signal) => {
        const ran = hypervisor.resourcesOf(spec.id) !== undefined;
        return guarded(
          'start',
          () => hypervisor.start(spec, signal),
          () => ran || history.began(spec.id, this.#dataDir),
        );
      },
      setInterfaces: (id, interfaces) => guarded('setInterfaces', () => hypervisor.setInterfaces(id, interfaces)),
      stop: (id, grace) =>
        guarded(
          'stop',
          () => hypervisor.stop(id, grace),
          () => history.ended(id),
        ),
      destroy: (id) =>
        guarded(
          'destroy',
          () => hypervisor.destroy(id),
          () => history.ended(id),
        ),
      setVolumes: (id, volumes) => guarded('setVolumes', () => hypervisor.setVolumes(id, volumes)),
      pool: (spec) => {
        const pool = hypervisor.pool(spec);
        // A method works only on the pool itself, because of its private fields.
        return new Proxy(pool, {
          get(target, name) {
            const value: unknown = Reflect.get(target, name, target);
            if (name === 'remove') return (id: Id<'volume'>) => guarded('remove', () => pool.remove(id));
            return typeof value === 'function' ? value.bind(target) : value;
          },
        });
      },
      createSnapshot: (spec, signal) => guarded('createSnapshot', () => hypervisor.createSnapshot(spec, signal)),
      whileFrozen: (vm, work) => hypervisor.whileFrozen(vm, work),
      removeSnapshot: (id) => guarded('removeSnapshot', () => hypervisor.removeSnapshot(id)),
      listSnapshots: () => hypervisor.listSnapshots(),
      readSnapshot: (source) => guarded('readSnapshot', () => hypervisor.readSnapshot(source)),
      fillVolume: (volume, source, signal) =>
        guarded('fillVolume', () => hypervisor.fillVolume(volume, source, signal)),
      restoreDisks: (id, disks, signal) => guarded('restoreDisks', () => hypervisor.restoreDisks(id, disks, signal)),
      setNetworks: (networks) => guarded('setNetworks', () => hypervisor.setNetworks(networks)),
      onExit: (listener) => hypervisor.onExit(listener),
      onGuestAgent: (listener) => hypervisor.onGuestAgent(listener),
      volumeUses: (id, volumes) => guarded('volumeUses', () => hypervisor.volumeUses(id, volumes)),
      onReady: (listener) => hypervisor.onReady(listener),
      listVolumes: () => hypervisor.listVolumes(),
      clean: () => hypervisor.clean(),
      close: () => hypervisor.close(),
    };
    const starting = startHost({
      store,
      logger: silentLogger,
      hypervisor: mortal,
      dataDir: this.#dataDir,
      name: 'mortal',
      version: '0',
      retryMs: 5,
      ...this.#options,
    });
    const host = await Promise.race([starting, crash.promise.then(() => undefined)]);
    this.#host = host ?? this.#host;
  }

  kill(): Promise<void> {
    return this.#kill();
  }

  /** Ends a running guest, like a fault. */
  crashGuest(vm: Id<'vm'>): void {
    if (this.#hypervisor.resourcesOf(vm) === undefined) return;
    this.#history.ended(vm);
    this.#hypervisor.exit(vm, 'crash');
  }

  async close(): Promise<void> {
    await this.#host?.close();
    await this.kill();
    await this.#hypervisor.close();
  }
}
