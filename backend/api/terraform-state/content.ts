/**
 * The content of a version of a Terraform state: compressed, encrypted and split into chunks that fit into the store.
 *
 * All chunks except the last are written first, under an unreferenced id, together with a record of the upload
 * (`terraform-state-uploads/<content>`). One final transaction writes the last chunk and the version, and removes that
 * record on the condition that it exists. So a version is complete or does not exist. An incomplete upload is removed
 * with its record on the same condition: by the request, or by the collector after an hour. Completion and removal
 * exclude each other. Most states fit into one chunk and need no upload.
 */
import { createDecipheriv, randomBytes } from 'node:crypto';
import { pipeline, Readable } from 'node:stream';
import { createInflate } from 'node:zlib';
import { UcloudError } from '../../contract/errors.ts';
import * as records from '../../model/records/index.ts';
import { absent, present, put, read, readAll, remove, removeAll, unchanged } from '../../store/collection.ts';
import type { Condition, Store, Write } from '../../store/store.ts';
import type { StateKey, StateKeys } from './keys.ts';
import type { StateWorkerPool } from './worker-pool.ts';

/** The bytes of a chunk. In base 64 they are a third more, which is below the limits of a value and a transaction. */
const chunkBytes = 512 * 1024;
const abandonedMs = 3600_000;

type Content = records.TerraformStateVersionRecord['content'];

/** An encrypted content and its chunks. */
export interface Sealed {
  readonly content: Content;
  readonly chunks: readonly Buffer[];
}

/** Returns the data that binds a content to its state. It cannot be decrypted as the content of another state. */
const binding = (state: string, content: string): Buffer => Buffer.from(`${state}/${content}`);

/** Compresses and encrypts a state. Returns its bytes too, because a worker thread has taken them over meanwhile. */
export async function seal(
  workshop: StateWorkerPool,
  owner: string,
  keys: StateKeys,
  state: string,
  bytes: Uint8Array,
): Promise<{ readonly sealed: Sealed; readonly bytes: Uint8Array }> {
  const id = randomBytes(16).toString('hex');
  const { current } = keys;
  const done = await workshop.run(owner, { work: 'seal', bytes, key: current.bytes, content: id, binding: state });
  const text = Buffer.from(done.sealed.buffer, done.sealed.byteOffset, done.sealed.byteLength);
  const chunks: Buffer[] = [];
  for (let start = 0; start < text.length; start += chunkBytes) chunks.push(text.subarray(start, start + chunkBytes));
  return {
    bytes: done.bytes,
    sealed: {
      content: {
        id,
        chunks: chunks.length,
        stored: text.length,
        key: current.id,
        nonce: done.nonce,
        tag: done.tag,
      },
      chunks,
    },
  };
}

const chunkId = (content: string, index: number): string => `${content}/${String(index).padStart(4, '0')}`;

/** Returns the write that removes the chunks of a content. */
export const removeContent = ({ id }: Content): Write => removeAll(records.terraformStateChunks, `${id}/`);

/**
 * Writes all chunks except the last. Returns the conditions and writes of the final transaction. @throws UcloudError
 * `conflict` if the collector has removed the upload
 */
export async function upload(
  store: Store,
  { content, chunks }: Sealed,
  now: Date,
): Promise<{ readonly require: readonly Condition[]; readonly write: readonly Write[] }> {
  // Each write is created when it is needed: all of them as text would be a second copy of the state in memory.
  const writeOf = (data: Buffer, i: number): Write =>
    put(records.terraformStateChunks, chunkId(content.id, i), { data: data.toString('base64') });
  const last = chunks.slice(-1).map((data) => writeOf(data, chunks.length - 1));
  const ahead = chunks.slice(0, -1);
  if (ahead.length === 0) return { require: [], write: last };
  for (const [i, data] of ahead.entries()) {
    const write = writeOf(data, i);
    const begun = present(records.terraformStateUploads, content.id);
    const { ok } = await store.commit(
      i === 0
        ? {
            require: [absent(records.terraformStateUploads, content.id)],
            write: [put(records.terraformStateUploads, content.id, { at: now.toISOString() }), write],
          }
        : { require: [begun], write: [write] },
    );
    if (!ok)
      throw new UcloudError(
        'conflict',
        'the upload of the state took more than an hour and was removed; send the state again',
      );
  }
  return {
    require: [present(records.terraformStateUploads, content.id)],
    write: [...last, remove(records.terraformStateUploads, content.id)],
  };
}

/** Removes an incomplete upload. A completed upload stays. */
export async function discard(store: Store, { content }: Sealed): Promise<void> {
  await store.commit({
    require: [present(records.terraformStateUploads, content.id)],
    write: [removeContent(content), remove(records.terraformStateUploads, content.id)],
  });
}

/** Removes uploads that are older than an hour. */
export async function discardAbandoned(store: Store, now: Date, signal: AbortSignal): Promise<void> {
  for await (const upload of readAll(store, records.terraformStateUploads)) {
    if (signal.aborted) return;
    if (Date.parse(upload.value.at) + abandonedMs > now.getTime()) continue;
    await store.commit({
      require: [unchanged(upload)],
      write: [
        removeAll(records.terraformStateChunks, `${upload.id}/`),
        remove(records.terraformStateUploads, upload.id),
      ],
    });
  }
}

async function* opened(
  store: Store,
  key: StateKey,
  state: string,
  content: Content,
  first: Buffer,
): AsyncGenerator<Buffer, void> {
  const decipher = createDecipheriv('aes-256-gcm', key.bytes, Buffer.from(content.nonce, 'base64'));
  decipher.setAAD(binding(state, content.id));
  decipher.setAuthTag(Buffer.from(content.tag, 'base64'));
  yield decipher.update(first);
  for (let index = 1; index < content.chunks; index++) {
    const chunk = await readChunk(store, content, index);
    if (!chunk) throw new Error(`the content ${content.id} was removed while it was read`);
    yield decipher.update(chunk);
  }
  // Throws if the content is not the written one.
  yield decipher.final();
}

async function readChunk(store: Store, { id }: Content, index: number): Promise<Buffer | undefined> {
  const chunk = await read(store, records.terraformStateChunks, chunkId(id, index));
  return chunk && Buffer.from(chunk.value.data, 'base64');
}

/**
 * Emits the last piece only after the whole content is verified. A reader without the last piece knows that the content
 * is wrong.
 */
async function* checked(pieces: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer, void> {
  let held: Buffer | undefined;
  let length = 0;
  for await (const piece of pieces) {
    if (held) yield held;
    held = piece;
    length += piece.length;
    if (length > size) break;
  }
  if (length !== size) throw new Error('the content of a state does not have the size that was recorded');
  if (held) yield held;
}

/** Decompresses a state. A stream without a reader reads nothing from the store. */
async function* inflated(deflated: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer, void> {
  // The reader of the last stream receives the errors of all streams.
  const stream = pipeline(Readable.from(deflated), createInflate({ chunkSize: 64 * 1024 }), () => undefined);
  yield* checked(stream, size);
}

/**
 * Returns the stream of a state, with one chunk in memory at a time; undefined if the content has been removed. The
 * stream fails before its last piece if the content is not the written one. @throws UcloudError `not_configured` if the
 * key is unknown
 */
export async function open(
  store: Store,
  keys: StateKeys,
  state: string,
  content: Content,
  size: number,
): Promise<Readable | undefined> {
  const key = keys.find(content.key);
  if (!key) {
    throw new UcloudError(
      'not_configured',
      `the state is encrypted with the key ${content.key}, which is not in the key file of this server (--state-key)`,
    );
  }
  const first = await readChunk(store, content, 0);
  if (!first) return undefined;
  return Readable.from(inflated(opened(store, key, state, content, first), size), { objectMode: false });
}
