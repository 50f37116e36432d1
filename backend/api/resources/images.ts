import { UcloudError } from '../../contract/errors.ts';
import type { Id } from '../../contract/fields.ts';
import {
  defaultFirmware,
  defaultNetworkConfig,
  type Image,
  type ImageBody,
  type ImageUpdate,
  image,
  maxReplacements,
  maxSharedImages,
} from '../../contract/resources/images.ts';
import { newId } from '../../model/ids.ts';
import { newestOf, replacementsOf } from '../../model/image/families.ts';
import * as records from '../../model/records/index.ts';
import { formatSize, roundUpToMiB } from '../../model/text/sizes.ts';
import { remove, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { ApiAnswer, ApiContext, ApiRequest, Caller } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { presentObject, projectInQuery, refer, versionOf } from '../requests/objects.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, patched, projectOfCreation, removal, replacement } from '../transaction/declarations.ts';
import { type Guard, mutate } from '../transaction/mutate.ts';
import { makeSnapshot } from './made-snapshots.ts';
import { endedWithTarget, operationRecord } from './operation-requests.ts';
import { snapshotSource } from './snapshot-source.ts';

/** The descriptor of images. */
export const images: ResourceDescriptor<records.ImageRecord> = describe(image, {
  kind: records.images,
  scope: 'project',
  indexes: ['snapshot'],
  isPublic: (record) => record.visibility === 'public',
  sharedWith: ({ shared_with = [] }) => shared_with,
  hides: ({ project }, record) =>
    project === undefined || project === record.project ? [] : ['shared_with', 'snapshot', 'snapshot_disk', 'volume'],
  marks: ({ project }, record) => ({ shared: isShared(record, project) }),
  show(api, record) {
    const report = api.mirror.get(records.imageReports, record.id)?.value;
    // A URL has one checksum. So a declaration that is copied from the answer is valid.
    const sha256 = record.sha256 ?? (record.sha512 === undefined ? report?.sha256 : undefined);
    const phase: Image['status']['phase'] = report?.phase ?? 'pending';
    const message = report === undefined ? waitOf(api, record) : report.message;
    const { snapshot, snapshot_disk, snapshot_part: _part, ...rest } = record;
    return {
      ...rest,
      // A snapshot that was made for the image is no part of its declaration.
      ...(record.volume === undefined && { snapshot, snapshot_disk }),
      firmware: record.firmware ?? defaultFirmware,
      network_config: record.network_config ?? defaultNetworkConfig,
      shared_with: record.shared_with ?? [],
      shared: false,
      ...(sha256 === undefined ? {} : { sha256 }),
      ...(report?.size === undefined ? {} : { size: formatSize(report.size) }),
      status: {
        phase,
        ...(message === undefined ? {} : { message }),
        ...(report?.step === undefined ? {} : { step: report.step }),
        ...(report?.percent === undefined ? {} : { progress: report.percent }),
        ...(report?.bytes === undefined ? {} : { bytes: report.bytes }),
        ...(report?.total_bytes === undefined ? {} : { total_bytes: report.total_bytes }),
      },
    };
  },
  quota: () => ({ images: 1 }),
  observedBy: [records.imageReports],
  watches({ mirror }, id) {
    const { volume, snapshot } = mirror.get(records.images, id)?.value ?? {};
    return volume === undefined || snapshot === undefined ? [] : [{ kind: records.snapshotPlacements, id: snapshot }];
  },
  alsoMirrored: [records.snapshots, records.snapshotReports, records.snapshotPlacements],
  list: { filters: ['family'] },
  handlers: {
    image_create: createImage,
    image_update: updateImage,
    image_delete: deleteImage,
    image_newest: newestImage,
  },
});

/** Returns why the import of a volume has not begun. */
function waitOf({ mirror }: ApiContext, image: records.ImageRecord) {
  const { volume, snapshot = '' as Id<'snapshot'>, visibility, shared_with = [] } = image;
  if (volume === undefined) return undefined;
  // Other projects see the status of such an image. The reason tells of the hosts of this project.
  const isOwn = visibility === 'project' && shared_with.length === 0;
  const { message = '' } = mirror.get(records.snapshotPlacements, snapshot)?.value ?? {};
  return `The import waits for the snapshot of its volume. ${isOwn ? message : ''}`.trim();
}

/** Returns the size of the image's disk in bytes, rounded up to MiB; undefined until the scanner has determined it. */
export const imageSize = (api: ApiContext, image: string): number | undefined => {
  const size = api.mirror.get(records.imageReports, image)?.value.size;
  return size === undefined ? undefined : roundUpToMiB(size);
};

/** Returns the facts of the image that a VM needs to boot from its content. */
export const bootFactsOf = ({
  architecture,
  firmware = defaultFirmware,
  network_config = defaultNetworkConfig,
}: records.ImageRecord): records.BootFacts => ({ architecture, firmware, network_config });

/** Tells whether the project may use the image only because its owner shares it. */
const isShared = (record: records.ImageRecord, project: Id<'project'> | undefined): boolean =>
  project !== undefined &&
  record.project !== project &&
  record.visibility !== 'public' &&
  record.shared_with?.includes(project) === true;

/**
 * Checks the projects that get an image. An unknown project is refused in the same way whether it never existed or is gone,
 * and the list has ids only: a name would tell which projects exist. The other project need not agree. So one project
 * shares only so many images with it, and they are chosen neither by name nor by family.
 */
function checkSharing(api: ApiContext, record: records.ImageRecord, before: readonly Id<'project'>[]): void {
  for (const [index, id] of (record.shared_with ?? []).entries()) {
    const at = `/shared_with/${index}`;
    if (id === record.project) throw fieldError('rule_violated', at, 'must not be the project of the image');
    // A project that is gone stays in the list until the owner of the image removes it.
    if (before.includes(id)) continue;
    if (!api.mirror.get(records.projects, id)) {
      throw fieldError('invalid_reference', at, `must be the id of an existing project: there is no ${id}`);
    }
    let shared = 0;
    for (const { value } of api.mirror.listShared(records.images, id)) {
      if (value.project === record.project && value.id !== record.id) shared++;
    }
    if (shared >= maxSharedImages) {
      throw fieldError('rule_violated', at, `must not get more than ${maxSharedImages} images of this project`);
    }
  }
}

function checkVisibility(caller: Caller, visibility: string | null | undefined): void {
  if (visibility !== 'public' || caller.role === 'operator') return;
  throw new UcloudError('forbidden', 'only operators may make an image public', {
    errors: [{ pointer: '/visibility', detail: 'must be project' }],
  });
}

function checkSource(caller: Caller, body: ImageBody): void {
  const { source, snapshot, snapshot_disk, volume, sha256, sha512 } = body;
  if ([source, snapshot, volume].filter((each) => each !== undefined).length !== 1)
    throw fieldError('rule_violated', '/source', 'exactly one of source, snapshot and volume must be set');
  if (snapshot === undefined && snapshot_disk !== undefined)
    throw fieldError('rule_violated', '/snapshot_disk', 'must be omitted without a snapshot');
  if (source === undefined || source.startsWith('file:')) return;
  if (!URL.canParse(source)) throw fieldError('invalid_input', '/source', 'must be a URL');
  const url = new URL(source);
  if (url.username !== '' || url.password !== '') {
    throw fieldError('invalid_input', '/source', 'must not contain a user name or password');
  }
  if (url.protocol === 'http:' && caller.role !== 'operator') {
    throw fieldError('rule_violated', '/source', 'must be https: only operators may name an http source');
  }
  if (sha256 === undefined && sha512 === undefined)
    throw fieldError('rule_violated', '/sha256', 'is required when the source is a URL, unless sha512 is set');
  if (sha256 !== undefined && sha512 !== undefined)
    throw fieldError('rule_violated', '/sha512', 'must be omitted when the source is a URL and sha256 is set');
}

/**
 * Returns the guards for a replacement. Two concurrent changes could otherwise close a circle. The replacement can still
 * be deleted: otherwise each project could prevent the deletion of a public image.
 */
function replacementGuards(
  api: ApiContext,
  project: Id<'project'>,
  id: Id<'image'>,
  replacement: Id<'image'> | undefined,
): Guard[] {
  if (replacement === undefined) return [];
  const at = '/replaced_by';
  if (replacement === id) throw fieldError('rule_violated', at, 'must be another image');
  const first = refer(api, images, project, replacement, at);
  const read = new Map<string, Stored<records.ImageRecord>>([[first.id, first]]);
  const find = (next: string) => {
    const stored = api.mirror.get(records.images, next);
    if (stored) read.set(next, stored);
    return stored?.value;
  };
  const result = replacementsOf(id, first.value, find, maxReplacements);
  if ('fault' in result) {
    const rule =
      result.fault === 'circle'
        ? 'must not lead back to this image'
        : `must not lead over more than ${maxReplacements} images`;
    throw fieldError('rule_violated', at, rule);
  }
  return [...read.values()].map((stored) => ({ condition: unchanged(stored) }));
}

async function createImage(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as ImageBody;
  const { project: asked, ...declared } = body;
  const { caller } = request;
  checkVisibility(caller, body.visibility);
  checkSource(caller, body);
  const id = newId('image');
  const snapshotId = newId('snapshot');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    const project = projectOfCreation(api, caller, asked);
    const { snapshot, snapshot_disk: disk, volume, name } = declared;
    const of = volume === undefined ? 'snapshot' : 'volume';
    const purpose = { id: snapshotId, madeFor: id, name, project, pointer: '/volume' };
    const made = volume === undefined ? undefined : makeSnapshot(api, request, { ...purpose, volume });
    const from = made ?? (snapshot && snapshotSource(api, project, snapshot, disk));
    for (const field of ['architecture', 'firmware'] as const) {
      const right = from?.disk.boot?.[field];
      if (right === undefined || (declared[field] ?? right) === right) continue;
      throw fieldError('rule_violated', `/${field}`, `must be ${right}, as for the disk of the ${of}`);
    }
    const times = { created_at: at, updated_at: at };
    const record: records.ImageRecord = {
      id,
      project,
      ...declared,
      ...(from && { snapshot: snapshot ?? from.snapshot.id, snapshot_disk: from.name }),
      ...(from && snapshot !== undefined && from.snapshot.id !== snapshot && { snapshot_part: from.snapshot.id }),
      ...times,
    };
    checkSharing(api, record, []);
    const guards = [...replacementGuards(api, project, id, declared.replaced_by), ...(from?.guards ?? [])];
    const { writes } = operationRecord({ project, kind: 'image_import', target: id, options: {} }, request.now);
    const created = creation(api, images, record, { guards, writes });
    return made?.addTo(created) ?? created;
  });
}

async function updateImage(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = request.body as ImageUpdate;
  checkVisibility(request.caller, patch.visibility);
  return changeObject(api, request, images, (stored) => {
    const next = { ...patched(image, stored.value, patch), updated_at: request.now.toISOString() };
    checkSharing(api, next, stored.value.shared_with ?? []);
    const fresh = next.replaced_by === stored.value.replaced_by ? undefined : next.replaced_by;
    const guards = replacementGuards(api, next.project, next.id, fresh);
    return replacement(api, request, images, stored, next, { guards });
  });
}

async function deleteImage(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, images, (stored) => {
    const open = endedWithTarget(api, id, request.now, 'The image was deleted.');
    const writes = [remove(records.imageReports, id), remove(records.latestOperations, id), ...open.writes];
    return removal(api, request, images, stored, { guards: open.guards, writes });
  });
}

interface NewestQuery {
  readonly project?: Id<'project'>;
  readonly owner?: Id<'project'>;
}

/**
 * Returns the newest image of a family. Images that other projects share are chosen only if the caller names their
 * owner. Otherwise any project could share an image of a well-known family, and run its code in VMs of others.
 */
async function newestImage(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { family = '' } = request.params;
  const query: NewestQuery = request.query;
  const project = projectInQuery(api, request.caller, query.project) ?? request.caller.project;
  const { mirror } = api;
  const own = project === undefined ? [] : mirror.by(records.images, 'project').list(project);
  const shared = project === undefined || query.owner === undefined ? [] : mirror.listShared(records.images, project);
  for (const source of [own, mirror.listPublic(records.images), shared]) {
    const usable = [];
    for (const { value } of source) {
      if (value.family !== family || (query.owner ?? value.project) !== value.project) continue;
      if (mirror.get(records.imageReports, value.id)?.value.phase === 'available') usable.push(value);
    }
    const newest = newestOf(usable, request.now);
    const stored = newest && mirror.get(records.images, newest.id);
    if (!stored) continue;
    const body = presentObject(api, images, stored, request.caller);
    return { status: 200, body, revision: mirror.revision, version: versionOf(api, images, stored) };
  }
  throw new UcloudError('not_found', `the family ${family} has no image here that is available and not deprecated`);
}
