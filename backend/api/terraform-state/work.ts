/**
 * The work on a state whose duration grows with its size: up to a second for the largest. It uses neither store nor
 * request, so a worker thread can do it (worker-pool.ts).
 */
import { isUtf8 } from 'node:buffer';
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { deflateSync } from 'node:zlib';
import { maxStateDepth, scanJson } from '../../model/text/json-scan.ts';

const nonceBytes = 12;
/** The maximum bytes of a member that is read, as it is spelled. */
const maxMemberBytes = 4096;

/** The job that checks a received state and reads members of it. */
export interface ReadJob {
  readonly work: 'read';
  readonly bytes: Uint8Array;
  /** The MD5 that the bytes must have, in base 64. */
  readonly digest?: string;
  /** The top-level members to return. */
  readonly members: readonly string[];
}
/** The result of a ReadJob: the members, or the problem. */
export type ReadResult =
  | { readonly ok: true; readonly bytes: Uint8Array; readonly md5: string; readonly members: Record<string, unknown> }
  | { readonly ok: false; readonly pointer: string; readonly detail: string };

/** The job that compresses and encrypts a state. */
export interface SealJob {
  readonly work: 'seal';
  readonly bytes: Uint8Array;
  readonly key: Uint8Array;
  readonly content: string;
  /** The owner of the content. The content cannot be decrypted as that of another owner. */
  readonly binding: string;
}
/** The result of a SealJob. */
export interface SealResult {
  /** The bytes of the job. */
  readonly bytes: Uint8Array;
  readonly sealed: Uint8Array;
  /** In base 64. */
  readonly nonce: string;
  readonly tag: string;
}

/** A job of a worker thread. */
export type Job = ReadJob | SealJob;
/** The result of a job. */
export type ResultOf<J extends Job> = J extends ReadJob ? ReadResult : SealResult;

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function readState({ bytes, digest, members: asked }: ReadJob): ReadResult {
  const wrong = (detail: string, pointer = ''): ReadResult => ({ ok: false, pointer, detail });
  const buffer = asBuffer(bytes);
  const md5 = createHash('md5').update(buffer).digest('base64');
  if (digest !== undefined && digest !== md5) {
    return wrong('must be the MD5 of the body in base 64', '#header/Content-MD5');
  }
  if (!isUtf8(buffer)) return wrong('must be UTF-8');
  const scan = scanJson(buffer, new Set(asked), maxStateDepth);
  if (!scan.ok) return wrong(scan.problem);
  if (!scan.isObject) return wrong('must be object');
  const members: Record<string, unknown> = {};
  for (const [name, [start, end]] of scan.members) {
    if (end - start > maxMemberBytes) return wrong(`must not be longer than ${maxMemberBytes} bytes`, `/${name}`);
    members[name] = JSON.parse(buffer.toString('utf8', start, end));
  }
  return { ok: true, bytes, md5, members };
}

function sealState({ bytes, key, content, binding }: SealJob): SealResult {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(Buffer.from(`${binding}/${content}`));
  const text = cipher.update(deflateSync(bytes));
  cipher.final();
  return {
    bytes,
    sealed: text,
    nonce: nonce.toString('base64'),
    tag: cipher.getAuthTag().toString('base64'),
  };
}

/** Does a job in this thread. */
export function perform(job: ReadJob): ReadResult;
export function perform(job: SealJob): SealResult;
export function perform(job: Job): ReadResult | SealResult;
export function perform(job: Job): ReadResult | SealResult {
  return job.work === 'read' ? readState(job) : sealState(job);
}
