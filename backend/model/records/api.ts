/** Records that only the API writes: the declarations of users and operators, and the keys that keep them unique. */

import { type Static, type TObject, Type } from '@sinclair/typebox';
import { architectures, firmwares, networkConfigs } from '../../contract/resources/images.ts';
import { billingRules, placementStrategies } from '../../contract/resources/settings.ts';
import { consistencies } from '../../contract/resources/snapshots.ts';
import { poolKinds } from '../../contract/resources/storage-pools.ts';
import { LockInfo } from '../../contract/resources/terraform-states.ts';
import { roles } from '../../contract/resources/tokens.ts';
import { antiAffinity, bytes, declared, id, kind, labels, limits, oneOf, scoped, time } from './form.ts';

/** `projects/<id>`. */
export const projects = kind('projects/', {
  id: id('project'),
  name: Type.String(),
  description: Type.String(),
  labels,
  delete_protection: Type.Boolean(),
  ...declared,
  quota: Type.Optional(limits),
  billing_account: Type.Optional(id('billing_account')),
  /** Only in records of versions without `budgets/`. A server converts it at its start. */
  max_monthly_cost: Type.Optional(Type.String()),
});
export type ProjectRecord = Static<typeof projects.schema>;

/** `settings/cloud`: the settings of operators for the whole cloud. */
export const settings = kind('settings/', {
  default_quota: Type.Optional(limits),
  /** Default: the built-in pool. */
  default_storage_pool: Type.Optional(id('storage_pool')),
  /** Default: `spread`. */
  placement_strategy: Type.Optional(oneOf(placementStrategies)),
  /** The keys of host labels that all users may name. Default: none. */
  selectable_host_labels: Type.Optional(Type.Array(Type.String())),
  /** Default: `optional`. */
  billing: Type.Optional(oneOf(billingRules)),
  updated_at: time,
});

/**
 * `quota-guards/<project>`. Every increase in a project with a quota rewrites this record, so two increases that
 * together exceed the quota cannot both commit. It is removed with the project.
 */
export const quotaGuards = kind('quota-guards/', { count: Type.Integer() });

/** `tokens/<id>`. */
export const tokens = kind('tokens/', {
  id: id('token'),
  project: Type.Optional(id('project')),
  name: Type.String(),
  labels,
  role: oneOf(roles),
  /** The account of a token of role `billing`. */
  billing_account: Type.Optional(id('billing_account')),
  /** The SHA-256 of the secret in hex. The secret has 256 random bits, so it needs no slow hash. */
  hash: Type.String(),
  expires_at: Type.Optional(time),
  ...declared,
});
export type TokenRecord = Static<typeof tokens.schema>;

/** `ssh-keys/<id>`. */
export const sshKeys = kind('ssh-keys/', {
  id: id('ssh_key'),
  ...scoped,
  public_key: Type.String(),
  fingerprint: Type.String(),
  ...declared,
});
export type SshKeyRecord = Static<typeof sshKeys.schema>;

/** `images/<id>`. */
export const images = kind('images/', {
  id: id('image'),
  ...scoped,
  description: Type.String(),
  /** One of `source` and `snapshot` is set. */
  source: Type.Optional(Type.String()),
  /** The snapshot with the disk. It may be gone. */
  snapshot: Type.Optional(id('snapshot')),
  snapshot_disk: Type.Optional(Type.String()),
  /** The part of the snapshot with the disk, if the snapshot does not have it itself. */
  snapshot_part: Type.Optional(id('snapshot')),
  /** The volume with the disk. `snapshot` is then the one that the API has made for this image. */
  volume: Type.Optional(id('volume')),
  sha256: Type.Optional(Type.String()),
  sha512: Type.Optional(Type.String()),
  architecture: oneOf(architectures),
  /** Records of earlier versions lack this field; see `defaultFirmware`. */
  firmware: Type.Optional(oneOf(firmwares)),
  visibility: oneOf(['project', 'public']),
  shared_with: Type.Optional(Type.Array(id('project'))),
  family: Type.Optional(Type.String()),
  deprecated_at: Type.Optional(time),
  /** This image may be gone, because a replacement does not prevent a deletion. */
  replaced_by: Type.Optional(id('image')),
  /** Records of earlier versions lack this field; see `defaultNetworkConfig`. */
  network_config: Type.Optional(oneOf(networkConfigs)),
  delete_protection: Type.Boolean(),
  ...declared,
});
export type ImageRecord = Static<typeof images.schema>;

/**
 * `file-deletions/<file>`: the request to delete a file. The scanner of the server removes this record together with the
 * record of the file, after the file itself.
 */
export const fileDeletions = kind('file-deletions/', { at: time });

/**
 * `uploads/<id>`: an upload to the file server of the API. Its phases are receiving → verified (the bytes are checked, and
 * the file moves to its place) → complete → recorded (the file scanner counts the file, so the upload no longer counts).
 */
export const uploads = kind('uploads/', {
  id: id('upload'),
  project: id('project'),
  server: id('file_server'),
  /** The id of the file that the upload becomes. */
  file: id('file'),
  /** The name as it is on disk. */
  file_name: Type.String(),
  size: bytes,
  sha256: Type.String(),
  phase: oneOf(['receiving', 'verified', 'complete', 'recorded']),
  created_at: time,
  expires_at: time,
});
export type UploadRecord = Static<typeof uploads.schema>;

/** `upload-locks/<upload>`: the API process that writes to the upload, under its lease. */
export const uploadLocks = kind('upload-locks/', { by: Type.String() });
/** `upload-lock-requests/<upload>`: another process wants the lock, because the client has a new connection. */
export const uploadLockRequests = kind('upload-lock-requests/', { at: time });

/** The facts of an image that a VM needs to boot from its content. */
const bootFacts = {
  architecture: oneOf(architectures),
  firmware: oneOf(firmwares),
  network_config: oneOf(networkConfigs),
};
export type BootFacts = Static<TObject<typeof bootFacts>>;

/** `vms/<id>`. */
export const vms = kind('vms/', {
  id: id('vm'),
  ...scoped,
  description: Type.String(),
  /** With a root volume: its image, which may be gone. */
  image: id('image'),
  /** The volume that the VM boots from. The VM then has no disk of its own, and the size of its disk is 0. */
  root_volume: Type.Optional(id('volume')),
  /** The facts of the image of the root volume. */
  boot: Type.Optional(Type.Object(bootFacts)),
  interfaces: Type.Array(
    Type.Object({
      network: id('network'),
      mac: Type.String(),
      address: Type.String(),
      /** Missing: none. */
      secondary_addresses: Type.Optional(Type.Array(Type.String())),
      /** Missing: none. */
      security_groups: Type.Optional(Type.Array(id('security_group'))),
    }),
  ),
  /**
   * Interfaces and addresses that the VM no longer declares, and that the guest may still use. They stay taken. An
   * interface that the VM still declares occurs here with its former addresses.
   */
  leaving_interfaces: Type.Optional(
    Type.Array(Type.Object({ network: id('network'), mac: Type.String(), addresses: Type.Array(Type.String()) })),
  ),
  /** The generation of the last change of the interfaces other than their groups; missing if they never changed so. */
  interfaces_generation: Type.Optional(Type.Integer()),
  anti_affinity: antiAffinity,
  /** The label selector for the hosts of the VM. */
  host_selector: Type.Optional(Type.String()),
  user_data: Type.Optional(Type.String()),
  /** The generation of the last change of the user data; missing if it never changed. */
  user_data_generation: Type.Optional(Type.Integer()),
  cpus: Type.Integer(),
  memory: bytes,
  disk_size: bytes,
  ssh_keys: Type.Array(id('ssh_key')),
  /** The volumes that the VM declares itself. Records of earlier versions lack them. */
  volumes: Type.Optional(Type.Array(id('volume'))),
  power_state: oneOf(['running', 'stopped']),
  delete_protection: Type.Boolean(),
  /** The counter of changes of the declaration. */
  generation: Type.Integer(),
  /** Set once by a deletion. The host then removes the VM, and the API's collector removes the record. */
  deleted_at: Type.Optional(time),
  ...declared,
});
export type VmRecord = Static<typeof vms.schema>;

/**
 * `storage-pools/<id>`. The record of the built-in pool has no path. The key of a Ceph user is in a file on the hosts,
 * never in the database.
 */
export const storagePools = kind('storage-pools/', {
  id: id('storage_pool'),
  name: Type.String(),
  description: Type.String(),
  labels,
  kind: oneOf(poolKinds),
  path: Type.Optional(Type.String()),
  rbd_pool: Type.Optional(Type.String()),
  monitors: Type.Optional(Type.Array(Type.String())),
  user: Type.Optional(Type.String()),
  key_file: Type.Optional(Type.String()),
  overcommit: Type.Number(),
  delete_protection: Type.Boolean(),
  ...declared,
});
export type StoragePoolRecord = Static<typeof storagePools.schema>;

/** `volumes/<id>`. */
export const volumes = kind('volumes/', {
  id: id('volume'),
  ...scoped,
  description: Type.String(),
  /** Records of earlier versions lack it: their volumes lie in the built-in pool. */
  pool: Type.Optional(id('storage_pool')),
  size: bytes,
  /** Operations per second; 0 for no limit. */
  max_iops: Type.Integer({ minimum: 0 }),
  /** MiB per second; 0 for no limit. */
  max_throughput: Type.Integer({ minimum: 0 }),
  force_detach: Type.Boolean(),
  /** The image of the data: the source of the first data, or the image of the root disk in the snapshot. */
  image: Type.Optional(id('image')),
  /** The facts of this image that a VM needs to boot from the volume. They outlive the image. */
  boot: Type.Optional(Type.Object(bootFacts)),
  /** The snapshot with the first data of the volume, and the disk in it (`root`, or the id of a volume). */
  snapshot: Type.Optional(id('snapshot')),
  snapshot_disk: Type.Optional(Type.String()),
  /** The part of the snapshot with the data, if the snapshot does not have it itself. */
  snapshot_part: Type.Optional(id('snapshot')),
  /** The host of this snapshot. */
  source_host: Type.Optional(id('host')),
  /** The volume with the data. `snapshot` is then the one that the API has made for this volume. */
  source_volume: Type.Optional(id('volume')),
  /** Why this snapshot could not be made. The volume never gets data. */
  source_error: Type.Optional(Type.Object({ message: Type.String() })),
  delete_protection: Type.Boolean(),
  /** Set once by a deletion. The host then removes the data, and the API's collector removes the record. */
  deleted_at: Type.Optional(time),
  ...declared,
});
export type VolumeRecord = Static<typeof volumes.schema>;

/** `volume-attachments/<id>`. */
export const volumeAttachments = kind('volume-attachments/', {
  id: id('volume_attachment'),
  project: id('project'),
  labels,
  vm: id('vm'),
  volume: id('volume'),
  /** The slot of the VM, from 0. */
  slot: Type.Integer({ minimum: 0 }),
  /** The VM boots from the volume. Its slot follows those of other volumes. */
  root: Type.Optional(Type.Boolean()),
  /** The declaration of the VM contains the volume. */
  by_vm: Type.Optional(Type.Boolean()),
  /** Set once by a detachment. The host then unplugs the volume, and the API's collector removes the record. */
  deleted_at: Type.Optional(time),
  ...declared,
});
export type VolumeAttachmentRecord = Static<typeof volumeAttachments.schema>;

/** `snapshots/<id>`. */
export const snapshots = kind('snapshots/', {
  id: id('snapshot'),
  ...scoped,
  description: Type.String(),
  /** The source, which may be gone: a volume or a VM. */
  volume: Type.Optional(id('volume')),
  vm: Type.Optional(id('vm')),
  consistency: oneOf(consistencies),
  /** The schedule that has made the snapshot; it may be gone. */
  schedule: Type.Optional(id('snapshot_schedule')),
  /**
   * The new volume or image that gets the data, or the snapshot of a VM that the snapshot is a part of. The collector deletes
   * the snapshot when its purpose has ended.
   */
  made_for: Type.Optional(Type.String()),
  /** The host of the source. */
  host: id('host'),
  /** The pool of the source. Default: the built-in pool. */
  pool: Type.Optional(id('storage_pool')),
  /** The disks with their sizes in bytes at the creation. The disk of the VM has no volume. */
  disks: Type.Array(
    Type.Object({
      volume: Type.Optional(id('volume')),
      size: bytes,
      /** The pool of a volume of a VM, if it is not the built-in pool. The part with the data of this disk has it, too. */
      pool: Type.Optional(id('storage_pool')),
      copy: Type.Optional(id('snapshot')),
      /** The image of a root disk, with its facts. Records of earlier versions lack them. */
      image: Type.Optional(id('image')),
      boot: Type.Optional(Type.Object(bootFacts)),
    }),
  ),
  delete_protection: Type.Boolean(),
  /** Set once by a deletion. The host then removes the data, and the API's collector removes the record. */
  deleted_at: Type.Optional(time),
  ...declared,
});
export type SnapshotRecord = Static<typeof snapshots.schema>;

/** `snapshot-schedules/<id>`. */
export const snapshotSchedules = kind('snapshot-schedules/', {
  id: id('snapshot_schedule'),
  ...scoped,
  description: Type.String(),
  /** The source, which may be gone: a volume or a VM. */
  volume: Type.Optional(id('volume')),
  vm: Type.Optional(id('vm')),
  cron: Type.String(),
  retain: Type.Integer({ minimum: 1 }),
  consistency: oneOf(consistencies),
  snapshot_labels: labels,
  delete_protection: Type.Boolean(),
  /** The time from which `cron` holds. */
  since: time,
  ...declared,
});
export type SnapshotScheduleRecord = Static<typeof snapshotSchedules.schema>;

/**
 * `snapshot-schedule-runs/<schedule>`: the last time at which a snapshot was due, and the snapshot or the reason why there is
 * none. Any API process writes it, in one transaction with the snapshot.
 */
export const snapshotScheduleRuns = kind('snapshot-schedule-runs/', {
  due: time,
  snapshot: Type.Optional(id('snapshot')),
  reason: Type.Optional(Type.String()),
  message: Type.Optional(Type.String()),
  at: time,
});
export type SnapshotScheduleRunRecord = Static<typeof snapshotScheduleRuns.schema>;

/** `host-policies/<host>`. */
export const hostPolicies = kind('host-policies/', {
  labels,
  draining: Type.Boolean(),
  /** False if it is missing: records of earlier versions lack it. */
  cordoned: Type.Optional(Type.Boolean()),
  cpu_overcommit: Type.Number(),
  memory_overcommit: Type.Number(),
  updated_at: time,
});
export type HostPolicyRecord = Static<typeof hostPolicies.schema>;

/** `terraform-states/<id>`. The lock is in the same record, so every change requires both to be unchanged. */
export const terraformStates = kind('terraform-states/', {
  id: id('terraform_state'),
  project: id('project'),
  name: Type.String(),
  /** The latest version; missing until the first version is written. */
  version: Type.Optional(Type.Integer()),
  serial: Type.Optional(Type.Integer()),
  lineage: Type.Optional(Type.String()),
  terraform_version: Type.Optional(Type.String()),
  size: Type.Optional(bytes),
  /** The stored bytes of all kept versions. */
  kept_bytes: Type.Optional(bytes),
  lock: Type.Optional(LockInfo),
  ...declared,
});
export type TerraformStateRecord = Static<typeof terraformStates.schema>;

/** `terraform-state-versions/<state>/<number, ten digits>`. */
export const terraformStateVersions = kind('terraform-state-versions/', {
  version: Type.Integer(),
  serial: Type.Integer(),
  lineage: Type.String(),
  terraform_version: Type.Optional(Type.String()),
  size: bytes,
  /** The MD5 of the state in base 64. Versions of earlier releases lack it. */
  md5: Type.Optional(Type.String()),
  token: id('token'),
  /** The location of the chunks, and the parameters of their decryption. */
  content: Type.Object({
    id: Type.String(),
    chunks: Type.Integer(),
    /** The bytes of all chunks, before base 64. */
    stored: bytes,
    /** The id of the key in the API's key file. */
    key: Type.String(),
    nonce: Type.String(),
    tag: Type.String(),
  }),
  created_at: time,
});
export type TerraformStateVersionRecord = Static<typeof terraformStateVersions.schema>;

/** `terraform-state-chunks/<content>/<index, four digits>`: a piece of a compressed and encrypted state, base 64. */
export const terraformStateChunks = kind('terraform-state-chunks/', { data: Type.String() });

/** `terraform-state-uploads/<content>`: an upload in progress. It is removed with its chunks if the upload fails. */
export const terraformStateUploads = kind('terraform-state-uploads/', { at: time });

/** `names/<project or _>/<noun>/<name>`: makes names unique. */
export const names = kind('names/', { id: Type.String() });

/** `uses/<id of the used object>/<id of the user>`: prevents the deletion of the used object. */
export const uses = kind('uses/', {});

/**
 * The holder of an address: `macs/<hex>` (see macKey), `addresses/<32 hex digits>`, `vnis/<number>`, `subnets/<the
 * upper half, 16 hex digits>`. The transaction that removes the holder also removes this record.
 */
const holder = { id: Type.String() };
export const macs = kind('macs/', holder);
export const addresses = kind('addresses/', holder);
export const vnis = kind('vnis/', holder);
export const subnets = kind('subnets/', holder);
/** `routed-prefixes/<first hex digits>`: the route of a space, one record for each of its keys (see spaceKeys). */
export const routedPrefixes = kind('routed-prefixes/', holder);
/**
 * The attachment in a slot of a VM (`volume-slots/<vm>/<slot, two digits>`), and the attachment of a volume
 * (`volume-holders/<volume>`). So a VM has at most 16 volumes, and a volume has at most one VM.
 */
export const volumeSlots = kind('volume-slots/', holder);
export const volumeHolders = kind('volume-holders/', holder);
export type VolumeHolderRecord = Static<typeof volumeHolders.schema>;

/**
 * `prefix-maps/<pool>`. Every allocation from the pool rewrites this record, so two overlapping prefixes cannot both
 * commit. `prefix-maps/pools` does the same for the pools.
 */
export const prefixMaps = kind('prefix-maps/', { count: Type.Integer() });

/**
 * `latest-operations/<id of the target>`: the latest operation. A new operation requires that it has ended. It is
 * removed with the target.
 */
export const latestOperations = kind('latest-operations/', { id: id('operation') });

/**
 * `idempotency/<token>/<hash of the key>`: the first answer, encrypted with the client's key. It is removed after 24
 * hours.
 */
export const idempotency = kind('idempotency/', {
  request: Type.String(),
  status: Type.Integer(),
  answer: Type.String(),
  at: time,
});

/** `audit/<id>`, with time-ordered ids. Audit records are removed after 90 days. */
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
