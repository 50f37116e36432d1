/** Records that only the agent of a host writes: the host, its sign of life, and the VMs that it observes. */

import { type Static, Type } from '@sinclair/typebox';
import { sessionStates } from '../../contract/resources/bgp-peers.ts';
import { connectionFilters } from '../../contract/resources/hosts.ts';
import { architectures } from '../../contract/resources/images.ts';
import { bytes, id, kind, oneOf, resources, time } from './form.ts';

/** `hosts/<id>`: the description of a host. */
export const hosts = kind('hosts/', {
  id: id('host'),
  name: Type.String(),
  hypervisor: oneOf(['qemu', 'simulated']),
  accelerator: oneOf(['kvm', 'tcg', 'none']),
  architecture: oneOf(architectures),
  version: Type.String(),
  /** Earlier versions write none. */
  connection_filter: Type.Optional(oneOf(connectionFilters)),
  capacity: Type.Object(resources),
  /** The end of the host's tunnels, and the MTU of the underlay. Without it, networks end at this host. */
  underlay: Type.Optional(Type.Object({ address: Type.String(), mtu: Type.Integer() })),
  created_at: time,
});
export type HostRecord = Static<typeof hosts.schema>;

/** `alive/<host>`: the sign of life, under the lease of the host's agent. */
export const alive = kind('alive/', { at: time });

/**
 * `reports/<vm>`: the observations of the host with the placement. That host removes the report when the VM is no
 * longer placed there. The scheduler removes it when the host's record is gone, and the API's collector removes it with
 * the VM.
 */
export const reports = kind('reports/', {
  host: id('host'),
  fence: Type.Integer(),
  phase: oneOf(['preparing', 'starting', 'running', 'stopping', 'stopped', 'error', 'gone']),
  /** A constant word, in the phase `error` or while the VM waits for something. */
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  /** The generation of the declaration at the start of the running guest. */
  generation: Type.Optional(Type.Integer()),
  /** The resources of the running guest at its start. */
  resources: Type.Optional(Type.Object(resources)),
  started_at: Type.Optional(time),
  /** The interfaces that the guest has or may have, with the addresses that it may use. Earlier versions write none. */
  interfaces: Type.Optional(
    Type.Array(
      Type.Object({
        mac: Type.String(),
        addresses: Type.Array(Type.String()),
        /** The host is about to give the interface, or some of its addresses, to the guest. */
        pending: Type.Optional(Type.Boolean()),
      }),
    ),
  ),
  /** The guest gets its declared interfaces only at its next start. */
  interfaces_wait: Type.Optional(Type.Boolean()),
  /** The guest agent of the running guest has answered lately. */
  guest_agent: Type.Optional(Type.Boolean()),
  at: time,
});
export type ReportRecord = Static<typeof reports.schema>;

/**
 * `attachment-reports/<attachment>`: the guest of the VM has the volume, or may have it. The agent writes the report
 * before it gives the volume to the guest, and removes it after the guest has lost the volume or has ended.
 */
export const attachmentReports = kind('attachment-reports/', {
  host: id('host'),
  /** The fence of the VM's placement. */
  fence: Type.Integer(),
  phase: oneOf(['attaching', 'attached', 'detaching']),
  /** The reason why the guest does not have the volume yet, or still has it. A constant word and a text. */
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  at: time,
});
export type AttachmentReportRecord = Static<typeof attachmentReports.schema>;

/** `volume-reports/<volume>`: the data of the volume on its host. The scheduler removes it with the volume's placement. */
export const volumeReports = kind('volume-reports/', {
  host: id('host'),
  phase: oneOf(['available', 'gone']),
  /** The size of the data, in bytes. */
  size: bytes,
  at: time,
});
export type VolumeReportRecord = Static<typeof volumeReports.schema>;

/**
 * `snapshot-reports/<snapshot>`: the copy of a snapshot on its host. `available` and `error` are final until `gone`. The
 * scheduler removes the report with the snapshot's placement.
 */
export const snapshotReports = kind('snapshot-reports/', {
  host: id('host'),
  phase: oneOf(['creating', 'available', 'error', 'gone']),
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  /** The instant that the copy shows. */
  taken_at: Type.Optional(time),
  at: time,
});
export type SnapshotReportRecord = Static<typeof snapshotReports.schema>;

/** `pool-reports/<pool>/<host>`: what a host sees of a storage pool. The host removes it with the pool. */
export const poolReports = kind('pool-reports/', {
  reachable: Type.Boolean(),
  /** The reason why the host does not reach the pool. */
  message: Type.Optional(Type.String()),
  size: bytes,
  free: bytes,
  at: time,
});
export type PoolReportRecord = Static<typeof poolReports.schema>;

/**
 * `pool-markers/<pool>` or, for local pools, `pool-markers/<pool>/<host>`: the random text in the marker file of the
 * pool's directory. A directory without this marker is another one: for example, its file system is not mounted.
 */
export const poolMarkers = kind('pool-markers/', { token: Type.String() });

/** `bgp-reports/<host>`: the BGP sessions of the host. The API removes it with the host. */
export const bgpReports = kind('bgp-reports/', {
  sessions: Type.Array(
    Type.Object({
      peer: id('bgp_peer'),
      state: oneOf(sessionStates),
      /** The time of the last change of the state. */
      since: Type.Optional(time),
      /** The reason why the session is not established, or the last error. */
      message: Type.Optional(Type.String()),
      /** The number of routes that the host accepts from the peer. */
      imported: Type.Integer({ minimum: 0 }),
    }),
  ),
  at: time,
});
export type BgpReportRecord = Static<typeof bgpReports.schema>;
