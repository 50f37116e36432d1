/**
 * The view of the database that agents have: one mirror, and listeners for the changes that concern a host. An agent
 * usually has its own view, with the records that concern its host (host-scope.ts). Many simulated hosts in one process may
 * share a view of everything.
 */

import { isDeepStrictEqual } from 'node:util';
import type { Id } from '../contract/fields.ts';
import type { Logger } from '../model/component.ts';
import { idFrom, isIdOf } from '../model/ids.ts';
import { parsePlacementId, placementsOn } from '../model/placement/placement-id.ts';
import {
  alive,
  attachmentReports,
  bgpPeers,
  bgpReports,
  guests,
  hostPolicies,
  hosts,
  imageCopies,
  imageDeliveries,
  imageReports,
  imageServers,
  images,
  latestOperations,
  leaders,
  networkCarriers,
  networkMembers,
  networks,
  operations,
  placements,
  poolMarkers,
  poolReports,
  prefixes,
  prefixRoutes,
  reports,
  type SnapshotRecord,
  schedules,
  securityGroups,
  snapshotPlacements,
  snapshotReports,
  snapshots,
  sshKeys,
  storagePools,
  type VolumeRecord,
  vms,
  volumeAttachments,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { isBeingMade, wholeOf } from '../model/snapshot/parts.ts';
import { poolOf } from '../model/storage/pool.ts';
import { mayFill, snapshotWithData, sourceOf } from '../model/storage/volume-source.ts';
import { isMove } from '../model/vm/lifecycle.ts';
import { readAll } from '../store/collection.ts';
import { isChangeOf, type Mirror, type MirrorBatch, openMirror } from '../store/mirror.ts';
import { openScopedMirror, type Scope } from '../store/scoped-mirror.ts';
import type { Store } from '../store/store.ts';
import { firstScope, HostScope, type KnownObject } from './host-scope.ts';

/** Callbacks for the changes that concern one host. */
export interface ViewListener {
  vm(id: Id<'vm'>): void;
  /** A volume with data on this host has changed. */
  volume(id: Id<'volume'>): void;
  /** A snapshot of this host has changed. */
  snapshot(id: Id<'snapshot'>): void;
  /** A storage pool has changed. */
  pool(id: Id<'storage_pool'>): void;
  networks(): void;
  /** The BGP peers of the host may have changed. */
  bgp(): void;
  alive(): void;
  /** The view has the records of a purpose of `need`. */
  needed?(purpose: string): void;
}

/** Tells whether the volume is to get the data of its source. */
const isWanted = ({ deleted_at, source_error }: VolumeRecord): boolean =>
  deleted_at === undefined && source_error === undefined;

/** Tells whether the change concerns one of the fields, or the existence of the record. Labels concern no host. */
function differs<T extends object>(
  {
    previous,
    stored,
  }: { readonly previous?: { readonly value: T } | undefined; readonly stored?: { readonly value: T } | undefined },
  fields: readonly (keyof T)[],
): boolean {
  if (previous === undefined || stored === undefined) return true;
  return fields.some((field) => !isDeepStrictEqual(previous.value[field], stored.value[field]));
}

/** A mirror with the indexes and listeners that agents need. */
export class HostView {
  readonly mirror: Mirror;
  readonly #listeners = new Map<Id<'host'>, ViewListener>();
  readonly #hostOf = new Map<Id<'vm'>, Id<'host'>>();
  readonly #byImage;
  readonly #operations;
  readonly #reportsBy;
  readonly #attachmentsOf;
  readonly #attachmentOf;
  readonly #volumesOn;
  readonly #snapshotsOn;
  readonly #snapshotsOf;
  readonly #volumesFrom;
  readonly #volumesWithImage;
  readonly #restoresFrom;
  readonly #routesTo;
  /** Undefined if the mirror has everything. */
  readonly #scope: HostScope | undefined;
  readonly #membersWith;
  readonly #membersOf;

  constructor(mirror: Mirror, own?: { readonly scope: Scope; readonly host: Id<'host'> }) {
    this.mirror = mirror;
    this.#byImage = mirror.index(vms, ({ value }) => value.image);
    this.#operations = mirror.index(operations, ({ value }) =>
      (value.state === 'pending' || value.state === 'running') && !isMove(value) ? value.target : undefined,
    );
    this.#reportsBy = mirror.index(reports, ({ value }) => value.host);
    this.#attachmentsOf = mirror.index(volumeAttachments, ({ value }) => value.vm);
    this.#attachmentOf = mirror.index(volumeAttachments, ({ value }) => value.volume);
    this.#volumesOn = mirror.index(volumePlacements, ({ value }) => value.host);
    this.#snapshotsOn = mirror.index(snapshotPlacements, ({ value }) => value.host);
    this.#snapshotsOf = mirror.index(snapshots, ({ value }) =>
      value.disks.flatMap(({ volume }) => volume ?? value.vm ?? []),
    );
    this.#volumesFrom = mirror.index(volumes, ({ value }) => snapshotWithData(value));
    this.#volumesWithImage = mirror.index(volumes, ({ value }) =>
      'image' in (sourceOf(value) ?? {}) ? value.image : undefined,
    );
    this.#routesTo = mirror.index(prefixRoutes, ({ value }) => value.vm);
    this.#restoresFrom = mirror.index(operations, ({ value }) =>
      value.state === 'pending' || value.state === 'running' ? value.options.snapshot : undefined,
    );
    this.#membersWith = mirror.index(networkMembers, ({ value }) => value.security_groups);
    this.#membersOf = mirror.index(networkMembers, ({ value }) => value.project);
    for (const { id } of mirror.list(placements)) {
      const { host, vm } = parsePlacementId(id);
      this.#hostOf.set(vm, host);
    }
    this.#scope = own && new HostScope(mirror, own.scope, own.host, (object) => this.#onKnown(own.host, object));
    mirror.subscribe((batch) => {
      // The listeners look at the new scope.
      this.#scope?.apply(batch.changes);
      this.#onBatch(batch);
    });
  }

  /** Follows the VMs, besides those that are placed here. Resolves when the view has all records that concern the host. */
  async start(followed: Iterable<Id<'vm'>>): Promise<void> {
    await this.#scope?.start(followed);
  }

  /** The machine has the VM, or may have it, so its records concern the host. */
  follow(vm: Id<'vm'>): void {
    this.#scope?.follow(vm);
  }

  /** The machine has nothing of the VM any more. */
  unfollow(vm: Id<'vm'>): void {
    this.#scope?.unfollow(vm);
  }

  /** Tells whether a missing record of the object does not exist. Otherwise the view calls the listener when it knows that. */
  isKnown(object: Id<'vm'> | Id<'snapshot'> | Id<'storage_pool'> | Id<'volume'>): boolean {
    if (this.#scope === undefined) return true;
    return isIdOf('vm', object) ? this.#scope.isVmKnown(object) : this.#scope.isKnown(object);
  }

  /**
   * Adds records to the view: keys, and key prefixes that end with `/`. They replace those of the same purpose. Returns whether
   * the view has them already; otherwise it calls `needed` of the listeners when it has them.
   */
  need(purpose: string, ranges: Iterable<string>): boolean {
    return this.#scope?.need(purpose, ranges) ?? true;
  }

  /** Tells whether the view has all members of the network. */
  areMembersKnown(network: string): boolean {
    return this.#scope?.areMembersKnown(network) ?? true;
  }

  /** Registers the listener of a host. Returns a function that removes it. */
  listen(host: Id<'host'>, listener: ViewListener): () => void {
    this.#listeners.set(host, listener);
    return () => {
      if (this.#listeners.get(host) === listener) this.#listeners.delete(host);
    };
  }

  /** Returns the VMs that are placed on the host. */
  placedOn(host: Id<'host'>): Id<'vm'>[] {
    return [...this.mirror.list(placements, placementsOn(host))].map(({ id }) => parsePlacementId(id).vm);
  }

  /** Returns the reports that the host has written. */
  reportsBy(host: Id<'host'>) {
    return this.#reportsBy.list(host);
  }

  /** Returns the attachments of the VM. */
  attachmentsOf(vm: Id<'vm'>) {
    return [...this.#attachmentsOf.list(vm)];
  }

  /** Returns the volumes with data on the host. */
  volumesOn(host: Id<'host'>): Id<'volume'>[] {
    return [...this.#volumesOn.list(host)].map(({ id }) => idFrom('volume', id));
  }

  /** Returns the attachment of the volume. */
  attachmentOf(volume: Id<'volume'>) {
    const [attachment] = this.#attachmentOf.list(volume);
    return attachment;
  }

  /** Returns the snapshots with data on the host. */
  snapshotsOn(host: Id<'host'>): Id<'snapshot'>[] {
    return [...this.#snapshotsOn.list(host)].map(({ id }) => idFrom('snapshot', id));
  }

  /**
   * Returns the snapshots that still copy this disk, or are yet to begin: that of a volume, or the own disk of a VM. The API
   * declares a snapshot only while its source is neither deleted nor larger. So the view of a deletion or growth has all
   * snapshots that precede it.
   */
  copiesOf(disk: Id<'volume'> | Id<'vm'>): SnapshotRecord[] {
    return [...this.#snapshotsOf.list(disk)].flatMap(({ id, value }) => {
      const phase = this.mirror.get(snapshotReports, id)?.value.phase;
      const whole = this.mirror.get(snapshots, wholeOf(value) ?? '')?.value;
      return isBeingMade(value, phase, whole) ? [value] : [];
    });
  }

  /**
   * Returns the size in bytes that a disk may have now, of its granted size. A disk grows after the end of its copies,
   * because the space of a copy is that of the disk at the request.
   */
  sizeBesideCopies(disk: Id<'volume'> | Id<'vm'>, granted: number): number {
    const copied = this.copiesOf(disk).flatMap(({ disks }) =>
      disks.filter(({ volume }) => (isIdOf('volume', disk) ? volume === disk : volume === undefined)),
    );
    return Math.min(granted, ...copied.map(({ size }) => size));
  }

  /** Returns the new volumes that do not have the data of the snapshot yet. */
  volumesWaitingFor(snapshot: Id<'snapshot'>, host: Id<'host'>): Id<'volume'>[] {
    return [...this.#volumesFrom.list(snapshot)].flatMap(({ id, value }) => {
      const waits = isWanted(value) && this.mirror.get(volumeReports, id) === undefined;
      const { host: elsewhere = host, movable } = this.mirror.get(volumePlacements, id)?.value ?? {};
      return waits && (movable || elsewhere === host) ? [idFrom('volume', id)] : [];
    });
  }

  /** Returns the volumes that the host must still fill from the image. */
  volumesWaitingForImage(image: string, host: Id<'host'>): Id<'volume'>[] {
    // Without its image, a volume waits for ever.
    const record = this.mirror.get(images, image)?.value;
    if (record === undefined) return [];
    return [...this.#volumesWithImage.list(image)].flatMap(({ id, value }) => {
      if (value.deleted_at !== undefined || this.mirror.get(volumeReports, id) !== undefined) return [];
      if (!mayFill(value.project, record)) return [];
      return this.mirror.get(volumePlacements, id)?.value.host === host ? [idFrom('volume', id)] : [];
    });
  }

  /**
   * Returns the images that new volumes of the pool wait for, on any host. Volumes without a host wait for none: otherwise
   * volumes that are never used would keep deleted images in the pool.
   */
  imagesWantedIn(pool: Id<'storage_pool'>): Set<Id<'image'>> {
    const wanted = new Set<Id<'image'>>();
    for (const { id, value } of this.mirror.list(volumes)) {
      const source = sourceOf(value);
      if (source === undefined || !('image' in source) || value.deleted_at !== undefined) continue;
      if (poolOf(value) !== pool || this.mirror.get(volumeReports, id) !== undefined) continue;
      const isPlaced = this.mirror.get(volumePlacements, id)?.value.host !== undefined;
      const image = this.mirror.get(images, source.image)?.value;
      const mayWait = image ? mayFill(value.project, image) : !this.isKnown(idFrom('volume', id));
      if (isPlaced && mayWait) wanted.add(source.image);
    }
    return wanted;
  }

  /** Tells whether a VM is being restored from the snapshot, or from the snapshot that it is a part of. */
  isRestored(snapshot: Id<'snapshot'>): boolean {
    const record = this.mirror.get(snapshots, snapshot)?.value;
    return this.#restoresFrom.get((record && wholeOf(record)) ?? snapshot) !== undefined;
  }

  /** Tells whether VMs of the network are placed on other hosts. */
  isElsewhere(network: Id<'network'>, host: Id<'host'>): boolean {
    for (const { value } of this.mirror.list(networkMembers, `${network}/`)) if (value.host !== host) return true;
    return false;
  }

  /** Returns the interfaces with the security group. */
  membersWith(group: Id<'security_group'>) {
    return [...this.#membersWith.list(group)];
  }

  /** Returns the interfaces of the placed VMs of the project. */
  membersOfProject(project: Id<'project'>) {
    return [...this.#membersOf.list(project)];
  }

  /** Returns the operations on the VM that its host carries out and that have not ended, oldest first. */
  openOperations(vm: Id<'vm'>) {
    return [...this.#operations.list(vm)].sort((a, b) => a.created - b.created);
  }

  /** Closes the mirror. The listeners get no more changes. */
  close(): Promise<void> {
    this.#scope?.close();
    return this.mirror.close();
  }

  #notify(vm: Id<'vm'>): void {
    // The listener looks at a VM when all its records are known.
    if (!this.isKnown(vm)) return;
    const host = this.#hostOf.get(vm);
    if (host !== undefined) this.#listeners.get(host)?.vm(vm);
  }

  #onKnown(host: Id<'host'>, object: KnownObject): void {
    const listener = this.#listeners.get(host);
    if (listener === undefined) return;
    if ('vm' in object) {
      listener.vm(object.vm);
      // Its networks may be new here.
      listener.networks();
    } else if ('volume' in object) {
      if (this.mirror.get(volumePlacements, object.volume)?.value.host === host) listener.volume(object.volume);
      for (const { value } of this.#attachmentOf.list(object.volume)) this.#notify(value.vm);
    } else if ('snapshot' in object) listener.snapshot(object.snapshot);
    else if ('pool' in object) listener.pool(object.pool);
    else if ('purpose' in object) listener.needed?.(object.purpose);
    else listener.networks();
  }

  #notifyVolume(volume: Id<'volume'>): void {
    const host = this.mirror.get(volumePlacements, volume)?.value.host;
    if (host !== undefined) this.#listeners.get(host)?.volume(volume);
  }

  /** A deleted snapshot may have waited for a volume or for a restore. */
  #notifySource(snapshot: Id<'snapshot'> | undefined): void {
    const host = snapshot && this.mirror.get(snapshotPlacements, snapshot)?.value.host;
    if (host !== undefined) this.#listeners.get(host)?.snapshot(snapshot as Id<'snapshot'>);
  }

  /** The deletion or growth of a disk may have waited for the end of its copy. */
  #notifyDisks(snapshot: SnapshotRecord | undefined): void {
    for (const { volume } of snapshot?.disks ?? []) {
      if (volume === undefined) {
        if (snapshot?.vm !== undefined) this.#notify(snapshot.vm);
        continue;
      }
      this.#notifyVolume(volume);
      for (const { value } of this.#attachmentOf.list(volume)) this.#notify(value.vm);
    }
  }

  #onBatch({ changes }: MirrorBatch): void {
    for (const change of changes) {
      if (isChangeOf(placements, change)) {
        const { host, vm } = parsePlacementId(change.id);
        if (change.stored) this.#hostOf.set(vm, host);
        else if (this.#hostOf.get(vm) === host) this.#hostOf.delete(vm);
        if (this.isKnown(vm) || change.stored === undefined) this.#listeners.get(host)?.vm(vm);
      } else if (isChangeOf(bgpPeers, change)) {
        for (const listener of this.#listeners.values()) listener.bgp();
      } else if (isChangeOf(hostPolicies, change)) this.#listeners.get(idFrom('host', change.id))?.bgp();
      else if (isChangeOf(vms, change) || isChangeOf(schedules, change)) {
        this.#notify(idFrom('vm', change.id));
        if (this.#routesTo.size(change.id) > 0) for (const listener of this.#listeners.values()) listener.networks();
      } else if (isChangeOf(operations, change)) {
        // A later version may have operations on other objects.
        const target = change.stored?.value.target;
        if (target !== undefined && isIdOf('vm', target)) this.#notify(target);
        this.#notifySource((change.stored ?? change.previous)?.value.options.snapshot);
      } else if (isChangeOf(volumeAttachments, change)) {
        for (const vm of [change.previous?.value.vm, change.stored?.value.vm]) if (vm !== undefined) this.#notify(vm);
      } else if (isChangeOf(snapshots, change) || isChangeOf(snapshotPlacements, change)) {
        const snapshot = idFrom('snapshot', change.id);
        const host = this.mirror.get(snapshotPlacements, snapshot)?.value.host;
        if (host !== undefined) this.#listeners.get(host)?.snapshot(snapshot);
        const record = this.mirror.get(snapshots, snapshot)?.value;
        // The snapshot of a VM waits for the space of its parts.
        if (record !== undefined) this.#notifySource(wholeOf(record));
        if (isChangeOf(snapshots, change)) this.#notifyDisks((change.stored ?? change.previous)?.value);
      } else if (
        isChangeOf(volumes, change) ||
        isChangeOf(volumePlacements, change) ||
        // A new volume gets its data before its VM gets the volume.
        (isChangeOf(volumeReports, change) && change.previous === undefined)
      ) {
        const volume = idFrom('volume', change.id);
        for (const { value } of this.#attachmentOf.list(volume)) this.#notify(value.vm);
        this.#notifyVolume(volume);
        // A volume that has moved is no longer filled here.
        const left = isChangeOf(volumePlacements, change) ? change.previous?.value.host : undefined;
        if (left !== undefined) this.#listeners.get(left)?.volume(volume);
        const before = isChangeOf(volumes, change) ? change.previous?.value : undefined;
        this.#notifySource(snapshotWithData(this.mirror.get(volumes, volume)?.value ?? before ?? {}));
      } else if (isChangeOf(snapshotReports, change)) {
        // Volumes may wait for the complete snapshot.
        for (const { value } of this.#volumesFrom.list(change.id)) this.#notifyVolume(value.id);
        this.#notifyDisks(this.mirror.get(snapshots, change.id)?.value);
      } else if (isChangeOf(storagePools, change)) {
        for (const listener of this.#listeners.values()) listener.pool(idFrom('storage_pool', change.id));
      } else if (isChangeOf(imageReports, change)) {
        for (const { value } of this.#byImage.list(change.id)) this.#notify(value.id);
        for (const { value } of this.#volumesWithImage.list(change.id)) this.#notifyVolume(value.id);
      } else if (isChangeOf(images, change)) {
        // The owner may have shared the image again.
        for (const { value } of this.#volumesWithImage.list(change.id)) this.#notifyVolume(value.id);
      } else if (
        (isChangeOf(networks, change) && differs(change, ['cidr', 'vni', 'mtu', 'dns_servers', 'project', 'prefix'])) ||
        isChangeOf(networkMembers, change) ||
        isChangeOf(networkCarriers, change) ||
        (isChangeOf(securityGroups, change) && differs(change, ['rules', 'default_egress'])) ||
        (isChangeOf(prefixes, change) && differs(change, ['cidr'])) ||
        (isChangeOf(prefixRoutes, change) && differs(change, ['cidr', 'vm', 'mac', 'project'])) ||
        (isChangeOf(hosts, change) &&
          !isDeepStrictEqual(change.previous?.value.underlay, change.stored?.value.underlay))
      ) {
        for (const listener of this.#listeners.values()) listener.networks();
      } else if (isChangeOf(alive, change)) {
        this.#listeners.get(idFrom('host', change.id))?.alive();
        // Packets take another way when a host is dead.
        if (change.previous === undefined || change.stored === undefined)
          for (const listener of this.#listeners.values()) listener.networks();
      }
    }
  }
}

const kinds = [
  ...[
    vms,
    images,
    imageReports,
    networks,
    operations,
    latestOperations,
    placements,
    schedules,
    reports,
    guests,
    sshKeys,
  ],
  ...[hosts, alive, leaders, networkMembers, networkCarriers, prefixes, prefixRoutes, securityGroups],
  ...[volumes, volumeAttachments, volumePlacements, volumeReports, attachmentReports],
  ...[snapshots, snapshotPlacements, snapshotReports],
  ...[storagePools, poolMarkers, poolReports],
  ...[imageCopies, imageServers, imageDeliveries],
  ...[bgpPeers, bgpReports, hostPolicies],
];

/**
 * Opens a view of everything, which many hosts may share.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function openHostView(store: Store, logger: Logger): Promise<HostView> {
  // One watch of the whole database shows each commit as a whole: a placement always appears together with its VM.
  return new HostView(await openMirror(store, { prefixes: [''], kinds, logger }));
}

/**
 * Opens the view of one host, which has only the records that concern the host.
 * @throws UcloudError `store_unavailable` if the database does not answer
 */
export async function openOwnView(store: Store, logger: Logger, host: Id<'host'>): Promise<HostView> {
  const mirror = await openScopedMirror(store, { kinds, scope: firstScope(host), logger });
  const view = new HostView(mirror, { scope: mirror.scope, host });
  try {
    await view.start(await reportedBy(store, mirror, host));
    return view;
  } catch (error) {
    await view.close();
    throw error;
  }
}

/**
 * Returns the VMs of which the host has written the reports. Nothing but the reports themselves tells their host, so this reads
 * all of them. A new host has none.
 */
async function reportedBy(store: Store, mirror: Mirror, host: Id<'host'>): Promise<Id<'vm'>[]> {
  const found: Id<'vm'>[] = [];
  if (mirror.get(hosts, host) === undefined) return found;
  for await (const { id, value } of readAll(store, reports)) if (value.host === host) found.push(idFrom('vm', id));
  return found;
}
