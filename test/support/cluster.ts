/**
 * A cloud in one process, for tests of scheduler and hosts: a store, a mirror to inspect, and the necessary part of the
 * API. This part writes declarations, and removes the records of deleted VMs after their placements are gone.
 */
import type { Test } from 'tap';
import { UcloudError } from '../../backend/contract/errors.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import {
  alive,
  attachmentReports,
  bgpReports,
  type EventRecord,
  events,
  formats,
  guests,
  type HostPolicyRecord,
  type HostRecord,
  hostPolicies,
  hosts,
  imageReports,
  images,
  latestOperations,
  leaders,
  networkMembers,
  networks,
  type OperationRecord,
  operations,
  placements,
  prefixes,
  reports,
  schedules,
  type VmRecord,
  vms,
  volumeAttachments,
  volumePlacements,
  volumeReports,
  volumes,
} from '../../backend/model/records/index.ts';
import { pendingChanges } from '../../backend/model/vm/lifecycle.ts';
import { absent, conflict, put, read, remove, retryOnConflict, unchanged } from '../../backend/store/collection.ts';
import type { EmbeddedStore } from '../../backend/store/embedded.ts';
import { type Mirror, openMirror } from '../../backend/store/mirror.ts';
import type { Store, Write } from '../../backend/store/store.ts';
import { hostRecord } from './host-record.ts';
import { silentLogger } from './silent-logger.ts';
import { withStore } from './stores.ts';

export const MiB = 2 ** 20;
export const GiB = 2 ** 30;

const project = newId('project');
const now = () => new Date().toISOString();
const declaredNow = () => ({ created_at: now(), updated_at: now() });

/** A cloud in one process. */
export class Cluster<S extends Store = EmbeddedStore> {
  readonly store: S;
  readonly mirror: Mirror;
  readonly image = newId('image');
  readonly network = newId('network');
  #macs = 0;

  constructor(store: S, mirror: Mirror) {
    this.store = store;
    this.mirror = mirror;
  }

  async prepare(): Promise<void> {
    const common = { project, labels: {}, ...declaredNow() };
    const { image, network } = this;
    await this.write(
      put(images, image, {
        ...common,
        id: image,
        name: 'demo',
        description: '',
        source: 'file:demo.qcow2',
        architecture: 'x86_64',
        visibility: 'project',
        delete_protection: false,
      }),
      put(imageReports, image, { phase: 'available', size: 64 * MiB, at: now() }),
      put(networks, network, {
        ...common,
        id: network,
        name: 'net',
        prefix: newId('prefix'),
        cidr: '2001:db8::/64',
        mtu: 1450,
        dns_servers: [],
        vni: 4711,
      }),
    );
  }

  async write(...write: Write[]): Promise<void> {
    await this.store.commit({ write });
  }

  newVm(change: Partial<VmRecord> = {}): VmRecord {
    const id = newId('vm');
    const mac = `02:00:00:00:${(this.#macs >> 8).toString(16).padStart(2, '0')}:${(this.#macs++ & 255).toString(16).padStart(2, '0')}`;
    return {
      id,
      project,
      name: id,
      labels: {},
      description: '',
      image: this.image,
      interfaces: [{ network: this.network, mac, address: '2001:db8::1' }],
      cpus: 1,
      memory: GiB,
      disk_size: GiB,
      ssh_keys: [],
      power_state: 'running',
      delete_protection: false,
      generation: 1,
      ...declaredNow(),
      ...change,
    };
  }

  async createVm(change: Partial<VmRecord> = {}): Promise<Id<'vm'>> {
    const vm = this.newVm(change);
    await this.write(put(vms, vm.id, vm));
    return vm.id;
  }

  /** Changes a declaration like the API, on condition that it is unchanged. */
  async updateVm(id: Id<'vm'>, change: Partial<VmRecord>): Promise<void> {
    await retryOnConflict(async () => {
      const before = await read(this.store, vms, id);
      if (before === undefined) throw new UcloudError('not_found', `${id} is gone`);
      const generation = before.value.generation + 1;
      const told = change.user_data === undefined ? {} : { user_data_generation: generation };
      const value = { ...before.value, ...change, ...told, generation, updated_at: now() };
      const result = await this.store.commit({ require: [unchanged(before)], write: [put(vms, id, value)] });
      return result.ok || conflict;
    });
  }

  /** Declares a volume that lies on the host, and attaches it to the VM. */
  async attachVolume(vm: Id<'vm'>, host: Id<'host'>) {
    const [volume, attachment] = [newId('volume'), newId('volume_attachment')];
    const common = { project, labels: {}, ...declaredNow() };
    const limits = { max_iops: 0, max_throughput: 0, force_detach: true, delete_protection: false };
    await this.write(
      put(volumes, volume, { ...common, id: volume, name: volume, description: '', size: GiB, ...limits }),
      put(volumePlacements, volume, { host, size: GiB, at: now() }),
      put(volumeAttachments, attachment, { ...common, id: attachment, vm, volume, slot: 0 }),
    );
    return { volume, attachment };
  }

  /** Asks for the detachment of a volume. */
  async detachVolume(attachment: Id<'volume_attachment'>): Promise<void> {
    const before = await read(this.store, volumeAttachments, attachment);
    if (before === undefined) throw new UcloudError('not_found', `${attachment} is gone`);
    await this.write(put(volumeAttachments, attachment, { ...before.value, deleted_at: now() }));
  }

  /** Removes a detached volume, and asks for the removal of its data. */
  async deleteVolume(volume: Id<'volume'>, attachment: Id<'volume_attachment'>): Promise<void> {
    const before = await read(this.store, volumes, volume);
    if (before === undefined) throw new UcloudError('not_found', `${volume} is gone`);
    await this.write(
      remove(volumeAttachments, attachment),
      put(volumes, volume, { ...before.value, deleted_at: now() }),
    );
  }

  deleteVm(id: Id<'vm'>): Promise<void> {
    return this.updateVm(id, { deleted_at: now() });
  }

  /** Requires, like the API, that the VM is not deleted. */
  async rebootVm(id: Id<'vm'>, force = false): Promise<Id<'operation'>> {
    const operation = newId('operation');
    const record: OperationRecord = {
      id: operation,
      project,
      kind: 'vm_reboot',
      target: id,
      options: { force },
      state: 'pending',
      progress: 0,
      ...declaredNow(),
    };
    return retryOnConflict(async () => {
      const vm = await read(this.store, vms, id);
      if (vm === undefined || vm.value.deleted_at) throw new UcloudError('not_found', `${id} is gone`);
      // A VM has at most one open operation.
      const latest = await read(this.store, latestOperations, id);
      const open = latest && (await read(this.store, operations, latest.value.id));
      if (open && open.value.finished_at === undefined) return open.value.id;
      const write = [put(operations, operation, record), put(latestOperations, id, { id: operation })];
      const alone = latest ? unchanged(latest) : absent(latestOperations, id);
      return (await this.store.commit({ require: [unchanged(vm), alone], write })).ok ? operation : conflict;
    });
  }

  /** Removes deleted VMs without a placement, like the API's collector. Returns a function that stops it. */
  collect(): () => void {
    const look = async (id: string) => {
      const vm = this.mirror.get(vms, id);
      if (!vm?.value.deleted_at || this.mirror.get(schedules, id)) return;
      await this.store.commit({ require: [unchanged(vm), absent(schedules, id)], write: [remove(vms, id)] });
    };
    for (const { id } of this.mirror.list(vms)) void look(id);
    return this.mirror.subscribe(({ changes }) => {
      for (const { kind, id } of changes) if (kind === vms || kind === schedules) void look(id);
    });
  }

  /** Adds a host that exists only as records. `lease`: the lease of its `alive` key. */
  async addHost(change: Partial<HostRecord> & { policy?: Partial<HostPolicyRecord> } = {}): Promise<Id<'host'>> {
    const { policy, ...fields } = change;
    const id = fields.id ?? newId('host');
    await this.write(
      put(hosts, id, hostRecord({ ...fields, id, created_at: fields.created_at ?? now() })),
      put(alive, id, { at: now() }),
    );
    await this.setPolicy(id, policy);
    return id;
  }

  setPolicy(host: Id<'host'>, policy: Partial<HostPolicyRecord> = {}): Promise<void> {
    const record = {
      labels: {},
      draining: false,
      cpu_overcommit: 1,
      memory_overcommit: 1,
      updated_at: now(),
      ...policy,
    };
    return this.write(put(hostPolicies, host, record));
  }

  phase(id: Id<'vm'>): string | undefined {
    return this.mirror.get(reports, id)?.value.phase;
  }
  report(id: Id<'vm'>) {
    return this.mirror.get(reports, id)?.value;
  }
  schedule(id: Id<'vm'>) {
    return this.mirror.get(schedules, id)?.value;
  }
  vm(id: Id<'vm'>) {
    return this.mirror.get(vms, id)?.value;
  }
  /** Returns the fields whose change waits for the next start. */
  pending(id: Id<'vm'>): string {
    const [vm, report] = [this.vm(id), this.report(id)];
    return vm && report ? pendingChanges(vm, report).join() : '';
  }
  operation(id: Id<'operation'>) {
    return this.mirror.get(operations, id)?.value;
  }
  ready(id: Id<'vm'>): boolean {
    const [readyAt, startedAt] = [this.mirror.get(guests, id)?.value.ready_at, this.report(id)?.started_at];
    return readyAt !== undefined && startedAt !== undefined && readyAt >= startedAt;
  }
  /** In the order of the commits, because event ids of one millisecond have no order. */
  eventsOf(target: string): readonly EventRecord[] {
    return [...this.mirror.list(events)]
      .filter(({ value }) => value.target === target)
      .sort((a, b) => a.created - b.created)
      .map(({ value }) => value);
  }
  reasonsOf(target: string): string[] {
    return this.eventsOf(target).map(({ reason }) => reason);
  }

  /**
   * Waits until the check is true. It checks again after every change of the database, and periodically for states
   * outside it.
   */
  async until(what: string, check: () => boolean, timeoutMs = 120_000): Promise<void> {
    if (check()) return;
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (!check()) return;
        stop();
        resolve();
      };
      const stop = () => {
        unsubscribe();
        clearInterval(poll);
        clearTimeout(deadline);
      };
      const unsubscribe = this.mirror.subscribe(look);
      const poll = setInterval(look, 20);
      const deadline = setTimeout(() => {
        stop();
        reject(new Error(`not within ${timeoutMs} ms: ${what}`));
      }, timeoutMs);
    });
  }
}

/** Creates a cluster with an image and a network; the test closes it. */
export async function withCluster(t: Test): Promise<Cluster> {
  return clusterOn(t, await withStore(t));
}

/** Creates a cluster in an empty store, which the caller closes. */
export async function clusterOn<S extends Store>(t: Test, store: S): Promise<Cluster<S>> {
  const mirror = await openMirror(store, {
    prefixes: [''],
    kinds: [
      vms,
      images,
      imageReports,
      networks,
      networkMembers,
      prefixes,
      formats,
      operations,
      hosts,
      hostPolicies,
      bgpReports,
      alive,
      schedules,
      placements,
      reports,
      guests,
      events,
      leaders,
      attachmentReports,
      volumePlacements,
      volumeReports,
    ],
    logger: silentLogger,
  });
  t.teardown(() => mirror.close());
  const cluster = new Cluster(store, mirror);
  await cluster.prepare();
  await mirror.waitFor((await store.list('leader/')).revision);
  return cluster;
}
