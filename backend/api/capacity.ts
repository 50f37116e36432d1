/** The hosts' accounts as the mirror shows them, for questions of what would fit. The scheduler keeps its own. */
import type { Id } from '../contract/fields.ts';
import { HostPool } from '../model/host-pool.ts';
import * as records from '../model/records.ts';
import { isChangeOf, type Mirror } from '../store/mirror.ts';

export class Capacity {
  readonly pool = new HostPool();
  readonly #mirror: Mirror;
  readonly #stop: () => void;

  constructor(mirror: Mirror) {
    this.#mirror = mirror;
    for (const { id } of mirror.list(records.hosts)) this.#setHost(id as Id<'host'>);
    for (const { id, value } of mirror.list(records.placements)) this.#setPlacement(id, value);
    this.#stop = mirror.subscribe(({ changes }) => {
      for (const change of changes) {
        if (isChangeOf(records.placements, change)) this.#setPlacement(change.id, change.stored?.value);
        else if (
          isChangeOf(records.hosts, change) ||
          isChangeOf(records.hostPolicies, change) ||
          isChangeOf(records.alive, change)
        ) {
          this.#setHost(change.id as Id<'host'>);
        }
      }
    });
  }

  #setHost(id: Id<'host'>): void {
    this.pool.updateHost(
      id,
      this.#mirror.get(records.hosts, id)?.value,
      this.#mirror.get(records.hostPolicies, id)?.value,
      this.#mirror.get(records.alive, id) !== undefined,
    );
  }

  /** `id`: `<host>/<vm>`. */
  #setPlacement(id: string, given: records.PlacementRecord | undefined): void {
    const [host = '', vm = ''] = id.split('/');
    this.pool.setPlacement(host, vm, given);
  }

  close(): void {
    this.#stop();
  }
}
