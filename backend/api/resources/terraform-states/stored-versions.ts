/** The content of stored versions of a Terraform state. */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import * as records from '../../../model/records/index.ts';
import { read } from '../../../store/collection.ts';
import type { ApiAnswer, ApiContext } from '../../requests/context.ts';
import { open } from '../../terraform-state/content.ts';
import { key, keysOf, type State, type StateName, textOf, type Version } from './state-record.ts';

export interface StoredVersion {
  readonly version: Version;
  readonly stream: Readable;
}

export async function openVersion(
  api: ApiContext,
  place: StateName,
  state: State,
  version: number,
): Promise<StoredVersion | undefined> {
  const stored = await read(api.store, records.terraformStateVersions, key(state.id, version));
  if (!stored) return undefined;
  const { content, size } = stored.value;
  const stream = await open(api.store, keysOf(api), textOf(place), content, size);
  return stream && { version: stored.value, stream };
}

/**
 * The maximum bytes of a state that is read completely before the response begins, so that a read error becomes a
 * problem document.
 */
const sentWhole = 256 * 1024;

export async function answerWith(
  { version: { size, md5 }, stream }: StoredVersion,
  revision: number,
): Promise<ApiAnswer> {
  if (size > sentWhole) {
    return { status: 200, content: { size, data: stream, ...(md5 === undefined ? {} : { md5 }) }, revision };
  }
  const data = Buffer.concat(await stream.toArray());
  return { status: 200, content: { size, data, md5: createHash('md5').update(data).digest('base64') }, revision };
}

/** Tells whether the stored version has this content. It has only one piece of the version in memory at a time. */
export async function hasContent({ version, stream }: StoredVersion, bytes: Uint8Array): Promise<boolean> {
  if (version.size !== bytes.length) {
    stream.destroy();
    return false;
  }
  let at = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    if (!piece.equals(bytes.subarray(at, at + piece.length))) return false;
    at += piece.length;
  }
  return true;
}
