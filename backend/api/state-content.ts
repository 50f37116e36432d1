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
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { deflate, inflate } from 'node:zlib';
import { UcloudError } from '../contract/errors.ts';
import { maxStateBytes } from '../contract/terraform-states.ts';
import * as records from '../model/records.ts';
import { absent, present, put, read, readAll, remove, removeAll, unchanged } from '../store/collection.ts';
import type { Condition, Store, Write } from '../store/store.ts';
import type { StateKeys } from './state-keys.ts';

/** Bytes; with base 64 a third more, and below what a value and a transaction may hold. */
const chunkBytes = 512 * 1024;
const nonceBytes = 12;
/** Chunks read at the same time. */
const concurrency = 4;
const abandonedMs = 3600_000;

type Content = records.TerraformStateVersionRecord['content'];

export interface Sealed {
  readonly content: Content;
  readonly chunks: readonly string[];
}

/** What is encrypted belongs to one state: it cannot be passed off as the content of another. */
const binding = (state: string, content: string): Buffer => Buffer.from(`${state}/${content}`);

export async function seal(keys: StateKeys, state: string, bytes: Uint8Array): Promise<Sealed> {
  const id = randomBytes(16).toString('hex');
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', keys.current.bytes, nonce);
  cipher.setAAD(binding(state, id));
  const text = Buffer.concat([cipher.update(await promisify(deflate)(bytes)), cipher.final()]);
  const chunks: string[] = [];
  for (let start = 0; start < text.length; start += chunkBytes) {
    chunks.push(text.subarray(start, start + chunkBytes).toString('base64'));
  }
  return {
    content: {
      id,
      chunks: chunks.length,
      stored: text.length,
      key: keys.current.id,
      nonce: nonce.toString('base64'),
      tag: cipher.getAuthTag().toString('base64'),
    },
    chunks,
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
  const writes = chunks.map((data, i) => put(records.terraformStateChunks, chunkId(content.id, i), { data }));
  const last = writes.slice(-1);
  const ahead = writes.slice(0, -1);
  if (ahead.length === 0) return { require: [], write: last };
  for (const [i, write] of ahead.entries()) {
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

/** The state as it was written, or undefined if it has been removed meanwhile. Throws `not_configured`. */
export async function open(
  store: Store,
  keys: StateKeys,
  state: string,
  content: Content,
): Promise<Buffer | undefined> {
  const key = keys.find(content.key);
  if (!key) {
    throw new UcloudError(
      'not_configured',
      `the state is encrypted with the key ${content.key}, which is not in the key file of this server (--state-key)`,
    );
  }
  const chunks: Buffer[] = [];
  for (let start = 0; start < content.chunks; start += concurrency) {
    const indexes = Array.from({ length: Math.min(concurrency, content.chunks - start) }, (_, i) => start + i);
    const found = await Promise.all(
      indexes.map((index) => read(store, records.terraformStateChunks, chunkId(content.id, index))),
    );
    for (const chunk of found) {
      if (!chunk) return undefined;
      chunks.push(Buffer.from(chunk.value.data, 'base64'));
    }
  }
  const decipher = createDecipheriv('aes-256-gcm', key.bytes, Buffer.from(content.nonce, 'base64'));
  decipher.setAAD(binding(state, content.id));
  decipher.setAuthTag(Buffer.from(content.tag, 'base64'));
  const text = Buffer.concat([...chunks.map((chunk) => decipher.update(chunk)), decipher.final()]);
  return promisify(inflate)(text, { maxOutputLength: maxStateBytes });
}
