/**
 * The content of a version of a Terraform state: compressed, encrypted, and cut into chunks that the store takes.
 *
 * All chunks but the last are written ahead, under an id that nothing refers to yet, beside a record that says so
 * (`terraform-state-uploads/<content>`). The last chunk, the removal of that record, and the version that refers to the
 * chunks are one transaction, on the condition that the record is still there. So a version is whole or is not there at
 * all. An upload that came to nothing is removed with its record, on the same condition: by the request, if it lives to
 * do so, or by the collector when it is an hour old. Whichever of completion and removal comes first, the other fails.
 * Most states fit into one chunk and need no upload.
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

/** Bytes; with base 64 a third more, and below what a value and a transaction may hold. */
const chunkBytes = 512 * 1024;
const abandonedMs = 3600_000;

type Content = records.TerraformStateVersionRecord['content'];

export interface Sealed {
  readonly content: Content;
  readonly chunks: readonly Buffer[];
}

/** What is encrypted belongs to one state: it cannot be passed off as the content of another. */
const binding = (state: string, content: string): Buffer => Buffer.from(`${state}/${content}`);

/** The bytes come back as they were, since a thread of its own has had them meanwhile. */
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

/** The chunks of a content, to be written or removed with what refers to them. */
export const removeContent = ({ id }: Content): Write => removeAll(records.terraformStateChunks, `${id}/`);

/** Writes what has to be written ahead. The rest is for the transaction that refers to it. Throws `conflict`. */
export async function upload(
  store: Store,
  { content, chunks }: Sealed,
  now: Date,
): Promise<{ readonly require: readonly Condition[]; readonly write: readonly Write[] }> {
  // Made one by one: all of them as text would be the state once more in memory.
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
    if (!ok) throw new UcloudError('conflict', 'the upload of the state took so long that it was given up');
  }
  return {
    require: [present(records.terraformStateUploads, content.id)],
    write: [...last, remove(records.terraformStateUploads, content.id)],
  };
}

/** Removes an upload that has not been completed; does nothing to one that has. */
export async function discard(store: Store, { content }: Sealed): Promise<void> {
  await store.commit({
    require: [present(records.terraformStateUploads, content.id)],
    write: [removeContent(content), remove(records.terraformStateUploads, content.id)],
  });
}

/** Removes uploads that nobody will complete any more. */
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
  // Throws if anything in it is not what was written.
  yield decipher.final();
}

async function readChunk(store: Store, { id }: Content, index: number): Promise<Buffer | undefined> {
  const chunk = await read(store, records.terraformStateChunks, chunkId(id, index));
  return chunk && Buffer.from(chunk.value.data, 'base64');
}

/** Keeps the last piece back until all is read and found to be right: whoever lacks it knows that something is wrong. */
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

/** Inflates a state. A stream without a reader reads nothing from the store. */
async function* inflated(deflated: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer, void> {
  // The reader of the last stream receives the errors of all streams.
  const stream = pipeline(Readable.from(deflated), createInflate({ chunkSize: 64 * 1024 }), () => undefined);
  yield* checked(stream, size);
}

/**
 * The state as it was written, piece by piece, with one chunk of it in memory at a time. Undefined if it has been removed
 * meanwhile. The stream fails before its last piece if the content is not what was written. Throws `not_configured`.
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
