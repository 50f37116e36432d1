/** Records that only the agent of a host writes: the host, its sign of life, and the VMs that it observes. */

import { type Static, Type } from '@sinclair/typebox';
import { architectures } from '../../contract/resources/images.ts';
import { id, kind, oneOf, resources, time } from './form.ts';

export const hosts = kind('hosts/', {
  id: id('host'),
  name: Type.String(),
  hypervisor: oneOf(['qemu', 'simulated']),
  accelerator: oneOf(['kvm', 'tcg', 'none']),
  architecture: oneOf(architectures),
  version: Type.String(),
  capacity: Type.Object(resources),
  created_at: time,
});
export type HostRecord = Static<typeof hosts.schema>;

/** `alive/<host>`, under the lease of the host's agent. */
export const alive = kind('alive/', { at: time });

/**
 * `reports/<vm>`: what the host that holds the placement sees. Removed by that host when the VM is not placed there any
 * more, by the scheduler when the record of the host is gone, and by the API's collector with the VM.
 */
export const reports = kind('reports/', {
  host: id('host'),
  fence: Type.Integer(),
  phase: oneOf(['preparing', 'starting', 'running', 'stopping', 'stopped', 'error', 'gone']),
  /** Stable word, with `error` or while something holds it up. */
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  /** Generation of the declaration that the running guest was started with. */
  generation: Type.Optional(Type.Integer()),
  /** What the running guest was started with. */
  resources: Type.Optional(Type.Object(resources)),
  started_at: Type.Optional(time),
  /** Of earlier versions. It is derived now: see `pendingChanges`. */
  restart_required: Type.Optional(Type.Boolean()),
  at: time,
});
export type ReportRecord = Static<typeof reports.schema>;
