/**
 * Idempotency-Key: a repeated POST gets the answer of the first one and is carried out once.
 *
 * The transaction that carries out the request also writes its answer, on the condition that there is none for this
 * key. So of two requests with the same key, on any servers, one commits and the other finds its answer. A failed
 * request writes nothing, so the client may send it again.
 *
 * Answers can contain secrets such as a new token, so they are encrypted. The key is derived from the Idempotency-Key
 * and the bearer token, and neither is in the database. The answer does not store secrets of the request, such as user
 * data, because a repeated request contains them again.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import type { TSchema } from '@sinclair/typebox';
import { UcloudError } from '../../contract/errors.ts';
import { idempotency } from '../../model/records/index.ts';
import { absent, put, read } from '../../store/collection.ts';
import type { Condition, Revision, Store, Write } from '../../store/store.ts';
import type { ApiRequest } from '../requests/context.ts';

/** An answer without the revision, which is known only after the commit: it is that of the record with the answer. */
export interface StoredAnswer {
  readonly status: number;
  readonly body: object;
  readonly location?: string;
}

/** Returns JSON with sorted keys, so that equal bodies have equal text. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(',')}}`;
}

/** Returns the sensitive fields of the body. They are equal in all requests with the same digest. */
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

/** The answer of one request for its Idempotency-Key. */
export class IdempotencySlot {
  readonly #id: string;
  readonly #key: Buffer;
  /** A keyed digest of the request, so that the record does not reveal the request. */
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

  /**
   * Returns the answer to the first request with this key. @throws UcloudError `idempotency_key_reused` if that was
   * another request
   */
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
