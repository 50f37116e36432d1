/**
 * Downloads from a URL that a user has chosen. The scanner resolves the name itself for each redirect, and connects
 * only to addresses of the public internet. So a URL cannot reach a server that its user cannot reach.
 */
import { isIP, type LookupFunction } from 'node:net';
import { Agent, request } from 'undici';
import { isPublicAddress } from '../model/network/public-address.ts';
import { describeSize } from '../model/text/sizes.ts';
import { ImageRejected, SourceUnavailable } from './failures.ts';
import type { ImportLimits } from './limits.ts';
import { NameResolver } from './name-resolver.ts';

const maxRedirects = 5;

class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
}

/**
 * Returns the lookup function of connections. The connection uses the checked addresses, so a name server cannot give
 * another answer after the check.
 */
const lookupBy =
  (resolver: NameResolver, isAllowed: (address: string) => boolean): LookupFunction =>
  (host, options, callback) => {
    resolver.resolve(host).then(
      (addresses) => {
        const allowed = addresses.filter(({ address }) => isAllowed(address));
        const [first] = allowed;
        if (first === undefined) callback(new AddressRefused(host), '');
        else if (options.all) callback(null, allowed);
        else callback(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, ''),
    );
  };

const addressRefused = (host: string) =>
  new ImageRejected(`The URL leads to ${host}, which is not on the public internet. Use a public server, or a file.`);

function parseUrl(text: string, base?: URL): URL {
  const url = URL.parse(text, base?.href);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:'))
    throw new ImageRejected('The URL, or where it redirects to, is not an http or https URL.');
  if (url.username !== '' || url.password !== '') throw new ImageRejected('The URL must not contain a password.');
  return url;
}

/** Options of `download`. */
export interface DownloadOptions {
  readonly allowPrivateAddresses: boolean;
  /** The name servers, in the form of `NameResolver`. Default: those of the machine. */
  readonly nameServers?: readonly string[];
  readonly limits: ImportLimits;
}

/**
 * Yields the content of the URL.
 * @param signal ends the transfer
 * @param cancelled aborts when the image is no longer needed; `signal` includes it
 * @param expect gets the size that the server announces, in bytes
 * @throws ImageRejected if the URL is not usable; SourceUnavailable if the server may answer later
 * @throws the reason of `signal` after its abort
 */
export async function* download(
  source: string,
  options: DownloadOptions,
  signal: AbortSignal,
  cancelled: AbortSignal,
  expect: (bytes: number) => void = () => undefined,
): AsyncGenerator<Buffer, void> {
  const { allowPrivateAddresses, limits } = options;
  const isAllowed = (address: string) => allowPrivateAddresses || isPublicAddress(address);
  const resolver = new NameResolver(options.nameServers);
  const agent = new Agent({
    connect: { timeout: 15_000, lookup: lookupBy(resolver, isAllowed) },
    headersTimeout: 30_000,
    bodyTimeout: 60_000,
    pipelining: 0,
  });
  let url = parseUrl(source);
  try {
    for (let hop = 0; hop <= maxRedirects; hop++) {
      // A literal address has no lookup, so this line checks it. The URL parser has normalized the address.
      const literal = url.hostname.replace(/^\[(.*)\]$/, '$1');
      if (isIP(literal) !== 0 && !isAllowed(literal)) throw addressRefused(literal);
      const response = await request(url, { dispatcher: agent, signal, headers: { 'user-agent': 'ucloud' } });
      const { statusCode, headers, body } = response;
      if (statusCode >= 300 && statusCode < 400 && typeof headers.location === 'string') {
        await body.dump();
        url = parseUrl(headers.location, url);
        continue;
      }
      if (statusCode >= 500 || statusCode === 429) throw new SourceUnavailable(`The server answers ${statusCode}.`);
      if (statusCode !== 200) throw new ImageRejected(`The server answers ${statusCode} for the URL.`);
      const announced = Number(headers['content-length'] ?? 0);
      if (announced > limits.maxSourceBytes)
        throw new ImageRejected(`The source is larger than ${describeSize(limits.maxSourceBytes)}, the limit.`);
      expect(announced);
      yield* body;
      return;
    }
    throw new ImageRejected(`The URL redirects more than ${maxRedirects} times.`);
  } catch (err) {
    cancelled.throwIfAborted();
    throw signal.aborted ? signal.reason : transferError(err, url);
  } finally {
    resolver.close();
    await agent.destroy();
  }
}

/** Returns the error of a failed transfer, for the user. Every failure is a fault of the server, even invalid HTTP. */
function transferError(err: unknown, url: URL): unknown {
  if (err instanceof ImageRejected || err instanceof SourceUnavailable || !(err instanceof Error)) return err;
  if (err instanceof AddressRefused) return addressRefused(url.hostname);
  const code = 'code' in err && typeof err.code === 'string' ? err.code : '';
  if (code === 'ENOTFOUND') return new ImageRejected(`There is no server with the name ${url.hostname}.`);
  return new SourceUnavailable(`Cannot fetch from ${url.host}: ${err.message || code}.`, { cause: err });
}
