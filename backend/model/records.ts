/**
 * What lies in the database, by key prefix, and who alone may write it. Desired and observed state are different
 * keys. Amounts are integers (bytes), times RFC 3339 UTC. API shapes (backend/contract) are made from these.
 *
 * Versions of ucloud work side by side on one database (docs/adr/0014). A field that is added must be optional, and
 * may be ignored by who does not know it. For any other change, raise `currentFormat`.
 */
import { type Static, type TProperties, Type } from '@sinclair/typebox';
import { type Id, type Noun, Reference } from '../contract/fields.ts';
import { operationStates } from '../contract/operations.ts';
import { quotaKinds } from '../contract/quotas.ts';
import { LockInfo } from '../contract/terraform-states.ts';
import { roles } from '../contract/tokens.ts';
import { antiAffinityModes, userDataResults } from '../contract/vms.ts';
import type { SomeAmounts } from './quota.ts';

const kind = <P extends TProperties>(prefix: string, fields: P) => ({ prefix, schema: Type.Object(fields) }) as const;
const oneOf = <const V extends readonly string[]>(values: V) =>
  Type.Unsafe<V[number]>({ type: 'string', enum: [...values] });
const id = <N extends Noun>(noun: N) => Reference(noun);

const time = Type.String();
const bytes = Type.Integer({ minimum: 0 });
const labels = Type.Record(Type.String(), Type.String());
const declared = { created_at: time, updated_at: time };
/** In a declaration its owner's name for the group, in a placement `<project>/<name>`. */
const antiAffinity = Type.Optional(Type.Object({ group: Type.String(), mode: oneOf(antiAffinityModes) }));
const scoped = { project: id('project'), name: Type.String(), labels };

/** Limits of a project, each absent if there is none. Null is no limit: an earlier version wrote it for 1e999. */
const limits = Type.Unsafe<SomeAmounts>({
  type: 'object',
  properties: Object.fromEntries(quotaKinds.map((kind) => [kind, { type: 'integer', nullable: true, minimum: 0 }])),
});

// ---- written by the API -------------------------------------------------------------------------------------------

export const projects = kind('projects/', {
  id: id('project'),
  name: Type.String(),
  description: Type.String(),
  labels,
  delete_protection: Type.Boolean(),
  ...declared,
  quota: Type.Optional(limits),
});

/** `settings/cloud`: what operators set for the whole cloud. */
export const settings = kind('settings/', { default_quota: Type.Optional(limits), updated_at: time });

/**
 * `quota-guards/<project>`: rewritten with everything that gives more to a project that has a quota, so that two which
 * together exceed it cannot both commit. Removed with the project.
 */
export const quotaGuards = kind('quota-guards/', { count: Type.Integer() });

export const tokens = kind('tokens/', {
  id: id('token'),
  project: Type.Optional(id('project')),
  name: Type.String(),
  labels,
  role: oneOf(roles),
  /** SHA-256 of the secret, hex. The secret has 256 random bits, so it needs no slow hash. */
  hash: Type.String(),
  expires_at: Type.Optional(time),
  ...declared,
});

export const sshKeys = kind('ssh-keys/', {
  id: id('ssh_key'),
  ...scoped,
  public_key: Type.String(),
  fingerprint: Type.String(),
  ...declared,
});

export const images = kind('images/', {
  id: id('image'),
  ...scoped,
  description: Type.String(),
  source: Type.String(),
  sha256: Type.Optional(Type.String()),
  architecture: oneOf(['x86_64', 'aarch64']),
  visibility: oneOf(['project', 'public']),
  delete_protection: Type.Boolean(),
  ...declared,
});

/** Records of earlier versions do not have it: not protected. */
const laterProtection = Type.Optional(Type.Boolean());

export const prefixPools = kind('prefix-pools/', {
  id: id('prefix_pool'),
  name: Type.String(),
  description: Type.String(),
  labels,
  cidr: Type.String(),
  default_length: Type.Integer(),
  /** Absent: see minLengthOf. */
  min_length: Type.Optional(Type.Integer()),
  delete_protection: laterProtection,
  ...declared,
});

export const prefixes = kind('prefixes/', {
  id: id('prefix'),
  ...scoped,
  pool: id('prefix_pool'),
  cidr: Type.String(),
  length: Type.Integer(),
  delete_protection: laterProtection,
  ...declared,
});

export const networks = kind('networks/', {
  id: id('network'),
  ...scoped,
  prefix: id('prefix'),
  cidr: Type.String(),
  mtu: Type.Integer(),
  dns_servers: Type.Array(Type.String()),
  vni: Type.Integer(),
  delete_protection: laterProtection,
  ...declared,
});

export const vms = kind('vms/', {
  id: id('vm'),
  ...scoped,
  description: Type.String(),
  image: id('image'),
  interfaces: Type.Array(Type.Object({ network: id('network'), mac: Type.String(), address: Type.String() })),
  anti_affinity: antiAffinity,
  user_data: Type.Optional(Type.String()),
  /** Generation at which user data last changed; never if it is missing. */
  user_data_generation: Type.Optional(Type.Integer()),
  cpus: Type.Integer(),
  memory: bytes,
  disk_size: bytes,
  ssh_keys: Type.Array(id('ssh_key')),
  power_state: oneOf(['running', 'stopped']),
  delete_protection: Type.Boolean(),
  /** Counts changes of the declaration. */
  generation: Type.Integer(),
  /** Set once by a deletion; the host then tears down, and the API's collector removes the record. */
  deleted_at: Type.Optional(time),
  ...declared,
});

export const hostPolicies = kind('host-policies/', {
  labels,
  draining: Type.Boolean(),
  cpu_overcommit: Type.Number(),
  memory_overcommit: Type.Number(),
  updated_at: time,
});

/** The lock lies in the same record, so every change of either is conditioned on both. */
export const terraformStates = kind('terraform-states/', {
  id: id('terraform_state'),
  project: id('project'),
  name: Type.String(),
  /** The latest version; none while it has only been locked. */
  version: Type.Optional(Type.Integer()),
  serial: Type.Optional(Type.Integer()),
  lineage: Type.Optional(Type.String()),
  terraform_version: Type.Optional(Type.String()),
  size: Type.Optional(bytes),
  /** Of all kept versions together, as they are stored. */
  kept_bytes: Type.Optional(bytes),
  lock: Type.Optional(LockInfo),
  ...declared,
});

/** `terraform-state-versions/<state>/<number, ten digits>`. */
export const terraformStateVersions = kind('terraform-state-versions/', {
  version: Type.Integer(),
  serial: Type.Integer(),
  lineage: Type.String(),
  terraform_version: Type.Optional(Type.String()),
  size: bytes,
  /** Digest of the state, base 64. None in versions that were written before it was kept. */
  md5: Type.Optional(Type.String()),
  token: id('token'),
  /** Where its chunks lie, and how to open them. */
  content: Type.Object({
    id: Type.String(),
    chunks: Type.Integer(),
    /** Bytes of all chunks together, before base 64. */
    stored: bytes,
    /** Which key of the API's encrypted it. */
    key: Type.String(),
    nonce: Type.String(),
    tag: Type.String(),
  }),
  created_at: time,
});

/** `terraform-state-chunks/<content>/<index, four digits>`: a piece of a compressed and encrypted state, base 64. */
export const terraformStateChunks = kind('terraform-state-chunks/', { data: Type.String() });

/** `terraform-state-uploads/<content>`: its chunks are being written. Removed with them when none of it comes to anything. */
export const terraformStateUploads = kind('terraform-state-uploads/', { at: time });

/** `names/<project or _>/<noun>/<name>`: uniqueness of names. */
export const names = kind('names/', { id: Type.String() });

/** `uses/<id of the used>/<id of the user>`: what keeps an object from being deleted. */
export const uses = kind('uses/', {});

/**
 * The holder of an address: `macs/<hex>` (see macKey), `addresses/<32 hex digits>`, `vnis/<number>`,
 * `subnets/<the upper half, 16 hex digits>`. Freed in the transaction that removes the holder.
 */
const holder = { id: Type.String() };
export const macs = kind('macs/', holder);
export const addresses = kind('addresses/', holder);
export const vnis = kind('vnis/', holder);
export const subnets = kind('subnets/', holder);

/**
 * `prefix-maps/<pool>`: written with every allocation from the pool, so that two that overlap cannot both commit.
 * `prefix-maps/pools`: the same for the pools themselves.
 */
export const prefixMaps = kind('prefix-maps/', { count: Type.Integer() });

/**
 * `latest-operations/<id of the target>`: the operation opened last. A new one is opened on the condition that it has
 * ended. Removed with the target.
 */
export const latestOperations = kind('latest-operations/', { id: id('operation') });

/** `idempotency/<token>/<hash of the key>`: the first answer, encrypted with the client's key. Removed after 24 hours. */
export const idempotency = kind('idempotency/', {
  request: Type.String(),
  status: Type.Integer(),
  answer: Type.String(),
  at: time,
});

/** `audit/<id>`, time-ordered ids. Removed after 90 days. */
export const auditRecords = kind('audit/', {
  id: id('audit_record'),
  at: time,
  token: id('token'),
  project: Type.Optional(id('project')),
  operation: Type.String(),
  target: Type.String(),
  request_id: Type.String(),
  source: Type.String(),
});

// ---- written by a host's agent -------------------------------------------------------------------------------------

const resources = { cpus: Type.Number(), memory: bytes, disk: bytes };
export const hosts = kind('hosts/', {
  id: id('host'),
  name: Type.String(),
  hypervisor: oneOf(['qemu', 'simulated']),
  accelerator: oneOf(['kvm', 'tcg', 'none']),
  architecture: oneOf(['x86_64', 'aarch64']),
  version: Type.String(),
  capacity: Type.Object(resources),
  created_at: time,
});

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

// ---- written by the metadata server (by the simulated hypervisor, which stands in for guest and metadata server) -----

/** `guests/<vm>`: what the guest has said of itself. Removed with the report. */
export const guests = kind('guests/', {
  ready_at: time,
  /** The result of the user data. Earlier versions leave it out, and so does an unknown result. */
  user_data: Type.Optional(oneOf(userDataResults)),
  exit_code: Type.Optional(Type.Integer({ minimum: 0 })),
});
export type GuestRecord = Static<typeof guests.schema>;

// ---- written by the image scanner ----------------------------------------------------------------------------------

/** `image-reports/<image>`. Removed by the API with the image. */
export const imageReports = kind('image-reports/', {
  phase: oneOf(['importing', 'available', 'error']),
  /** `file_missing`: the one error that is not final. */
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  sha256: Type.Optional(Type.String()),
  /** Virtual size in bytes. */
  size: Type.Optional(bytes),
  at: time,
});

// ---- written by the scheduler --------------------------------------------------------------------------------------

/** `schedules/<vm>`: where it runs, or why nowhere. */
export const schedules = kind('schedules/', {
  host: Type.Optional(id('host')),
  /** Counts the placements of the VM; a host acts only for the newest. */
  fence: Type.Integer(),
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  /** Why nowhere: how many hosts each filter of placement refuses. */
  refusals: Type.Optional(
    Type.Array(Type.Object({ filter: Type.String(), hosts: Type.Integer(), message: Type.String() })),
  ),
  at: time,
});

/**
 * `placements/<host>/<vm>`: the same by host, with what the VM may take there. A host starts a VM with no more than
 * this, whatever its declaration has become meanwhile. And the group that it keeps from this host.
 */
export const placements = kind('placements/', {
  fence: Type.Integer(),
  ...resources,
  anti_affinity: antiAffinity,
  at: time,
});

/** `leader/scheduler`, `leader/image-scanner`: under the lease of the one that works on it. */
export const leaders = kind('leader/', { id: Type.String() });

// ---- written by who carries them out (created by the API, whose collector ends what is open when the VM goes) --------

export const operations = kind('operations/', {
  id: id('operation'),
  project: id('project'),
  kind: oneOf(['vm_reboot']),
  target: Type.String(),
  options: Type.Object({ force: Type.Optional(Type.Boolean()) }),
  state: oneOf(operationStates),
  progress: Type.Integer(),
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
  finished_at: Type.Optional(time),
  ...declared,
});

// ---- appended by everyone --------------------------------------------------------------------------------------------

/** `events/<id>`, time-ordered ids. Removed after 7 days. */
export const events = kind('events/', {
  id: id('event'),
  project: Type.Optional(id('project')),
  at: time,
  target: Type.String(),
  severity: oneOf(['info', 'warning', 'error']),
  reason: Type.String(),
  message: Type.String(),
});

// ---- written by nobody yet: by the version that first needs it ---------------------------------------------------------

/**
 * What this version understands. To be raised with every change of a form that who does not know it would get wrong: a new
 * value of an enumeration, another meaning, a field that must not be ignored.
 */
export const currentFormat = 1;

/**
 * `format/store`: the least format that a reader of this database must understand; 1 if it is missing. A version that is
 * about to write what older ones would get wrong sets it first. They then stop, and do not start again.
 */
export const formats = kind('format/', { reader: Type.Integer({ minimum: 1 }) });

export type ProjectRecord = Static<typeof projects.schema>;
export type TokenRecord = Static<typeof tokens.schema>;
export type SshKeyRecord = Static<typeof sshKeys.schema>;
export type ImageRecord = Static<typeof images.schema>;
export type PrefixPoolRecord = Static<typeof prefixPools.schema>;
export type PrefixRecord = Static<typeof prefixes.schema>;
export type NetworkRecord = Static<typeof networks.schema>;
export type VmRecord = Static<typeof vms.schema>;
export type HostRecord = Static<typeof hosts.schema>;
export type HostPolicyRecord = Static<typeof hostPolicies.schema>;
export type ReportRecord = Static<typeof reports.schema>;
export type ImageReportRecord = Static<typeof imageReports.schema>;
export type ScheduleRecord = Static<typeof schedules.schema>;
export type PlacementRecord = Static<typeof placements.schema>;
export type OperationRecord = Static<typeof operations.schema>;
export type TerraformStateRecord = Static<typeof terraformStates.schema>;
export type TerraformStateVersionRecord = Static<typeof terraformStateVersions.schema>;
export type EventRecord = Static<typeof events.schema>;
export type { Id };
