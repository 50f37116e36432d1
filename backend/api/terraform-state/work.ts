/**
 * The work on a state that takes time in proportion to its size: up to a second for the largest. It knows no store and no
 * request, so that it can be done in a thread of its own (worker-pool.ts).
 */
import { isUtf8 } from 'node:buffer';
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { deflateSync } from 'node:zlib';
import { maxStateDepth, scanJson } from '../../model/text/json-scan.ts';

const nonceBytes = 12;
/** Longest value of a member that is looked at, in bytes as it is spelled. */
const maxMemberBytes = 4096;

export interface ReadJob {
  readonly work: 'read';
  readonly bytes: Uint8Array;
  /** MD5 in base 64 that the bytes have to have. */
  readonly digest?: string;
  /** Members at the top to give back. */
  readonly members: readonly string[];
}
export type ReadResult =
  | { readonly ok: true; readonly bytes: Uint8Array; readonly md5: string; readonly members: Record<string, unknown> }
  | { readonly ok: false; readonly pointer: string; readonly detail: string };

export interface SealJob {
  readonly work: 'seal';
  readonly bytes: Uint8Array;
  readonly key: Uint8Array;
  readonly content: string;
  /** The owner of the content. The content cannot be decrypted as that of another owner. */
  readonly binding: string;
}
export interface SealResult {
  /** As they came. */
  readonly bytes: Uint8Array;
  readonly sealed: Uint8Array;
  /** Base 64. */
  readonly nonce: string;
  readonly tag: string;
}

export type Job = ReadJob | SealJob;
export type ResultOf<J extends Job> = J extends ReadJob ? ReadResult : SealResult;

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function readState({ bytes, digest, members: asked }: ReadJob): ReadResult {
  const wrong = (detail: string, pointer = ''): ReadResult => ({ ok: false, pointer, detail });
  const buffer = asBuffer(bytes);
  const md5 = createHash('md5').update(buffer).digest('base64');
  if (digest !== undefined && digest !== md5) {
    return wrong('is not the digest of the body that arrived', '#header/Content-MD5');
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

export function perform(job: ReadJob): ReadResult;
export function perform(job: SealJob): SealResult;
export function perform(job: Job): ReadResult | SealResult;
export function perform(job: Job): ReadResult | SealResult {
  return job.work === 'read' ? readState(job) : sealState(job);
}
