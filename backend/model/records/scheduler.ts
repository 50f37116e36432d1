/** Records that only the scheduler writes: the host of each VM. Leaders of all components have the same form. */
import { type Static, Type } from '@sinclair/typebox';
import { antiAffinity, bytes, id, kind, labels, resources, time } from './form.ts';

/** `schedules/<vm>`: the host of the VM, or the reason why it has none. */
export const schedules = kind('schedules/', {
  host: Type.Optional(id('host')),
  /** The counter of the VM's placements. A host acts only for the newest. */
  fence: Type.Integer(),
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  /** The number of hosts that each filter of placement rejects. */
  refusals: Type.Optional(
    Type.Array(Type.Object({ filter: Type.String(), hosts: Type.Integer(), message: Type.String() })),
  ),
  at: time,
});
export type ScheduleRecord = Static<typeof schedules.schema>;

/**
 * `placements/<host>/<vm>`: the placement by host, with the granted resources and the anti-affinity group. A host
 * starts the VM with at most these resources, even if the declaration has changed meanwhile.
 */
export const placements = kind('placements/', {
  fence: Type.Integer(),
  ...resources,
  anti_affinity: antiAffinity,
  at: time,
});
export type PlacementRecord = Static<typeof placements.schema>;

/**
 * `network-members/<network>/<mac>`: an interface of a placed VM, with its host. The transaction of the placement writes it,
 * so its fence is that of the placement. Hosts send packets for the address to this host. The labels of the VM and the
 * security groups of the interface are copies, so a host needs no records of VMs elsewhere.
 */
export const networkMembers = kind('network-members/', {
  vm: id('vm'),
  host: id('host'),
  fence: Type.Integer(),
  /** The address in the network's prefix (RFC 5952). */
  address: Type.String(),
  /** The further addresses in the prefix. Missing: none. */
  more_addresses: Type.Optional(Type.Array(Type.String())),
  /** The project of the VM. Records of earlier versions lack it. */
  project: Type.Optional(id('project')),
  /** The labels of the VM. Default: none. */
  labels: Type.Optional(labels),
  /** The security groups that apply to the interface, in the order of their ids. Default: none. */
  security_groups: Type.Optional(Type.Array(id('security_group'))),
});
export type NetworkMemberRecord = Static<typeof networkMembers.schema>;

/**
 * `network-carriers/<network>`: a few hosts with members of the network, the preferred one first. Other hosts send packets for the
 * network to one of them. It is removed with the last member. The scheduler writes it after the members, so it may lag. The record
 * `network-carriers/complete` says that the records of all networks exist.
 */
export const networkCarriers = kind('network-carriers/', { hosts: Type.Array(id('host')) });

/**
 * `volume-placements/<volume>`: the host of a volume with the granted size, or the reason why it has none. Only this host
 * acts on the data. A volume gets its host with its first attachment. In a local pool it keeps this host; in another pool
 * it moves to the host of its next VM, and with its VM.
 */
export const volumePlacements = kind('volume-placements/', {
  host: Type.Optional(id('host')),
  /** Default: the built-in pool, whose space is the disk of the host. */
  pool: Type.Optional(id('storage_pool')),
  /** Other hosts reach the data too. Default: false. */
  movable: Type.Optional(Type.Boolean()),
  /** The granted size in bytes. */
  size: bytes,
  /** The reason why the volume has no host, or not its declared size. */
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  at: time,
});
export type VolumePlacementRecord = Static<typeof volumePlacements.schema>;

/** `snapshot-placements/<snapshot>`: the space of a snapshot on its host, or the reason why it has none. */
export const snapshotPlacements = kind('snapshot-placements/', volumePlacements.schema.properties);

/** `leader/scheduler`, `leader/image-scanner`, `leader/file-scanner-<server>`: the leading process, under its lease. */
export const leaders = kind('leader/', {
  id: Type.String(),
  /** The scheduler keeps `network-carriers/`. Those of earlier versions do not. */
  carriers: Type.Optional(Type.Boolean()),
});
