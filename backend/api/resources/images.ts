import { UcloudError } from '../../contract/errors.ts';
import { type ImageCreate, type ImageUpdate, image } from '../../contract/resources/images.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { put, remove } from '../../store/collection.ts';
import type { Caller, Handlers } from '../requests/context.ts';
import { getHandler, listHandler } from '../requests/get-and-list.ts';
import { fieldError } from '../requests/validation.ts';
import { changeObject } from '../transaction/change-object.ts';
import { created, projectOfCreation, readPatch, removal, replacement, takeName } from '../transaction/declarations.ts';
import { mutate } from '../transaction/mutate.ts';
import { images } from './views.ts';

type Body = ImageCreate &
  Required<Pick<ImageCreate, 'architecture' | 'description' | 'labels' | 'visibility' | 'delete_protection'>>;

function checkVisibility(caller: Caller, visibility: string | undefined): void {
  if (visibility !== 'public' || caller.role === 'operator') return;
  throw new UcloudError('forbidden', 'only operators may make an image public', {
    errors: [{ pointer: '/visibility', detail: 'must be project' }],
  });
}

function checkSource(caller: Caller, { source, sha256 }: Body): void {
  if (source.startsWith('file:')) return;
  if (!URL.canParse(source)) throw fieldError('invalid_input', '/source', 'is not a URL');
  const url = new URL(source);
  if (url.username !== '' || url.password !== '') {
    throw fieldError('invalid_input', '/source', 'must not carry a user name or password');
  }
  if (url.protocol === 'http:' && caller.role !== 'operator') {
    throw fieldError('rule_violated', '/source', 'must be https: only operators may name an http source');
  }
  if (sha256 === undefined) throw fieldError('rule_violated', '/sha256', 'is required when the source is a URL');
}

export const imageHandlers: Handlers = {
  image_list: listHandler(images),
  image_get: getHandler(images),

  async image_create(api, request) {
    const body = request.body as Body;
    const { project: asked, ...declared } = body;
    const { caller } = request;
    checkVisibility(caller, body.visibility);
    checkSource(caller, body);
    const id = newId('image');
    const at = request.now.toISOString();
    return mutate(api, request, () => {
      const project = projectOfCreation(api, caller, asked);
      const record: records.ImageRecord = { id, project, ...declared, created_at: at, updated_at: at };
      const taken = takeName('image', project, body.name, id);
      return {
        guards: taken.guards,
        writes: [put(records.images, id, record), ...taken.writes],
        target: id,
        project,
        quotaDelta: { images: 1 },
        reason: 'created',
        message: `Created ${body.name}.`,
        answer: created('images', id, images.show(api, record)),
      };
    });
  },

  async image_update(api, request) {
    const patch = readPatch<ImageUpdate>(image, request.body as ImageUpdate);
    checkVisibility(request.caller, patch.visibility);
    return changeObject(api, request, images, (stored) => {
      const next = { ...stored.value, ...patch, updated_at: request.now.toISOString() };
      return replacement(api, request, images, stored, next);
    });
  },

  async image_delete(api, request) {
    const { id = '' } = request.params;
    return changeObject(api, request, images, (stored) => {
      return removal(api, request, images, stored, { writes: [remove(records.imageReports, id)] });
    });
  },
};
