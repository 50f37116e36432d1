/** How each kind of object looks from outside, and who sees it. */
import { createHash } from 'node:crypto';
import type { TSchema } from '@sinclair/typebox';
import type { Noun } from '../../contract/fields.ts';
import type { Event } from '../../contract/resources/events.ts';
import type { Host } from '../../contract/resources/hosts.ts';
import type { Image } from '../../contract/resources/images.ts';
import type { Network } from '../../contract/resources/networks.ts';
import type { Operation } from '../../contract/resources/operations.ts';
import type { PrefixPool } from '../../contract/resources/prefix-pools.ts';
import type { Prefix } from '../../contract/resources/prefixes.ts';
import type { Project } from '../../contract/resources/projects.ts';
import type { SshKey } from '../../contract/resources/ssh-keys.ts';
import type { TerraformState } from '../../contract/resources/terraform-states.ts';
import type { Token } from '../../contract/resources/tokens.ts';
import type { Vm } from '../../contract/resources/vms.ts';
import { gatewayAddress } from '../../model/network/interface-names.ts';
import { minLengthOf, storedPrefix } from '../../model/network/prefixes.ts';
import { defaultHostPolicy as placementDefaults } from '../../model/placement/filters.ts';
import { showQuota } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { formatSize } from '../../model/text/sizes.ts';
import { type VmObservations, vmStatus } from '../../model/vm/status.ts';
import type { RecordKind } from '../../store/record-kind.ts';
import type { ApiContext } from '../requests/context.ts';
import type { DeclaredRecord, ResourceDescriptor } from '../requests/descriptor.ts';

type Shown<Item> = Omit<Item, 'revision'>;

interface View<R extends DeclaredRecord, Item> {
  readonly noun: Noun;
  readonly plural: string;
  readonly kind: RecordKind<TSchema & { static: R }>;
  readonly scope: ResourceDescriptor<R>['scope'];
  readonly isPublic?: (record: R) => boolean;
  readonly hides?: ResourceDescriptor<R>['hides'];
  readonly labels?: ResourceDescriptor<R>['labels'];
  readonly show: (api: ApiContext, record: R) => Shown<Item>;
}

/** Checks that `show` gives all fields of the contract. */
const view =
  <Item>() =>
  <R extends DeclaredRecord>(declaration: View<R, Item>): ResourceDescriptor<R> =>
    declaration;

export const projects = view<Project>()<records.ProjectRecord>({
  noun: 'project',
  plural: 'projects',
  kind: records.projects,
  scope: 'self',
  show: (_api, record) => ({ ...record, quota: showQuota(record.quota) }),
});

export const tokens = view<Token>()<records.TokenRecord>({
  noun: 'token',
  plural: 'tokens',
  kind: records.tokens,
  scope: 'project',
  show: (_api, { hash: _hash, ...record }) => record,
});

export const sshKeys = view<SshKey>()<records.SshKeyRecord>({
  noun: 'ssh_key',
  plural: 'ssh-keys',
  kind: records.sshKeys,
  scope: 'project',
  show: (_api, record) => record,
});

export const images = view<Image>()<records.ImageRecord>({
  noun: 'image',
  plural: 'images',
  kind: records.images,
  scope: 'project',
  isPublic: (record) => record.visibility === 'public',
  show(api, record) {
    const report = api.mirror.get(records.imageReports, record.id)?.value;
    const sha256 = record.sha256 ?? report?.sha256;
    return {
      ...record,
      ...(sha256 === undefined ? {} : { sha256 }),
      ...(report?.size === undefined ? {} : { size: formatSize(report.size) }),
      status: {
        phase: report?.phase ?? 'pending',
        ...(report?.message === undefined ? {} : { message: report.message }),
      },
    };
  },
});

export const prefixPools = view<PrefixPool>()<records.PrefixPoolRecord>({
  noun: 'prefix_pool',
  plural: 'prefix-pools',
  kind: records.prefixPools,
  scope: 'cloud',
  show: (_api, record) => ({
    delete_protection: false,
    ...record,
    min_length: minLengthOf(storedPrefix(record.cidr), record),
  }),
});

export const prefixes = view<Prefix>()<records.PrefixRecord>({
  noun: 'prefix',
  plural: 'prefixes',
  kind: records.prefixes,
  scope: 'project',
  show: (_api, record) => ({ delete_protection: false, ...record }),
});

export const networks = view<Network>()<records.NetworkRecord>({
  noun: 'network',
  plural: 'networks',
  kind: records.networks,
  scope: 'project',
  show: (_api, record) => ({ delete_protection: false, ...record, gateway: gatewayAddress }),
});

export const terraformStates = view<TerraformState>()<records.TerraformStateRecord>({
  noun: 'terraform_state',
  plural: 'terraform-states',
  kind: records.terraformStates,
  scope: 'project',
  show: (_api, { kept_bytes: _kept, ...record }) => record,
});

function observe({ mirror }: ApiContext, id: string): VmObservations {
  const schedule = mirror.get(records.schedules, id)?.value;
  const report = mirror.get(records.reports, id)?.value;
  const guest = mirror.get(records.guests, id)?.value;
  return {
    ...(schedule === undefined ? {} : { schedule }),
    ...(report === undefined ? {} : { report }),
    ...(guest === undefined ? {} : { guest }),
    hostAlive: schedule?.host !== undefined && mirror.get(records.alive, schedule.host) !== undefined,
  };
}

/** By record: a list is made often, and its VMs change seldom. */
const digests = new WeakMap<records.VmRecord, string>();

function digestOf(record: records.VmRecord, text: string): string {
  const known = digests.get(record) ?? createHash('sha256').update(text).digest('hex');
  digests.set(record, known);
  return known;
}

export const vms = view<Vm>()<records.VmRecord>({
  noun: 'vm',
  plural: 'vms',
  kind: records.vms,
  scope: 'project',
  // It can be large and hold secrets.
  hides: ({ role, listed }) =>
    role === 'viewer' ? ['user_data', 'user_data_sha256'] : listed === true ? ['user_data'] : [],
  show(api, record) {
    const {
      generation: _generation,
      user_data_generation: _changed,
      deleted_at: _deleted,
      memory,
      disk_size,
      ...shown
    } = record;
    return {
      ...shown,
      memory: formatSize(memory),
      disk_size: formatSize(disk_size),
      address: record.interfaces[0]?.address ?? '',
      ...(record.user_data === undefined ? {} : { user_data_sha256: digestOf(record, record.user_data) }),
      status: vmStatus(record, observe(api, record.id)),
    };
  },
});

/** What hosts are until the operator sets a policy. */
export const defaultPolicy: Omit<records.HostPolicyRecord, 'updated_at'> = { labels: {}, ...placementDefaults };

export const hosts = view<Host>()<records.HostRecord>({
  noun: 'host',
  plural: 'hosts',
  kind: records.hosts,
  scope: 'operator',
  labels: (api, record) => api.mirror.get(records.hostPolicies, record.id)?.value.labels ?? {},
  show({ mirror }, record) {
    const policy = mirror.get(records.hostPolicies, record.id)?.value;
    const allocated = { cpus: 0, memory: 0, disk: 0 };
    for (const { value } of mirror.list(records.placements, `${record.id}/`)) {
      allocated.cpus += value.cpus;
      allocated.memory += value.memory;
      allocated.disk += value.disk;
    }
    return {
      ...record,
      ...defaultPolicy,
      ...policy,
      alive: mirror.get(records.alive, record.id) !== undefined,
      allocated,
      updated_at: policy?.updated_at ?? record.created_at,
    };
  },
});

export const operations = view<Operation>()<records.OperationRecord>({
  noun: 'operation',
  plural: 'operations',
  kind: records.operations,
  scope: 'project',
  show: (_api, { options: _options, ...record }) => record,
});

export const events = view<Event & { revision: number }>()<records.EventRecord>({
  noun: 'event',
  plural: 'events',
  kind: records.events,
  scope: 'project',
  show: (_api, record) => record,
});

/** What can be found by its id. */
export const servedKinds: ReadonlyMap<Noun, ResourceDescriptor<DeclaredRecord>> = new Map(
  [projects, tokens, sshKeys, images, prefixPools, prefixes, networks, vms, hosts, operations, terraformStates].map(
    (served) => [
      served.noun,
      // Only ever asked to show records of its own kind.
      served as unknown as ResourceDescriptor<DeclaredRecord>,
    ],
  ),
);
