/**
 * Fetches the file of an image from one image server (model/image/transfer.ts). The file goes to `<part>`. An
 * interrupted fetch leaves the part, and the next fetch continues it, also after a restart.
 *
 * The caller knows the size and the digest of the file from the database. It never writes more bytes than this size, and
 * `fetchImage` succeeds only if the digest of the whole part is right.
 */
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { type RequestOptions, request } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
import { imageTransferTls, imageUrlPath } from '../../model/image/transfer.ts';
import type { ImageCopyRecord } from '../../model/records/index.ts';

/** The server does not answer, answers with another status, or is too slow. The part stays. */
export class ServerUnavailable extends Error {
  override readonly name = 'ServerUnavailable';
}

/** The server has sent wrong bytes. The part is removed. */
export class WrongBytes extends Error {
  override readonly name = 'WrongBytes';
  /** True if all bytes came from this server in this fetch. */
  readonly ofServer: boolean;

  constructor(message: string, ofServer: boolean) {
    super(message);
    this.ofServer = ofServer;
  }
}

/** The limits of a fetch. */
export interface FetchLimits {
  /** The maximum time until the server answers. */
  readonly answerTimeoutMs: number;
  /** The minimum rate of the server, as the average over each window. */
  readonly minBytesPerSecond: number;
  readonly rateWindowMs: number;
}

/** The limits of a cloud without settings of its own. */
export const defaultFetchLimits: FetchLimits = {
  answerTimeoutMs: 10_000,
  minBytesPerSecond: 64 * 1024,
  rateWindowMs: 30_000,
};

/** A point at which tests interrupt a fetch. */
export type FetchStep = 'opened' | 'answered' | 'received' | 'synced' | 'verified' | 'completed';

/** Options of `fetchImage`. */
export interface FetchOptions {
  /** The URL of the server, without a path. */
  readonly url: string;
  readonly image: string;
  readonly copy: Pick<ImageCopyRecord, 'sha256' | 'bytes' | 'secret'>;
  readonly part: string;
  readonly limits: FetchLimits;
  readonly signal: AbortSignal;
  /** Gets the number of bytes of the part. */
  readonly progress: (bytes: number) => void;
  readonly onStep?: ((step: FetchStep) => void) | undefined;
}

/** The errors of a file system that cannot take the bytes. */
const storageErrors: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EROFS']);

/** Returns the reason for the owner of a VM. It contains no address of the operator's network. */
function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) return 'it does not know the secret of the image';
  if (code === 'ECONNRESET' || code === 'EPIPE') return 'it ended the connection';
  return code.startsWith('HPE_') ? 'it does not answer in HTTP' : 'it cannot be reached';
}

/** Asks the server. Resolves with its answer. @throws ServerUnavailable */
function ask({ url, image, copy, limits }: FetchOptions, offset: number, signal: AbortSignal) {
  const { hostname, port } = new URL(url);
  return new Promise<IncomingMessage>((resolve, reject) => {
    const options: RequestOptions & Pick<ConnectionOptions, 'pskCallback'> = {
      ...imageTransferTls,
      host: hostname.replace(/^\[|\]$/g, ''),
      port,
      path: imageUrlPath(image),
      headers: offset > 0 ? { range: `bytes=${offset}-` } : {},
      agent: false,
      signal,
      pskCallback: () => ({ identity: image, psk: Buffer.from(copy.secret, 'hex') }),
      // The key proves the identity of the server. There is no certificate.
      checkServerIdentity: () => undefined,
    };
    const sent = request(options);
    const timer = setTimeout(() => {
      const seconds = Math.ceil(limits.answerTimeoutMs / 1000);
      sent.destroy(new ServerUnavailable(`it did not answer within ${seconds} s`));
    }, limits.answerTimeoutMs);
    sent.once('response', (response) => {
      clearTimeout(timer);
      // `receive` sees the error too. A response without a listener would end the process.
      response.on('error', () => undefined);
      resolve(response);
    });
    sent.on('error', (error) => {
      clearTimeout(timer);
      reject(error instanceof ServerUnavailable ? error : new ServerUnavailable(reasonOf(error), { cause: error }));
    });
    sent.end();
  });
}

/** Checks that the answer contains exactly the missing bytes. @throws ServerUnavailable */
function checkAnswer({ statusCode, headers }: IncomingMessage, offset: number, bytes: number): void {
  const range = `bytes ${offset}-${bytes - 1}/${bytes}`;
  const isRest = offset === 0 ? statusCode === 200 : statusCode === 206 && headers['content-range'] === range;
  if (!isRest) throw new ServerUnavailable(`it answered with the status ${statusCode}`);
  if (headers['content-length'] !== `${bytes - offset}`)
    throw new ServerUnavailable('it announced another size than the recorded one');
}

/** Hashes the bytes that an earlier fetch has left. Returns their number. */
async function hashPart(file: FileHandle, hash: Hash, bytes: number, signal: AbortSignal): Promise<number> {
  const { size } = await file.stat();
  if (size > bytes) {
    await file.truncate(0);
    return 0;
  }
  if (size > 0) {
    const buffer = Buffer.alloc(2 ** 20);
    for (let position = 0; position < size; ) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) throw new Error('the beginning of the file became shorter');
      hash.update(buffer.subarray(0, bytesRead));
      position += bytesRead;
    }
  }
  return size;
}

/** Receives the missing bytes. @throws ServerUnavailable or an error of the file system */
async function receive(options: FetchOptions, file: FileHandle, hash: Hash, offset: number): Promise<void> {
  const { copy, limits, signal, progress, onStep } = options;
  const ending = new AbortController();
  const response = await ask(options, offset, AbortSignal.any([signal, ending.signal]));
  let received = offset;
  let checked = offset;
  const watch = setInterval(() => {
    if (received - checked < (limits.minBytesPerSecond * limits.rateWindowMs) / 1000)
      response.destroy(new ServerUnavailable(`it sent less than ${limits.minBytesPerSecond} bytes a second`));
    checked = received;
  }, limits.rateWindowMs);
  try {
    checkAnswer(response, offset, copy.bytes);
    onStep?.('answered');
    for await (const chunk of response as AsyncIterable<Buffer>) {
      if (received + chunk.length > copy.bytes)
        throw new ServerUnavailable('it sent more bytes than the recorded size');
      hash.update(chunk);
      for (let done = 0; done < chunk.length; )
        done += (await file.write(chunk, done, chunk.length - done, received + done)).bytesWritten;
      received += chunk.length;
      progress(received);
      onStep?.('received');
    }
  } catch (error) {
    signal.throwIfAborted();
    const { code } = error as NodeJS.ErrnoException;
    if (error instanceof ServerUnavailable || storageErrors.has(code ?? '')) throw error;
    throw new ServerUnavailable(reasonOf(error), { cause: error });
  } finally {
    clearInterval(watch);
    ending.abort();
  }
  if (received < copy.bytes) throw new ServerUnavailable('it ended the connection');
}

/**
 * Fetches the missing bytes of the part, and checks all of it.
 * @returns the number of bytes that came over the network
 * @throws ServerUnavailable, WrongBytes, an error of the file system, or the reason of `signal`
 */
export async function fetchImage(options: FetchOptions): Promise<number> {
  const { copy, part, signal, onStep } = options;
  const file = await open(part, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    onStep?.('opened');
    const hash = createHash('sha256');
    const offset = await hashPart(file, hash, copy.bytes, signal);
    if (offset < copy.bytes) await receive(options, file, hash, offset);
    await file.sync();
    onStep?.('synced');
    if (hash.digest('hex') !== copy.sha256) {
      await rm(part, { force: true });
      throw new WrongBytes('it sent other bytes than the recorded ones', offset === 0);
    }
    onStep?.('verified');
    return copy.bytes - offset;
  } finally {
    await file.close();
  }
}
