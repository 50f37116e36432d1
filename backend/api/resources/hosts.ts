import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { type HostUpdate, host } from '../../contract/resources/hosts.ts';
import { defaultHostPolicy } from '../../model/placement/filters.ts';
import { parsePlacementId, placementsOn } from '../../model/placement/placement-id.ts';
import * as records from '../../model/records/index.ts';
import { absent, noneBelow, present, put, remove, rewrite, unchanged } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { changeObject } from '../transaction/change-object.ts';
import { answerWith, inUse, readPatch } from '../transaction/declarations.ts';
import type { Guard } from '../transaction/mutate.ts';
import { sessionsOf } from './bgp-peers.ts';

/** The policy of a host until an operator sets one. */
const defaultPolicy: Omit<records.HostPolicyRecord, 'updated_at'> = { labels: {}, ...defaultHostPolicy };

/** The maximum number of deleted VMs of a lost host. Each takes a condition of the transaction. */
const maxLostVms = 100;

/** The descriptor of hosts. */
export const hosts: ResourceDescriptor<records.HostRecord> = describe(host, {
  kind: records.hosts,
  scope: 'operator',
  labels: (api, record) => api.mirror.get(records.hostPolicies, record.id)?.value.labels ?? {},
  show({ mirror }, record) {
    const policy = mirror.get(records.hostPolicies, record.id)?.value;
    const allocated = { cpus: 0, memory: 0, disk: 0 };
    for (const { value } of mirror.list(records.placements, placementsOn(record.id))) {
      allocated.cpus += value.cpus;
      allocated.memory += value.memory;
      allocated.disk += value.disk;
    }
    for (const index of [mirror.volumesByHost, mirror.snapshotsByHost]) {
      for (const { value } of index.list(record.id)) if (value.pool === undefined) allocated.disk += value.size;
    }
    return {
      ...record,
      ...defaultPolicy,
      ...policy,
      cordoned: policy?.cordoned ?? false,
      alive: mirror.get(records.alive, record.id) !== undefined,
      allocated,
      bgp_sessions: sessionsOf(mirror, record.id),
      updated_at: policy?.updated_at ?? record.created_at,
    };
  },
  observedBy: [records.hostPolicies, records.bgpReports],
  hostOf: (_api, id) => id,
  version: ({ mirror }, { id, revision }) => mirror.get(records.hostPolicies, id)?.revision ?? revision,
  alsoMirrored: [
    ...[records.alive, records.placements, records.volumePlacements, records.volumes],
    ...[records.snapshotPlacements, records.snapshots],
  ],
  handlers: { host_update: updateHost, host_delete: deleteHost },
});

async function updateHost(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  const patch = readPatch<HostUpdate>(host, request.body as HostUpdate);
  return changeObject(api, request, hosts, (stored) => {
    const policy = api.mirror.get(records.hostPolicies, id);
    const next = { ...defaultPolicy, ...policy?.value, ...patch, updated_at: request.now.toISOString() };
    return {
      guards: [
        { condition: present(records.hosts, id) },
        { condition: policy ? unchanged(policy) : absent(records.hostPolicies, id) },
      ],
      writes: [policy ? rewrite(records.hostPolicies, policy, next) : put(records.hostPolicies, id, next)],
      target: id,
      quotaDelta: undefined,
      reason: 'updated',
      message: `Changed: ${Object.keys(patch).join(', ')}.`,
      answer: (revision) => ({ ...answerWith(api, hosts, stored, 200), version: revision }),
    };
  });
}

/**
 * Returns the guards that no VM of the host stays. Deleted VMs of a lost host go with it, because nobody else can say that
 * they have ended: the operator does so by this request.
 */
function guardsOfVms(api: ApiContext, { caller }: ApiRequest, host: Id<'host'>): Guard[] {
  const { mirror } = api;
  const placed = [...mirror.list(records.placements, placementsOn(host))];
  const vms = placed.map(({ id }) => parsePlacementId(id).vm);
  const deleted = vms.flatMap((vm) => mirror.get(records.vms, vm) ?? []).filter(({ value }) => value.deleted_at);
  const areDeleted = deleted.length === vms.length && vms.length <= maxLostVms;
  if (vms.length > 0 && areDeleted) return deleted.map((vm) => ({ condition: unchanged(vm) }));
  return [
    {
      condition: noneBelow(records.placements, placementsOn(host)),
      otherwise: (found) => {
        const keys = found.map(({ key }) => key.slice(records.placements.prefix.length));
        return inUse(
          api,
          caller,
          host,
          keys.map((key) => parsePlacementId(key).vm),
        );
      },
    },
  ];
}

async function deleteHost(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, hosts, (stored) => {
    // The data of these volumes and snapshots would be lost. A host that is not alive gets no further volumes, and it cannot remove the
    // data of deleted ones.
    const volumes = [...api.mirror.volumesByHost.list(id)]
      .filter(({ value }) => !value.movable)
      .map((placement) => placement.id)
      .filter((volume) => api.mirror.get(records.volumes, volume)?.value.deleted_at === undefined);
    const snapshots = [...api.mirror.snapshotsByHost.list(id)]
      .filter(({ value }) => !value.movable)
      .map((placement) => placement.id)
      .filter((snapshot) => api.mirror.get(records.snapshots, snapshot)?.value.deleted_at === undefined);
    if (volumes.length + snapshots.length > 0) throw inUse(api, request.caller, id, [...volumes, ...snapshots]);
    return {
      guards: [
        { condition: unchanged(stored) },
        {
          condition: absent(records.alive, id),
          otherwise: () => new UcloudError('invalid_state', `${id} is alive; stop its agent first`),
        },
        ...guardsOfVms(api, request, stored.value.id),
      ],
      writes: [records.hosts, records.hostPolicies, records.bgpReports].map((kind) => remove(kind, id)),
      target: id,
      quotaDelta: undefined,
      reason: 'deleted',
      message: `Deleted ${stored.value.name}.`,
      answer: (revision) => ({ status: 204, revision }),
    };
  });
}
