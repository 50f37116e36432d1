/**
 * What agents see of the database: one mirror, and who is to be told of which change. An agent has a view of its own;
 * many simulated ones in a process share one.
 */
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import {
  alive,
  guests,
  imageReports,
  images,
  networks,
  operations,
  placements,
  reports,
  schedules,
  vms,
} from '../model/records.ts';
import { isChangeOf, type Mirror, type MirrorBatch, openMirror } from '../store/mirror.ts';
import type { Store } from '../store/store.ts';

export interface ViewListener {
  vm(id: Id<'vm'>): void;
  networks(): void;
  alive(): void;
}

export class HostView {
  readonly mirror: Mirror;
  readonly #store: Store;
  readonly #listeners = new Map<Id<'host'>, ViewListener>();
  readonly #hostOf = new Map<Id<'vm'>, Id<'host'>>();
  readonly #byImage;
  readonly #operations;
  readonly #reportsBy;

  constructor(store: Store, mirror: Mirror) {
    this.#store = store;
    this.mirror = mirror;
    this.#byImage = mirror.index(vms, ({ value }) => value.image);
    this.#operations = mirror.index(operations, ({ value }) =>
      value.state === 'pending' || value.state === 'running' ? value.target : undefined,
    );
    this.#reportsBy = mirror.index(reports, ({ value }) => value.host);
    for (const { id } of mirror.list(placements)) {
      const [host = '', vm = ''] = id.split('/');
      this.#hostOf.set(vm, host);
    }
    mirror.subscribe((batch) => this.#changed(batch));
  }

  listen(host: Id<'host'>, listener: ViewListener): () => void {
    this.#listeners.set(host, listener);
    return () => {
      if (this.#listeners.get(host) === listener) this.#listeners.delete(host);
    };
  }

  /** VMs placed on the host. */
  placedOn(host: Id<'host'>): Id<'vm'>[] {
    return [...this.mirror.list(placements, `${host}/`)].map(({ id }) => id.slice(host.length + 1));
  }

  reportsBy(host: Id<'host'>) {
    return this.#reportsBy.list(host);
  }

  /** The operations on the VM that have not ended, oldest first. */
  openOperations(vm: Id<'vm'>) {
    return [...this.#operations.list(vm)].sort((a, b) => a.created - b.created);
  }

  /** Resolves when the mirror shows everything that is in the database now. */
  async catchUp(): Promise<void> {
    const { revision } = await this.#store.list(alive.prefix, { limit: 1 });
    await this.mirror.waitFor(revision);
  }

  close(): Promise<void> {
    return this.mirror.close();
  }

  #tell(vm: Id<'vm'>): void {
    const host = this.#hostOf.get(vm);
    if (host !== undefined) this.#listeners.get(host)?.vm(vm);
  }

  #changed({ changes }: MirrorBatch): void {
    for (const change of changes) {
      if (isChangeOf(placements, change)) {
        const [host = '', vm = ''] = change.id.split('/');
        if (change.stored) this.#hostOf.set(vm, host);
        else if (this.#hostOf.get(vm) === host) this.#hostOf.delete(vm);
        this.#listeners.get(host)?.vm(vm);
      } else if (isChangeOf(vms, change) || isChangeOf(schedules, change)) this.#tell(change.id);
      else if (isChangeOf(operations, change)) {
        if (change.stored) this.#tell(change.stored.value.target);
      } else if (isChangeOf(imageReports, change)) {
        for (const { id } of this.#byImage.list(change.id)) this.#tell(id);
      } else if (isChangeOf(networks, change)) {
        for (const listener of this.#listeners.values()) listener.networks();
      } else if (isChangeOf(alive, change)) this.#listeners.get(change.id)?.alive();
    }
  }
}

export async function openHostView(store: Store, logger: Logger): Promise<HostView> {
  // One watch of everything, so that each commit is seen whole: a placement never without its VM.
  const mirror = await openMirror(store, {
    prefixes: [''],
    kinds: [vms, images, imageReports, networks, operations, placements, schedules, reports, guests, alive],
    logger,
  });
  return new HostView(store, mirror);
}
