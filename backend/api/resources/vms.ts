/**
 * VMs. The API declares them, the scheduler places them, and a host runs them. A deletion only marks the declaration.
 * The host then removes the VM from the machine, and the collector (jobs/vm-removal.ts) removes the records.
 */
import { createHash } from 'node:crypto';
import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import { type Vm, type VmBody, type VmUpdate, vm } from '../../contract/resources/vms.ts';
import { newId } from '../../model/ids.ts';
import { vmAmounts } from '../../model/quota/amounts.ts';
import * as records from '../../model/records/index.ts';
import { formatSize, sizeInBytes } from '../../model/text/sizes.ts';
import { type VmObservations, vmStatus } from '../../model/vm/status.ts';
import { put, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Write } from '../../store/store.ts';
import type { ApiAnswer, ApiContext, ApiRequest } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { refer } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import {
  addReference,
  answerWith,
  checkProtection,
  creation,
  projectOfCreation,
  readPatch,
  removeReference,
  replacement,
} from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';
import { detachment, newAttachment } from './attachment-changes.ts';
import { hostSelectorGuards } from './host-selectors.ts';
import { imageSize, images } from './images.ts';
import { sshKeys } from './ssh-keys.ts';
import { changeInterfaces, declareInterfaces, type Probes } from './vm-interfaces.ts';
import { moveVm } from './vm-move.ts';
import { rebootVm } from './vm-reboot.ts';
import { restoreVm } from './vm-restore.ts';
import { volumes } from './volumes.ts';

/** The descriptor of VMs. */
export const vms: ResourceDescriptor<records.VmRecord> = describe(vm, {
  kind: records.vms,
  scope: 'project',
  // User data can be large and contain secrets.
  hides: ({ role, listed }) =>
    role === 'viewer' ? ['user_data', 'user_data_sha256'] : listed === true ? ['user_data'] : [],
  show(api, record) {
    const {
      generation: _generation,
      user_data_generation: _changed,
      interfaces_generation: _rewired,
      leaving_interfaces: _leaving,
      deleted_at: _deleted,
      memory,
      disk_size,
      boot: _boot,
      volumes = [],
      interfaces,
      ...shown
    } = record;
    const root = record.root_volume === undefined ? undefined : api.mirror.get(records.volumes, record.root_volume);
    return {
      ...shown,
      interfaces: interfaces.map((each) => ({ secondary_addresses: [], security_groups: [], ...each })),
      volumes,
      memory: formatSize(memory),
      disk_size: formatSize(root?.value.size ?? disk_size),
      address: record.interfaces[0]?.address ?? '',
      ...(record.user_data === undefined ? {} : { user_data_sha256: digestOf(record, record.user_data) }),
      status: vmStatus(record, observe(api, record.id)),
    };
  },
  quota: vmAmounts,
  observedBy: [records.schedules, records.reports, records.guests],
  watches({ mirror }, id) {
    const root = mirror.get(records.vms, id)?.value.root_volume;
    return root === undefined ? [] : [{ kind: records.volumes, id: root }];
  },
  hostOf: ({ mirror }, id) => mirror.get(records.schedules, id)?.value.host,
  handlers: {
    vm_create: createVm,
    vm_update: updateVm,
    vm_delete: deleteVm,
    vm_reboot: (api, request) => rebootVm(api, request, vms),
    vm_restore: (api, request) => restoreVm(api, request, vms),
    vm_move: (api, request) => moveVm(api, request, vms),
  },
});

/** The body with the defaults of the contract. */
type Body = VmBody & Pick<Vm, 'anti_affinity' | 'host_selector'>;

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

/** The digests by record, because lists are frequent and VMs rarely change. */
const digests = new WeakMap<records.VmRecord, string>();

function digestOf(record: records.VmRecord, text: string): string {
  const known = digests.get(record) ?? createHash('sha256').update(text).digest('hex');
  digests.set(record, known);
  return known;
}

function diskSize(api: ApiContext, image: string, asked: string | undefined): number {
  const least = imageSize(api, image);
  if (asked === undefined) {
    if (least !== undefined) return least;
    throw fieldError(
      'rule_violated',
      '/disk_size',
      'is required until the image is imported, because its size is unknown before',
    );
  }
  const size = sizeInBytes(asked);
  if (least !== undefined && size < least) {
    throw fieldError('rule_violated', '/disk_size', `must be at least that of the image, ${formatSize(least)}`);
  }
  return size;
}

/** The fields of a new VM that follow from the content of its disk. */
interface Origin extends Pick<records.VmRecord, 'image' | 'disk_size' | 'boot'> {
  readonly guards: readonly Guard[];
  readonly writes: readonly Write[];
}

/**
 * Returns the image of a new VM and the size of its own disk. A VM with a root volume has none.
 * @throws UcloudError `invalid_reference`, `rule_violated`
 */
function originOf(api: ApiContext, project: Id<'project'>, id: Id<'vm'>, body: Body): Origin {
  const { image, root_volume, disk_size } = body;
  if (image !== undefined && root_volume === undefined) {
    const { guards, writes } = addReference(api, images, { project, id: image, pointer: '/image', user: id });
    return { image, disk_size: diskSize(api, image, disk_size), guards, writes };
  }
  if (image !== undefined || root_volume === undefined) {
    throw fieldError('rule_violated', '/image', 'exactly one of image and root_volume must be set');
  }
  if (disk_size !== undefined) throw noDiskSize();
  const at = '/root_volume';
  const { value } = refer(api, volumes, project, root_volume, at);
  if (value.image === undefined || value.boot === undefined) {
    const detail = 'must be a volume with an image: one that was created with it, or from a snapshot of a root disk';
    throw fieldError('rule_violated', at, detail);
  }
  const again = body.volumes.indexOf(root_volume);
  if (again >= 0) throw fieldError('rule_violated', `/volumes/${again}`, 'must not be the root volume');
  // The attachment has the guard that the volume stays as it is.
  return { image: value.image, disk_size: 0, boot: value.boot, guards: [], writes: [] };
}

const noDiskSize = () =>
  fieldError('rule_violated', '/disk_size', 'must be omitted with root_volume: change the size of the volume');

/** Returns the references to the SSH keys that the user does not have yet. */
function useKeys(
  api: ApiContext,
  project: Id<'project'>,
  user: string,
  keys: readonly string[],
  held: readonly string[] = [],
) {
  const uses = keys.flatMap((id, index) =>
    held.includes(id) ? [] : [addReference(api, sshKeys, { project, id, pointer: `/ssh_keys/${index}`, user })],
  );
  return { guards: uses.flatMap((one) => one.guards), writes: uses.flatMap((one) => one.writes) };
}

/**
 * Returns the changes that give the VM the volumes of its declaration. `held` are those of the declaration before;
 * undefined for a new VM.
 */
function changeVolumes(api: ApiContext, vm: records.VmRecord, before: readonly Id<'volume'>[] | undefined, at: string) {
  const held = before ?? [];
  const others = { slots: new Set<number>(), hosts: new Set<Id<'host'>>() };
  const attach = (volume: Id<'volume'>, pointer: string, root: boolean) => {
    const pointers = { volume: pointer, vm: root ? pointer : '/volumes' };
    const asked = { vm, volume, pointers, labels: {}, byVm: true, root, at, others };
    const { record, guards, writes } = newAttachment(api, asked);
    return { guards, writes: [put(records.volumeAttachments, record.id, record), ...writes] };
  };
  const root = before === undefined && vm.root_volume ? [attach(vm.root_volume, '/root_volume', true)] : [];
  const added = (vm.volumes ?? []).flatMap((volume, index) =>
    held.includes(volume) ? [] : [attach(volume, `/volumes/${index}`, false)],
  );
  const removed = held.flatMap((volume) => {
    if (vm.volumes?.includes(volume)) return [];
    const holder = api.mirror.get(records.volumeHolders, volume)?.value.id ?? '';
    const attachment = api.mirror.get(records.volumeAttachments, holder);
    const own = attachment?.value.vm === vm.id && attachment.value.by_vm && attachment.value.deleted_at === undefined;
    return attachment && own ? [detachment(api, attachment, at, vm)] : [];
  });
  const all = [...root, ...added, ...removed];
  return { guards: all.flatMap(({ guards }) => guards), writes: all.flatMap(({ writes }) => writes) };
}

function checkAlive(stored: Stored<records.VmRecord>): void {
  if (stored.value.deleted_at === undefined) return;
  throw new UcloudError('being_deleted', `${stored.id} is being deleted (since ${stored.value.deleted_at})`);
}

/**
 * Returns the VM with the requested user data; `null` removes it. The generation tells the agent to apply the change at
 * the next start.
 */
function withUserData(vm: records.VmRecord, asked: string | null | undefined): records.VmRecord {
  const { user_data, ...others } = vm;
  if (asked === undefined || asked === (user_data ?? null)) return vm;
  return { ...others, ...(asked !== null && { user_data: asked }), user_data_generation: vm.generation + 1 };
}

async function createVm(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { project: asked, ...body } = request.body as Body;
  const id = newId('vm');
  const at = request.now.toISOString();
  const probes: Probes = [];
  return mutate(api, request, async () => {
    const project = projectOfCreation(api, request.caller, asked);
    const { guards, writes, ...origin } = originOf(api, project, id, body);
    const selector = hostSelectorGuards(api, request.caller, body.host_selector, '/host_selector');
    const keys = useKeys(api, project, id, body.ssh_keys);
    const owner = { id, project, name: body.name, interfaces: [] };
    const allocated = declareInterfaces(api, owner, body.interfaces, probes);
    const record: records.VmRecord = {
      id,
      project,
      ...body,
      interfaces: allocated.interfaces,
      memory: sizeInBytes(body.memory),
      ...origin,
      generation: 1,
      created_at: at,
      updated_at: at,
    };
    const attached = changeVolumes(api, record, undefined, at);
    return creation(api, vms, record, {
      guards: [...guards, ...selector, ...keys.guards, ...allocated.guards, ...attached.guards],
      writes: [...writes, ...keys.writes, ...allocated.writes, ...attached.writes],
    });
  });
}

async function updateVm(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  const { user_data, ...asked } = request.body as VmUpdate;
  const probes: Probes = [];
  return changeObject(api, request, vms, (stored) => {
    checkAlive(stored);
    const before = stored.value;
    if (before.root_volume !== undefined && asked.disk_size !== undefined) throw noDiskSize();
    const least = imageSize(api, before.image);
    const { memory, disk_size, interfaces, ...patch } = readPatch<VmUpdate>(vm, {
      ...asked,
      ...(asked.disk_size === null && least !== undefined ? { disk_size: formatSize(least) } : {}),
    });
    const size = disk_size === undefined ? before.disk_size : sizeInBytes(disk_size);
    if (size < before.disk_size) {
      throw fieldError(
        'rule_violated',
        '/disk_size',
        `must be at least ${formatSize(before.disk_size)}: a disk can only grow`,
      );
    }
    const changed = {
      ...before,
      ...patch,
      memory: memory === undefined ? before.memory : sizeInBytes(memory),
      disk_size: size,
    };
    const wired =
      interfaces === undefined
        ? { vm: changed, guards: [], writes: [] }
        : changeInterfaces(api, request.caller, changed, interfaces, probes);
    const next = withUserData(wired.vm, user_data);
    const unlike = JSON.stringify(next) !== JSON.stringify(before);
    const keys = useKeys(api, before.project, id, next.ssh_keys, before.ssh_keys);
    const attached = changeVolumes(api, next, before.volumes ?? [], request.now.toISOString());
    const dropped = before.ssh_keys.filter((key) => !next.ssh_keys.includes(key));
    return replacement(
      api,
      request,
      vms,
      stored,
      unlike ? { ...next, generation: before.generation + 1, updated_at: request.now.toISOString() } : before,
      {
        guards: [...keys.guards, ...attached.guards, ...wired.guards],
        writes: [
          ...wired.writes,
          ...keys.writes,
          ...attached.writes,
          ...dropped.map((key) => removeReference(key, id)),
        ],
      },
    );
  });
}

async function deleteVm(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, vms, (stored) => {
    const { value } = stored;
    if (value.deleted_at !== undefined) return { nothing: answerWith(api, vms, stored, 202) };
    checkProtection(value, id);
    const at = request.now.toISOString();
    const next = { ...value, deleted_at: at, updated_at: at, generation: value.generation + 1 };
    return {
      guards: [{ condition: unchanged(stored) }],
      writes: [rewrite(records.vms, stored, next)],
      target: id,
      project: value.project,
      quotaDelta: undefined,
      reason: 'deletion_requested',
      message: `Deletion of ${value.name} requested.`,
      answer: (revision) => answerWith(api, vms, { ...stored, value: next, revision }, 202),
    };
  });
}
