/**
 * Idempotency-Key: what makes a POST that is sent again answer as the first time, and be done once.
 *
 * The answer to the first request is written in the transaction that carries the request out, on the condition that
 * none is there. So of two requests with the same key, however close, on whichever server, one commits and the other
 * finds its answer. Requests that fail write nothing: they may be sent again.
 *
 * Answers can hold secrets (a new token), so they are encrypted, under a key that only the client has the parts of: its
 * Idempotency-Key and its bearer token. Neither lies in the database. Secrets that the request itself carries (user data)
 * are left out: who sends it again sends them, too.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import type { TSchema } from '@sinclair/typebox';
import { UcloudError } from '../../contract/errors.ts';
import { idempotency } from '../../model/records/index.ts';
import { absent, put, read } from '../../store/collection.ts';
import type { Condition, Revision, Store, Write } from '../../store/store.ts';
import type { ApiRequest } from '../requests/context.ts';

/** An answer without what only the commit can know: the revision, which is that of the record that holds it. */
export interface StoredAnswer {
  readonly status: number;
  readonly body: object;
  readonly location?: string;
}

/** JSON with the keys of objects in order, so that equal bodies have equal text. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(',')}}`;
}

/** Of the body, what the contract calls sensitive. It is equal in each request that has the same digest. */
function sensitiveFields({ endpoint, body }: ApiRequest): Readonly<Record<string, unknown>> {
  const fields: Readonly<Record<string, TSchema>> = endpoint.body?.properties ?? {};
  const given = (body ?? {}) as Readonly<Record<string, unknown>>;
  return Object.fromEntries(
    Object.keys(fields)
      .filter((name) => fields[name]?.['x-sensitive'] === true && given[name] !== undefined)
      .map((name) => [name, given[name]]),
  );
}

const nonceBytes = 12;
const tagBytes = 16;

export class IdempotencySlot {
  readonly #id: string;
  readonly #key: Buffer;
  /** Keyed digest of the request, so that the record does not betray what was asked. */
  readonly #request: string;
  readonly #at: string;
  /** The fields that the answer repeats from the request. The record does not store them. */
  readonly #carried: Readonly<Record<string, unknown>>;

  constructor(request: ApiRequest, key: string) {
    const name = createHash('sha256').update(key).digest('hex').slice(0, 32);
    this.#id = `${request.caller.token}/${name}`;
    this.#key = Buffer.from(hkdfSync('sha256', `${request.caller.secret}\0${key}`, this.#id, 'ucloud idempotency', 32));
    const { method, path } = request.endpoint;
    this.#request = createHmac('sha256', this.#key)
      .update(canonical([method, path, request.params, request.body ?? null]))
      .digest('hex');
    this.#at = request.now.toISOString();
    this.#carried = sensitiveFields(request);
  }

  get free(): Condition {
    return absent(idempotency, this.#id);
  }

  write(answer: StoredAnswer): Write {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce);
    cipher.setAAD(Buffer.from(this.#request));
    const text = Buffer.concat([cipher.update(JSON.stringify(this.#withoutCarried(answer)), 'utf8'), cipher.final()]);
    return put(idempotency, this.#id, {
      request: this.#request,
      status: answer.status,
      answer: Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64'),
      at: this.#at,
    });
  }

  /** The answer to the first request with this key. Throws `idempotency_key_reused` if that was another request. */
  async find(store: Store): Promise<{ answer: StoredAnswer; revision: Revision } | undefined> {
    const stored = await read(store, idempotency, this.#id);
    if (!stored) return undefined;
    if (stored.value.request !== this.#request) {
      const detail = 'the Idempotency-Key belongs to an earlier request with another path or body';
      throw new UcloudError('idempotency_key_reused', detail, {
        errors: [{ pointer: '#header/Idempotency-Key', detail: 'must be new for each request' }],
      });
    }
    const bytes = Buffer.from(stored.value.answer, 'base64');
    const decipher = createDecipheriv('aes-256-gcm', this.#key, bytes.subarray(0, nonceBytes));
    decipher.setAAD(Buffer.from(this.#request));
    decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
    const text = Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()]);
    const answer = JSON.parse(text.toString('utf8')) as StoredAnswer;
    return { answer: { ...answer, body: { ...answer.body, ...this.#carried } }, revision: stored.revision };
  }

  #withoutCarried(answer: StoredAnswer): StoredAnswer {
    const fields = Object.entries(answer.body).filter(([name]) => !Object.hasOwn(this.#carried, name));
    return { ...answer, body: Object.fromEntries(fields) };
  }
}
