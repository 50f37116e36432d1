import { UcloudError } from '../../contract/errors.ts';
import {
  defaultFirmware,
  defaultNetworkConfig,
  type Image,
  type ImageBody,
  type ImageUpdate,
  image,
} from '../../contract/resources/images.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { formatSize } from '../../model/text/sizes.ts';
import { remove } from '../../store/collection.ts';
import type { ApiAnswer, ApiContext, ApiRequest, Caller } from '../requests/context.ts';
import { describe, type ResourceDescriptor } from '../requests/descriptor.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { creation, projectOfCreation, readPatch, removal, replacement } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';

/** The descriptor of images. */
export const images: ResourceDescriptor<records.ImageRecord> = describe(image, {
  kind: records.images,
  scope: 'project',
  isPublic: (record) => record.visibility === 'public',
  show(api, record) {
    const report = api.mirror.get(records.imageReports, record.id)?.value;
    // A URL has one checksum. So a declaration that is copied from the answer is valid.
    const sha256 = record.sha256 ?? (record.sha512 === undefined ? report?.sha256 : undefined);
    const phase: Image['status']['phase'] = report?.phase ?? 'pending';
    return {
      ...record,
      firmware: record.firmware ?? defaultFirmware,
      network_config: record.network_config ?? defaultNetworkConfig,
      ...(sha256 === undefined ? {} : { sha256 }),
      ...(report?.size === undefined ? {} : { size: formatSize(report.size) }),
      status: {
        phase,
        ...(report?.message === undefined ? {} : { message: report.message }),
        ...(report?.step === undefined ? {} : { step: report.step }),
        ...(report?.percent === undefined ? {} : { progress: report.percent }),
      },
    };
  },
  quota: () => ({ images: 1 }),
  observedBy: [records.imageReports],
  handlers: { image_create: createImage, image_update: updateImage, image_delete: deleteImage },
});

function checkVisibility(caller: Caller, visibility: string | undefined): void {
  if (visibility !== 'public' || caller.role === 'operator') return;
  throw new UcloudError('forbidden', 'only operators may make an image public', {
    errors: [{ pointer: '/visibility', detail: 'must be project' }],
  });
}

function checkSource(caller: Caller, { source, sha256, sha512 }: ImageBody): void {
  if (source.startsWith('file:')) return;
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

async function createImage(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const body = request.body as ImageBody;
  const { project: asked, ...declared } = body;
  const { caller } = request;
  checkVisibility(caller, body.visibility);
  checkSource(caller, body);
  const id = newId('image');
  const at = request.now.toISOString();
  return mutate(api, request, () => {
    const project = projectOfCreation(api, caller, asked);
    const record: records.ImageRecord = { id, project, ...declared, created_at: at, updated_at: at };
    return creation(api, images, record);
  });
}

async function updateImage(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const patch = readPatch<ImageUpdate>(image, request.body as ImageUpdate);
  checkVisibility(request.caller, patch.visibility);
  return changeObject(api, request, images, (stored) => {
    const next = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
    return replacement(api, request, images, stored, next);
  });
}

async function deleteImage(api: ApiContext, request: ApiRequest): Promise<ApiAnswer> {
  const { id = '' } = request.params;
  return changeObject(api, request, images, (stored) => {
    return removal(api, request, images, stored, { writes: [remove(records.imageReports, id)] });
  });
}
