/**
 * The uploads of this API server: the library `@tus/server` for the protocol, and its connections to our database and to
 * the directory of the file server.
 *
 * The bytes are in `<files>/.uploads/<id>`, and the record `uploads/<id>` says what they shall become. The size of the
 * file is the offset, so bytes that a crash has lost are sent again. The end has three steps, each of which may be
 * repeated after a crash: verify the bytes (→ verified), move the file (→ complete), wait for the scanner (→ recorded).
 */
import { mkdir } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';
import { FileStore } from '@tus/file-store';
import { Server, Upload } from '@tus/server';
import { type ErrorCode, UcloudError } from '../../contract/errors.ts';
import { uploadMediaType } from '../../contract/resources/uploads.ts';
import * as records from '../../model/records/index.ts';
import { remove, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Store } from '../../store/store.ts';
import type { ApiMirror } from '../read-model/mirror.ts';
import { fieldError } from '../requests/validation.ts';
import { UploadLocks } from './locks.ts';
import { UploadDirectory } from './placing.ts';

type StoredUpload = Stored<records.UploadRecord>;

const problem = (code: ErrorCode, pointer: string, detail: string) =>
  new UcloudError(code, `the upload: ${detail}`, { errors: [{ pointer, detail }] });

/** Returns the error for an answer of the library. */
function errorOf(status: number, text: string): UcloudError {
  const detail = text.trim();
  switch (status) {
    case 404:
    case 410:
      return new UcloudError('not_found', 'there is no such upload; it may have expired');
    case 409:
      return problem('conflict', '#header/Upload-Offset', 'must be the number of bytes that the server has');
    case 412:
      return problem('precondition_failed', '#header/Tus-Resumable', 'must be 1.0.0');
    case 413:
      return problem('payload_too_large', '', 'must not have more bytes than the upload lacks');
    default:
      if (status < 500) return fieldError('invalid_input', '', detail);
      throw new Error(`the upload failed: ${status} ${detail}`);
  }
}

/** Bytes of an upload. */
export interface UploadWrite {
  readonly offset: number;
  readonly body: Readable;
  /** The header Content-Length. */
  readonly length: string | undefined;
  readonly signal: AbortSignal;
}

/** The uploads of one API server. */
export class UploadServer {
  readonly directory: UploadDirectory;
  readonly #store: Store;
  readonly #mirror: ApiMirror;
  readonly #locks: UploadLocks;
  readonly #tus: Server;
  /** The first error of our own code, for each request in progress. */
  readonly #errors = new WeakMap<object, Error>();
  readonly #finishing = new Map<string, Promise<void>>();
  readonly #closing: AbortSignal;

  constructor(store: Store, mirror: ApiMirror, root: string, closing: AbortSignal) {
    this.#store = store;
    this.#mirror = mirror;
    this.#closing = closing;
    this.directory = new UploadDirectory(root);
    this.#locks = new UploadLocks(store, mirror);
    this.#tus = new Server({
      path: '/v1/uploads',
      relativeLocation: true,
      locker: this.#locks,
      datastore: new FileStore({
        directory: this.directory.staging,
        // The record of the upload is in our database.
        configstore: {
          get: async (id) => this.#describe(id),
          set: async () => undefined,
          delete: async () => undefined,
        },
      }),
      onResponseError: (request, error) => {
        if (error instanceof Error) this.#errors.set(request, error);
        return undefined;
      },
      onUploadFinish: async (_request, { id }) => {
        await this.finish(id);
        return {};
      },
    });
  }

  find(id: string): StoredUpload | undefined {
    return this.#mirror.get(records.uploads, id);
  }

  #describe(id: string): Upload {
    const stored = this.find(id)?.value;
    // The library answers a missing size with 404, before it uses the description.
    if (!stored) throw new UcloudError('not_found', `there is no upload ${id}`);
    return new Upload({ id, size: stored.size, offset: 0, creation_date: stored.created_at });
  }

  /** Creates the file of a new upload. */
  async begin({ id }: records.UploadRecord): Promise<void> {
    await mkdir(this.directory.staging, { recursive: true, mode: 0o700 });
    await this.#tus.datastore.create(new Upload({ id, offset: 0 }));
  }

  /** Appends the body at the offset. Ends when the body ends, the signal aborts, or another request takes the upload. */
  async write(id: string, { offset, body, length, signal }: UploadWrite): Promise<number> {
    const cut = () => body.destroy();
    signal.addEventListener('abort', cut, { once: true });
    const left = (this.find(id)?.value.size ?? 0) - offset;
    let excess = false;
    const pieces = async function* () {
      let bytes = 0;
      for await (const piece of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        bytes += piece.length;
        excess = bytes > left;
        if (excess) throw new Error('the body is too long');
        yield piece;
      }
    };
    try {
      const request = new Request(`http://localhost/v1/uploads/${id}`, {
        method: 'PATCH',
        headers: {
          'tus-resumable': '1.0.0',
          'upload-offset': String(offset),
          'content-type': uploadMediaType,
          ...(length === undefined ? {} : { 'content-length': length }),
        },
        body: ReadableStream.from(pieces()) as ReadableStream<Uint8Array>,
        duplex: 'half',
      } as RequestInit);
      const answer = await this.#tus.handleWeb(request);
      const error = this.#errors.get(request);
      if (error) throw error;
      if (excess) throw errorOf(413, '');
      if (answer.status >= 400) throw errorOf(answer.status, await answer.text());
      return Number(answer.headers.get('upload-offset'));
    } finally {
      signal.removeEventListener('abort', cut);
    }
  }

  /** Verifies and places an upload whose bytes are all there. Concurrent calls share the work. */
  finish(id: string): Promise<void> {
    const running = this.#finishing.get(id) ?? this.#finish(id).finally(() => this.#finishing.delete(id));
    this.#finishing.set(id, running);
    return running;
  }

  async #finish(id: string): Promise<void> {
    for (;;) {
      const stored = this.find(id);
      if (!stored) throw new UcloudError('not_found', `there is no upload ${id}`);
      const { phase, project, file_name: name, sha256 } = stored.value;
      if (phase === 'complete' || phase === 'recorded') return;
      if (phase === 'receiving') {
        const found = await this.directory.sha256(id, this.#closing);
        if (found === sha256) await this.#advance(stored, 'verified');
        else if (found !== undefined) {
          await this.discard(stored);
          throw fieldError(
            'rule_violated',
            '#header/Upload-Metadata',
            `must have the sha256 of the content: it is ${found}`,
          );
        } else if (!(await this.#changed(stored))) throw new UcloudError('not_found', `there is no upload ${id}`);
        continue;
      }
      const refusal = await this.directory.place(id, project, name);
      if (refusal !== undefined) {
        await this.discard(stored);
        throw fieldError('rule_violated', '#header/Upload-Metadata', `must have another name: ${refusal}`);
      }
      await this.#advance(stored, 'complete');
    }
  }

  /** Tells whether another server has changed the record meanwhile. */
  async #changed(stored: StoredUpload): Promise<boolean> {
    await this.#mirror.refresh();
    return this.find(stored.id)?.revision !== stored.revision;
  }

  /** Sets the phase, unless the record has changed meanwhile. */
  async #advance(stored: StoredUpload, phase: records.UploadRecord['phase']): Promise<void> {
    const next = { ...stored.value, phase };
    await this.#store.commit({ require: [unchanged(stored)], write: [rewrite(records.uploads, stored, next)] });
    await this.#mirror.refresh();
  }

  /** Removes an upload after the request that writes to it has ended. A complete upload only loses its record. */
  async cancel(id: string): Promise<void> {
    const lock = this.#locks.newLock(id);
    await lock.lock(this.#closing, () => undefined);
    try {
      const stored = this.find(id);
      if (stored) await this.discard(stored);
    } finally {
      await lock.unlock();
    }
  }

  /** Tells whether an upload waits for the scanner. */
  get awaitsFile(): boolean {
    for (const { value } of this.#mirror.list(records.uploads)) if (value.phase === 'complete') return true;
    return false;
  }

  /** Removes an upload with its bytes. */
  async discard(stored: StoredUpload): Promise<void> {
    await this.directory.remove(stored.id);
    await this.#store.commit({
      require: [unchanged(stored)],
      write: [remove(records.uploads, stored.id), remove(records.uploadLockRequests, stored.id)],
    });
    await this.#mirror.refresh();
  }

  /**
   * Continues and ends uploads: those that a crash has interrupted, that the scanner has seen, and that have expired. A
   * fault of one upload does not keep the others. @throws Error the first fault
   */
  async sweep(now: Date): Promise<void> {
    const server = await this.directory.serverId();
    const faults: unknown[] = [];
    for (const stored of [...this.#mirror.list(records.uploads)])
      if (stored.value.server === server)
        await this.#sweepOne(stored, now).catch((fault: unknown) => faults.push(fault));
    if (faults.length > 0) throw faults[0];
  }

  async #sweepOne(stored: StoredUpload, now: Date): Promise<void> {
    const { value } = stored;
    if (value.phase === 'verified') await this.finish(stored.id);
    else if (value.phase === 'complete' && this.#isRecorded(value)) await this.#advance(stored, 'recorded');
    else if (Date.parse(value.expires_at) > now.getTime()) return;
    else if (!this.#mirror.get(records.uploadLocks, stored.id)) await this.discard(stored);
  }

  #isRecorded({ file, sha256 }: records.UploadRecord): boolean {
    return this.#mirror.get(records.files, file)?.value.sha256 === sha256;
  }

  close(): Promise<void> {
    return this.#locks.close();
  }
}
