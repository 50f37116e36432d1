/**
 * Uploads a local file by tus 1.0, and waits until the file scanner has recorded it.
 *
 * The server's offset decides which bytes come next, after each interruption: a broken connection, a restart of the API, or
 * an apply that ended in the middle. The server verifies the SHA-256 after the last byte, and only then puts the file in its
 * place. So no interruption leaves a partial file.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, randomPauseMs } from '../client/client.ts';
import { type Item, isBeingDeleted, type List } from '../client/item.ts';
import { ApiError, isRetryable } from '../client/problem.ts';
import { DiagnosticError } from '../framework/index.ts';
import { schemaOf } from '../schema/resources.gen.ts';
import { isUploadPath, PendingUpload } from './pending.ts';
import { type Content, changedSource, type OpenPart, withParts } from './source.ts';

/** A file of the API, with the local file that is its content. */
export interface Wanted extends Content {
  readonly project: string;
  /** The name as bytes of UTF-8, without the API's escapes. */
  readonly name: string;
  /** The path of the local file. */
  readonly source: string;
}

/** An upload with its progress, as the API tells it. */
interface Progress {
  readonly path: string;
  readonly offset: number;
  /** The id that the file has. */
  readonly file: string;
}

const { path: filesPath } = schemaOf('file');
const protocol = { 'tus-resumable': '1.0.0' };
/** The maximum size of one request, in bytes. Proxies may store a request before they forward it. */
const maxPartBytes = 64 * 2 ** 20;
/** The slowest verification: 50 MB/s, in bytes per millisecond. */
const verifiedPerMs = 50_000;
/** The time for bytes that the operating system has taken and not sent yet, in milliseconds. */
const bufferedMs = 60_000;
/** The time in which a scanner records a file, in addition to the verification. */
const recordingMs = 60_000;
const longPollSeconds = 30;

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const verificationMs = (size: number): number => Math.ceil(size / verifiedPerMs);

/** Returns the progress of an upload; undefined if the API does not have it any more. */
async function progressOf(
  client: Client,
  path: string,
  size: number,
  signal: AbortSignal,
): Promise<Progress | undefined> {
  try {
    // A complete upload answers after its verification.
    const { headers } = await client.exchange('HEAD', path, {
      headers: protocol,
      signal,
      longPollMs: verificationMs(size),
    });
    return progressIn(path, headers, 'upload-offset');
  } catch (error) {
    // An answer to HEAD has no body, so it has no code either.
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}

function progressIn(path: string, headers: Readonly<Record<string, unknown>>, offsetHeader?: string): Progress {
  const offset = offsetHeader === undefined ? 0 : Number(headers[offsetHeader] ?? Number.NaN);
  const file = headers['ucloud-file'];
  if (Number.isSafeInteger(offset) && offset >= 0 && typeof file === 'string') return { path, offset, file };
  throw new Error('The answer of the API is not one to an upload. A proxy may have removed its headers.');
}

async function begin(client: Client, { project, name, size, sha256 }: Wanted, signal: AbortSignal): Promise<Progress> {
  const metadata = { name, sha256, project };
  const { headers } = await client.exchange('POST', '/v1/uploads', {
    headers: {
      ...protocol,
      'upload-length': String(size),
      'upload-metadata': Object.entries(metadata)
        .map(([key, value]) => `${key} ${base64(value)}`)
        .join(','),
    },
    signal,
  });
  if (!isUploadPath(headers.location)) throw new Error('The answer of the API does not name the new upload.');
  return progressIn(headers.location, headers);
}

/** Returns true for the refusal of a content with another SHA-256 than the declared one. */
const isOtherContent = (error: unknown): boolean =>
  error instanceof ApiError &&
  error.code === 'rule_violated' &&
  (error.problem.errors ?? []).some(({ detail }) => detail.includes('sha256'));

/** Sends all bytes that the API does not have. Continues after failures, as long as there is progress. */
async function sendAll(client: Client, from: Progress, wanted: Wanted, part: OpenPart, signal: AbortSignal) {
  const { size, source } = wanted;
  let { path, offset } = from;
  for (let failures = 0; offset < size; ) {
    const end = Math.min(size, offset + maxPartBytes);
    const start = offset;
    try {
      const { headers } = await client.exchange('PATCH', path, {
        headers: { ...protocol, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) },
        stream: { open: () => part(start, end), bytes: end - start },
        longPollMs: bufferedMs + (end === size ? verificationMs(size) : 0),
        retries: 0,
        signal,
      });
      ({ offset } = progressIn(path, headers, 'upload-offset'));
      if (offset <= start) throw new Error('The API takes no bytes of the upload, and reports no error.');
      failures = 0;
    } catch (error) {
      if (isOtherContent(error)) throw changedSource(source, 'after the plan');
      if (signal.aborted || !(isRetryable(error) || (error instanceof ApiError && error.status === 404))) throw error;
      const now = await progressOf(client, path, size, signal);
      if (!now)
        throw new DiagnosticError(
          'The upload is gone',
          'The API has removed it: its content was not the planned one, or it has expired. Plan again: the new plan uploads the whole file.',
        );
      failures = now.offset > offset ? 0 : failures + 1;
      if (failures > client.maxRetries) throw error;
      ({ path, offset } = now);
      if (failures > 0) await sleep(randomPauseMs(failures), undefined, { signal });
    }
  }
}

/** Waits until the scanner has recorded the content, and returns the file. The signal is the time limit. */
async function recorded(client: Client, id: string, sha256: string, signal: AbortSignal): Promise<Item> {
  for (let after: number | undefined; ; ) {
    const waiting = after !== undefined;
    const list = (await client.call('GET', filesPath, {
      query: { ids: id, limit: 1, ...(waiting && { after, timeout: longPollSeconds }) },
      longPollMs: waiting ? longPollSeconds * 1000 : 0,
      retries: Number.POSITIVE_INFINITY,
      signal,
    })) as List;
    const [item] = list.items;
    if (item?.sha256 === sha256 && !isBeingDeleted(item)) return item;
    after = list.revision;
  }
}

/** Waits for the file of an upload that was complete before; undefined if it does not appear soon. */
async function recordedSoon(client: Client, id: string, { sha256, size }: Wanted, signal: AbortSignal) {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(recordingMs + verificationMs(size))]);
  try {
    return await recorded(client, id, sha256, limited);
  } catch (error) {
    if (signal.aborted || !limited.aborted) throw error;
    return undefined;
  }
}

/** The circumstances of an upload. */
export interface Circumstances {
  readonly client: Client;
  readonly signal: AbortSignal;
  /** Checks the id of the file and the present file before the first byte. @throws DiagnosticError to refuse the upload */
  check(id: string, present: Item | undefined): void;
  /** Notes that all bytes are there, and that only the record is missing. */
  uploaded(id: string): void;
}

/**
 * Uploads the file, unless the API has it already, and returns it as soon as it is recorded.
 * @throws DiagnosticError, ApiError, ConnectionError, or the reason of the signal
 */
export async function upload(wanted: Wanted, circumstances: Circumstances): Promise<Item> {
  const { client, signal, check, uploaded } = circumstances;
  const { project, name, sha256, size, source } = wanted;
  const pending = new PendingUpload(client.endpoint, project, name, sha256);
  const begun = async (): Promise<Progress> => {
    const made = await begin(client, wanted, signal);
    pending.set(made.path);
    return made;
  };
  const earlier = pending.get();
  let progress = earlier === undefined ? undefined : await progressOf(client, earlier, size, signal);
  // The file of a complete upload may have been changed or deleted since.
  if (progress && progress.offset >= size) {
    const item = await recordedSoon(client, progress.file, wanted, signal);
    pending.clear();
    if (item) return item;
    progress = undefined;
  }
  progress ??= await begun();
  const { file, path } = progress;
  const abandon = async () => {
    pending.clear();
    await client.call('DELETE', path, { headers: protocol }).catch(() => undefined);
  };
  let present = await client.read(filesPath, file, signal);
  // A running deletion would also remove the new content.
  if (present && isBeingDeleted(present))
    present = await client.wait(filesPath, present, (now) => now === undefined, signal);
  try {
    check(file, present);
  } catch (refusal) {
    await abandon();
    throw refusal;
  }
  if (present?.sha256 === sha256) {
    await abandon();
    return present;
  }
  const start = progress;
  try {
    await withParts(source, size, (part) => sendAll(client, start, wanted, part, signal));
  } catch (error) {
    // These bytes are wrong or gone, so no later apply may continue them.
    if (error instanceof DiagnosticError) await abandon();
    throw error;
  }
  uploaded(file);
  const item = await recorded(client, file, sha256, signal);
  pending.clear();
  return item;
}
