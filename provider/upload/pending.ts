/**
 * The uploads that an earlier apply has begun, each in a file beside the credentials. The API lists no uploads, so only this
 * file lets the next apply resume one. Without it, for instance on another machine, the upload begins anew.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { credentialsPath } from '../client/configuration.ts';

/** The form of an upload's path in the API. Another value must not become the address of a request. */
const uploadPath = /^\/v1\/uploads\/upl-[0-9a-hjkmnp-tv-z]{16}$/;
/** The API removes an unfinished upload after a day, and the file about it has no use then. */
const maxAgeMs = 2 * 24 * 3_600_000;

/** Tells whether the text is the path of an upload. */
export const isUploadPath = (text: unknown): text is string => typeof text === 'string' && uploadPath.test(text);

/** The upload of one content under one name. */
export class PendingUpload {
  readonly #directory: string;
  readonly #path: string;

  /** @param of the values that determine the upload */
  constructor(...of: readonly string[]) {
    const key = createHash('sha256').update(JSON.stringify(of)).digest('hex').slice(0, 32);
    this.#directory = join(dirname(credentialsPath(process.env)), 'terraform-uploads');
    this.#path = join(this.#directory, key);
  }

  /** Returns the path of the upload in the API; undefined if none is known. */
  get(): string | undefined {
    try {
      const text = readFileSync(this.#path, 'utf8');
      return isUploadPath(text) ? text : undefined;
    } catch {
      return undefined;
    }
  }

  /** Remembers the upload. A directory that cannot be written only prevents the resumption. */
  set(upload: string): void {
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      this.#removeOld();
      const draft = `${this.#path}.${process.pid}`;
      writeFileSync(draft, upload, { mode: 0o600 });
      renameSync(draft, this.#path);
    } catch {
      // The next apply begins anew.
    }
  }

  clear(): void {
    try {
      rmSync(this.#path, { force: true });
    } catch {
      // The API does not know the upload any more, so the next apply begins anew.
    }
  }

  #removeOld(): void {
    for (const name of readdirSync(this.#directory)) {
      const path = join(this.#directory, name);
      const found = statSync(path, { throwIfNoEntry: false });
      if (found && Date.now() - found.mtimeMs > maxAgeMs) rmSync(path, { force: true });
    }
  }
}
