/** Sends the disk of a snapshot to the image scanner (model/image/transfer.ts). The host does not interpret the content. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type RequestOptions, request } from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ConnectionOptions } from 'node:tls';
import { constants, createZstdCompress } from 'node:zlib';
import {
  deliveryIdentity,
  deliveryUrlPath,
  diskBytesHeader,
  diskDigestTrailer,
  imageTransferTls,
} from '../../model/image/transfer.ts';

/** The scanner does not answer, or refuses the disk. */
export class DeliveryFailed extends Error {
  override readonly name = 'DeliveryFailed';
}

/** The time in milliseconds in which a connection must be there. */
const connectMs = 5_000;

/** A delivery. */
export interface DeliveryOptions {
  /** The URL of the server, without a path. */
  readonly url: string;
  readonly image: string;
  /** The secret of the delivery, in hex. */
  readonly secret: string;
  /** The size of the disk in bytes, and its content. */
  readonly bytes: number;
  readonly content: Readable;
  /** The maximum time without progress, in milliseconds. */
  readonly idleMs: number;
  readonly signal: AbortSignal;
}

/** Yields the parts and hashes them. */
async function* hashed(content: AsyncIterable<Buffer>, hash: ReturnType<typeof createHash>) {
  for await (const chunk of content) {
    hash.update(chunk);
    yield chunk;
  }
}

/**
 * Sends the disk, and resolves when the scanner has all of it.
 * @throws DeliveryFailed, or the reason of `signal`
 */
export async function deliverDisk(delivery: DeliveryOptions): Promise<void> {
  const { url, image, secret, bytes, content, idleMs, signal: given } = delivery;
  const { hostname, port } = new URL(url);
  const failed = new AbortController();
  const signal = AbortSignal.any([given, failed.signal]);
  const options: RequestOptions & Pick<ConnectionOptions, 'pskCallback'> = {
    ...imageTransferTls,
    ...{ host: hostname.replace(/^\[|\]$/g, ''), port, path: deliveryUrlPath(image), method: 'PUT' },
    headers: { [diskBytesHeader]: `${bytes}`, 'transfer-encoding': 'chunked', trailer: diskDigestTrailer },
    ...{ agent: false, signal },
    pskCallback: () => ({ identity: deliveryIdentity(image), psk: Buffer.from(secret, 'hex') }),
    // The key proves the identity of the server. There is no certificate.
    checkServerIdentity: () => undefined,
  };
  const sent = request(options);
  const answered = Promise.withResolvers<number>();
  answered.promise.catch(() => undefined);
  const fail = (error: Error) => {
    answered.reject(error);
    failed.abort(error);
  };
  sent.setTimeout(idleMs, () => fail(new DeliveryFailed('the scanner takes no bytes')));
  // Without a limit, the kernel waits for minutes for an address that nobody answers.
  const connecting = setTimeout(() => fail(new DeliveryFailed('the scanner does not answer')), connectMs);
  sent.once('socket', (socket) => socket.once('secureConnect', () => clearTimeout(connecting)));
  sent.on('error', (error) => fail(new DeliveryFailed(error.message, { cause: error })));
  sent.once('response', (response) => {
    response.on('error', () => undefined);
    response.resume();
    const { statusCode = 0 } = response;
    if (statusCode === 204) answered.resolve(statusCode);
    else fail(new DeliveryFailed(`the scanner answered with the status ${statusCode}`));
  });
  const hash = createHash('sha256');
  try {
    // The fastest level: the host has other work, and the network is local.
    const compressed = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    await pipeline(
      content,
      (source: AsyncIterable<Buffer>) => hashed(source, hash),
      compressed,
      async (parts: AsyncIterable<Buffer>) => {
        for await (const part of parts) if (!sent.write(part)) await once(sent, 'drain', { signal });
      },
      { signal },
    );
    sent.addTrailers({ [diskDigestTrailer]: hash.digest('hex') });
    sent.end();
    await answered.promise;
  } catch (error) {
    given.throwIfAborted();
    if (failed.signal.aborted) throw failed.signal.reason;
    throw error;
  } finally {
    clearTimeout(connecting);
    content.destroy();
    sent.destroy();
  }
}
