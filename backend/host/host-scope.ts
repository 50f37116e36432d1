/**
 * The part of the database that concerns one host: the scope of its mirror.
 *
 * - For each VM that is placed here or that the machine has: its records, its image, its security groups, and the members of
 *   its networks.
 * - The members of all networks of the same projects, because packets to them take the direct way.
 * - For all other networks only their record and their carriers.
 * - Everything about hosts, networks, routed prefixes, BGP peers, storage pools, volumes and snapshots.
 *
 * Each object that needs further records is an owner in the scope, such as `vm:<id>`. The ranges of an owner follow from records,
 * so this file computes them again when one of these records has changed. An object is known when all its ranges are.
 */
import type { Id } from '../contract/fields.ts';
import { idFrom, isIdOf } from '../model/ids.ts';
import { completeCarriers } from '../model/network/carriers.ts';
import { memberId } from '../model/network/members.ts';
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
  schedules,
  securityGroups,
  snapshotPlacements,
  snapshotReports,
  snapshots,
  sshKeys,
  storagePools,
  vms,
  volumeAttachments,
  volumePlacements,
  volumeReports,
  volumes,
} from '../model/records/index.ts';
import { markerId, poolReportId } from '../model/storage/pool.ts';
import { sourceOf } from '../model/storage/volume-source.ts';
import { isChangeOf, type Mirror, type RecordChange } from '../store/mirror.ts';
import type { Scope } from '../store/scoped-mirror.ts';

/** The owner of the ranges that every host has. */
const hostOwner = 'host';
/** The owner of the members of all networks, while the leading scheduler does not keep the carriers of networks. */
const membersOwner = 'members';

/** Returns the ranges that the mirror of a host has when it opens. */
export const firstScope = (host: Id<'host'>): Map<string, readonly string[]> =>
  new Map([
    [
      hostOwner,
      [
        placements.prefix + placementsOn(host),
        ...[hosts, alive, networks, networkCarriers, prefixes, prefixRoutes, bgpPeers].map(({ prefix }) => prefix),
        ...[storagePools, imageServers, imageDeliveries].map(({ prefix }) => prefix),
        ...[volumes, volumeAttachments, volumePlacements, volumeReports, attachmentReports].map(({ prefix }) => prefix),
        ...[snapshots, snapshotPlacements, snapshotReports].map(({ prefix }) => prefix),
        ...[hostPolicies, bgpReports].map(({ prefix }) => prefix + host),
        `${leaders.prefix}scheduler`,
      ],
    ],
  ]);

const ofImage = (image: string): string[] => [
  images.prefix + image,
  imageReports.prefix + image,
  `${imageCopies.prefix}${image}/`,
];
const membersOf = (network: string): string => `${networkMembers.prefix}${network}/`;

/** An object, or a purpose of `need`, whose ranges have become known. */
export type KnownObject =
  | { readonly vm: Id<'vm'> }
  | { readonly volume: Id<'volume'> }
  | { readonly snapshot: Id<'snapshot'> }
  | { readonly pool: Id<'storage_pool'> }
  | { readonly networks: true }
  | { readonly purpose: string };

/** Keeps the scope of the mirror of one host. */
export class HostScope {
  readonly #mirror: Mirror;
  readonly #scope: Scope;
  readonly #host: Id<'host'>;
  readonly #known: (object: KnownObject) => void;
  readonly #networksOf;
  readonly #attachmentsOf;
  readonly #snapshotsOn;
  /** The VMs that the machine has, or may have. */
  readonly #followed = new Set<Id<'vm'>>();
  readonly #placed = new Set<Id<'vm'>>();
  /** The networks of the VMs here and of their projects. */
  #networks: ReadonlySet<string> = new Set();
  /** The owners whose ranges are not known yet. */
  readonly #unknown = new Set<string>();
  #settled: PromiseWithResolvers<void> | undefined;

  /** @param known called for each object whose ranges have become known */
  constructor(mirror: Mirror, scope: Scope, host: Id<'host'>, known: (object: KnownObject) => void) {
    this.#mirror = mirror;
    this.#scope = scope;
    this.#host = host;
    this.#known = known;
    this.#networksOf = mirror.index(networks, ({ value }) => value.project);
    this.#attachmentsOf = mirror.index(volumeAttachments, ({ value }) => value.volume);
    this.#snapshotsOn = mirror.index(snapshotPlacements, ({ value }) => value.host);
    scope.onKnown((owner) => {
      // The new records may name further ones.
      this.#refresh(owner);
      if (!scope.has(owner)) return;
      this.#unknown.delete(owner);
      this.#tell(owner);
      if (this.#unknown.size === 0) this.#settled?.resolve();
    });
  }

  /** Follows the VMs, and everything that the mirror shows. Resolves when all ranges are known. */
  async start(followed: Iterable<Id<'vm'>>): Promise<void> {
    const mirror = this.#mirror;
    for (const { id } of mirror.list(placements, placementsOn(this.#host))) this.#placed.add(parsePlacementId(id).vm);
    for (const vm of followed) this.#followed.add(vm);
    for (const vm of [...this.#placed, ...this.#followed]) this.#setVm(vm);
    for (const { id } of mirror.list(storagePools)) this.#setPool(id);
    for (const { id } of mirror.list(prefixRoutes)) this.#setRoute(id);
    for (const { id } of mirror.list(volumes)) this.#setVolume(id);
    for (const { id } of this.#snapshotsOn.list(this.#host)) this.#setSnapshot(id);
    this.#setMembers();
    this.#setNetworks();
    if (this.#unknown.size === 0) return;
    this.#settled = Promise.withResolvers();
    await this.#settled.promise;
  }

  /** Ends the wait of `start`. */
  close(): void {
    this.#settled?.resolve();
  }

  /** The machine has the VM, or may have it. */
  follow(vm: Id<'vm'>): void {
    if (this.#followed.has(vm)) return;
    this.#followed.add(vm);
    this.#setVm(vm);
  }

  /** The machine has nothing of the VM. */
  unfollow(vm: Id<'vm'>): void {
    if (this.#followed.delete(vm)) this.#setVm(vm);
  }

  /** Tells whether the mirror has all records of the VM, so that a missing record does not exist. */
  isVmKnown(vm: Id<'vm'>): boolean {
    return this.#isFollowed(vm) && this.#scope.has(`vm:${vm}`);
  }

  /** The same for another object: a snapshot of this host, a storage pool, or a volume. */
  isKnown(object: Id<'snapshot'> | Id<'storage_pool'> | Id<'volume'>): boolean {
    const noun = isIdOf('snapshot', object) ? 'snapshot' : isIdOf('volume', object) ? 'volume' : 'pool';
    return this.#scope.has(`${noun}:${object}`);
  }

  /** Adds ranges for a purpose, instead of its ranges before. Returns whether all of them are known. */
  need(purpose: string, ranges: Iterable<string>): boolean {
    return this.#scope.set(`need:${purpose}`, ranges);
  }

  /** Tells whether the mirror has all members of the network. */
  areMembersKnown(network: string): boolean {
    return this.#networks.has(network) && this.#scope.has(`network:${network}`);
  }

  /** Changes the scope after these changes of records. */
  apply(changes: readonly RecordChange[]): void {
    let networksChanged = false;
    for (const change of changes) {
      const { id } = change;
      if (isChangeOf(placements, change)) {
        const { vm } = parsePlacementId(id);
        if (change.stored) this.#placed.add(vm);
        else this.#placed.delete(vm);
        this.#setVm(vm);
        networksChanged = true;
      } else if (isChangeOf(vms, change)) {
        this.#setVm(idFrom('vm', id));
        networksChanged = true;
      } else if (isChangeOf(networkMembers, change)) {
        const vm = (change.stored ?? change.previous)?.value.vm;
        if (vm !== undefined && this.#isFollowed(vm)) this.#setVm(vm);
      } else if (isChangeOf(latestOperations, change)) this.#setTarget(id);
      else if (isChangeOf(networks, change)) networksChanged = true;
      else if (isChangeOf(leaders, change) || isChangeOf(networkCarriers, change)) this.#setMembers();
      else if (isChangeOf(storagePools, change)) this.#setPool(id);
      else if (isChangeOf(prefixRoutes, change)) this.#setRoute(id);
      else if (isChangeOf(volumes, change) || isChangeOf(volumePlacements, change) || isChangeOf(volumeReports, change))
        this.#setVolume(id);
      else if (
        isChangeOf(snapshots, change) ||
        isChangeOf(snapshotPlacements, change) ||
        isChangeOf(snapshotReports, change)
      )
        this.#setSnapshot(id);
      // A snapshot waits for a restore of the VM to which its volume is attached.
      else if (isChangeOf(volumeAttachments, change))
        for (const snapshot of [...this.#snapshotsOn.list(this.#host)]) this.#setSnapshot(snapshot.id);
    }
    if (networksChanged) this.#setNetworks();
  }

  #isFollowed(vm: Id<'vm'>): boolean {
    return this.#placed.has(vm) || this.#followed.has(vm);
  }

  #set(owner: string, ranges: Iterable<string>): void {
    if (this.#scope.set(owner, ranges)) {
      this.#unknown.delete(owner);
    } else this.#unknown.add(owner);
    if (this.#unknown.size === 0) this.#settled?.resolve();
  }

  #tell(owner: string): void {
    const object = this.#scope.has(owner) ? objectOf(owner) : undefined;
    if (object) this.#known(object);
  }

  /** Computes the ranges of an owner again. */
  #refresh(owner: string): void {
    const [kind, id = ''] = owner.split(':');
    if (kind === 'vm') this.#setVm(idFrom('vm', id));
    else if (kind === 'snapshot') this.#setSnapshot(id);
  }

  /** The VM or the snapshot whose operation has changed. */
  #setTarget(vm: string): void {
    if (this.#isFollowed(idFrom('vm', vm))) this.#setVm(idFrom('vm', vm));
    for (const id of this.#snapshotsWith(vm)) this.#setSnapshot(id);
  }

  #operationsOn(vm: string): string[] {
    const latest = this.#mirror.get(latestOperations, vm)?.value.id;
    return [latestOperations.prefix + vm, ...(latest === undefined ? [] : [operations.prefix + latest])];
  }

  #setVm(vm: Id<'vm'>): void {
    this.#set(`vm:${vm}`, this.#isFollowed(vm) ? this.#rangesOfVm(vm) : []);
  }

  #rangesOfVm(vm: Id<'vm'>): Set<string> {
    const record = this.#mirror.get(vms, vm)?.value;
    return new Set([
      ...[vms, schedules, reports, guests].map(({ prefix }) => prefix + vm),
      ...this.#operationsOn(vm),
      ...(record?.ssh_keys ?? []).map((key) => sshKeys.prefix + key),
      ...(record === undefined ? [] : ofImage(record.image)),
      ...(record?.interfaces ?? []).map(({ network }) => membersOf(network)),
      ...(record?.interfaces ?? []).flatMap(({ network, mac }) => this.#groupsOf(network, mac)),
    ]);
  }

  /** The security groups of an interface. Members of other interfaces name the addresses of groups in their rules. */
  #groupsOf(network: Id<'network'>, mac: string): string[] {
    const groups = this.#mirror.get(networkMembers, memberId(network, mac))?.value.security_groups ?? [];
    return groups.map((group) => securityGroups.prefix + group);
  }

  #setNetworks(): void {
    const wanted = new Set<string>();
    const projects = new Set<string>();
    for (const vm of this.#placed) {
      const record = this.#mirror.get(vms, vm)?.value;
      if (record) projects.add(record.project);
      for (const { network } of record?.interfaces ?? []) wanted.add(network);
    }
    for (const project of projects) for (const { id } of this.#networksOf.list(project)) wanted.add(id);
    const before = this.#networks;
    this.#networks = wanted;
    for (const network of before) if (!wanted.has(network)) this.#set(`network:${network}`, []);
    for (const network of wanted) if (!before.has(network)) this.#set(`network:${network}`, [membersOf(network)]);
  }

  /** Mirrors all members while the leading scheduler is of an earlier version, or has not written all carriers yet. */
  #setMembers(): void {
    const leader = this.#mirror.get(leaders, 'scheduler')?.value;
    const isComplete = this.#mirror.get(networkCarriers, completeCarriers) !== undefined;
    const needsMembers = !isComplete || (leader !== undefined && leader.carriers !== true);
    this.#set(membersOwner, needsMembers ? [networkMembers.prefix] : []);
  }

  #setPool(pool: string): void {
    const id = idFrom('storage_pool', pool);
    // The report of a deleted pool may be left.
    this.#set(`pool:${id}`, [
      poolMarkers.prefix + markerId(id, 'shared', this.#host),
      poolMarkers.prefix + markerId(id, 'local', this.#host),
      poolReports.prefix + poolReportId(id, this.#host),
    ]);
  }

  /** The schedule tells whether the VM is placed, and the VM the network of the next hop, unless the route does. */
  #setRoute(route: string): void {
    const record = this.#mirror.get(prefixRoutes, route)?.value;
    const ofVm = record === undefined ? [] : record.network === undefined ? [schedules, vms] : [schedules];
    this.#set(
      `route:${route}`,
      ofVm.map(({ prefix }) => prefix + (record?.vm ?? '')),
    );
  }

  /** A pool keeps the images that new volumes wait for, on any host. The host of the volume needs the files. */
  #setVolume(volume: string): void {
    const record = this.#mirror.get(volumes, volume)?.value;
    const source = record && sourceOf(record);
    const waits = record?.deleted_at === undefined && this.#mirror.get(volumeReports, volume) === undefined;
    if (source === undefined || !('image' in source) || !waits) {
      this.#set(`volume:${volume}`, []);
      return;
    }
    const isHere = this.#mirror.get(volumePlacements, volume)?.value.host === this.#host;
    this.#set(`volume:${volume}`, isHere ? ofImage(source.image) : [images.prefix + source.image]);
  }

  /** The VMs whose disks the snapshot has. A restore changes these disks, and needs the data of the snapshot. */
  #vmsOf(snapshot: string): string[] {
    const record = this.#mirror.get(snapshots, snapshot)?.value;
    if (record === undefined) return [];
    const attached = record.disks.flatMap(({ volume }) =>
      volume === undefined ? [] : [...this.#attachmentsOf.list(volume)].map(({ value }) => value.vm),
    );
    return [...(record.vm === undefined ? [] : [record.vm]), ...attached];
  }

  *#snapshotsWith(vm: string): Generator<string> {
    for (const { id } of this.#snapshotsOn.list(this.#host)) if (this.#vmsOf(id).includes(vm)) yield id;
  }

  #setSnapshot(snapshot: string): void {
    const isHere = this.#mirror.get(snapshotPlacements, snapshot)?.value.host === this.#host;
    const phase = this.#mirror.get(snapshotReports, snapshot)?.value.phase;
    const isFinal = phase === 'available' || phase === 'error';
    const isDeleted = this.#mirror.get(snapshots, snapshot)?.value.deleted_at !== undefined;
    const needsVms = isHere && (!isFinal || isDeleted);
    this.#set(
      `snapshot:${snapshot}`,
      needsVms ? this.#vmsOf(snapshot).flatMap((vm) => [vms.prefix + vm, ...this.#operationsOn(vm)]) : [],
    );
  }
}

function objectOf(owner: string): KnownObject | undefined {
  const [kind, id = ''] = owner.split(':');
  switch (kind) {
    case 'vm':
      return { vm: idFrom('vm', id) };
    case 'volume':
      return { volume: idFrom('volume', id) };
    case 'snapshot':
      return { snapshot: idFrom('snapshot', id) };
    case 'pool':
      return { pool: idFrom('storage_pool', id) };
    case 'network':
    case 'route':
    case membersOwner:
      return { networks: true };
    case 'need':
      return { purpose: id };
    default:
      return undefined;
  }
}
