/** Images whose import has ended, without an image scanner. */
import type { Id } from '../../backend/contract/fields.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import type { ApiClient, Body, TestApi } from './api.ts';

/** Creates an image and ends its import. Returns it as its owner sees it. */
export async function imported(
  { store }: TestApi,
  client: ApiClient,
  body: object,
  phase: 'available' | 'importing' = 'available',
): Promise<Body> {
  const image = await client.create('images', { source: 'file:a.raw', ...body });
  const report = { phase, sha256: 'a'.repeat(64), size: 2 ** 30, at: 'now' };
  await store.commit({ write: [put(records.imageReports, image.id, report)] });
  return client.get('images', image.id, `?after=${image.revision}&timeout=10`);
}

/** Changes the time of the creation: the newest image is the one that was created last. */
export async function createdAt({ store, operator }: TestApi, { id, revision }: Body, at: string): Promise<void> {
  const entry = await store.get(`images/${id}`);
  if (!entry) throw new Error(`there is no ${id}`);
  await store.commit({
    write: [put(records.images, id as Id<'image'>, { ...JSON.parse(entry.value), created_at: at })],
  });
  await operator.get('images', id, `?after=${revision}&timeout=10`);
}
