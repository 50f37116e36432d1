/**
 * Opens a URL that a user has chosen. The name is resolved here, each time and for each redirect, and only addresses of
 * the public internet are connected to, so that a URL cannot reach what the user cannot.
 */
import { isIP, type LookupFunction } from 'node:net';
import { Agent, request } from 'undici';
import { isPublicAddress } from '../model/network/public-address.ts';
import { describeSize } from '../model/text/sizes.ts';
import { ImageRejected, SourceUnavailable } from './failures.ts';
import type { ImportLimits } from './limits.ts';
import { NameResolver } from './name-resolver.ts';

const redirects = 5;

class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
}

/**
 * Resolves names for connections. The addresses that it returns are those that are connected to, so a name server cannot
 * give another answer between the check and the connection.
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

const refused = (host: string) =>
  new ImageRejected(`The URL leads to ${host}, which is not on the public internet. Use a public server, or a file.`);

function parse(text: string, base?: URL): URL {
  const url = URL.parse(text, base?.href);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:'))
    throw new ImageRejected('The URL, or where it redirects to, is not an http or https URL.');
  if (url.username !== '' || url.password !== '') throw new ImageRejected('The URL must not contain a password.');
  return url;
}

export interface DownloadOptions {
  readonly allowPrivateAddresses: boolean;
  /** Name servers, as NameResolver takes them. Default: those of the machine. */
  readonly nameServers?: readonly string[];
  readonly limits: ImportLimits;
}

/**
 * @param signal ends the transfer; its reason is thrown
 * @param cancelled is its part that means that nobody wants the image any more
 */
export async function* download(
  source: string,
  options: DownloadOptions,
  signal: AbortSignal,
  cancelled: AbortSignal,
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
  let url = parse(source);
  try {
    for (let hop = 0; hop <= redirects; hop++) {
      // A literal address is not looked up, so it is checked here. The URL parser has put it into its plain form.
      const literal = url.hostname.replace(/^\[(.*)\]$/, '$1');
      if (isIP(literal) !== 0 && !isAllowed(literal)) throw refused(literal);
      const response = await request(url, { dispatcher: agent, signal, headers: { 'user-agent': 'ucloud' } });
      const { statusCode, headers, body } = response;
      if (statusCode >= 300 && statusCode < 400 && typeof headers.location === 'string') {
        await body.dump();
        url = parse(headers.location, url);
        continue;
      }
      if (statusCode >= 500 || statusCode === 429) throw new SourceUnavailable(`The server answers ${statusCode}.`);
      if (statusCode !== 200) throw new ImageRejected(`The server answers ${statusCode} for the URL.`);
      if (Number(headers['content-length'] ?? 0) > limits.sourceSize)
        throw new ImageRejected(`The source is larger than ${describeSize(limits.sourceSize)}, the limit.`);
      yield* body;
      return;
    }
    throw new ImageRejected(`The URL redirects more than ${redirects} times.`);
  } catch (err) {
    cancelled.throwIfAborted();
    throw signal.aborted ? signal.reason : explain(err, url);
  } finally {
    resolver.close();
    await agent.destroy();
  }
}

/** Explains a failed transfer to the user. Every failure is a fault of the server, also an answer that is no HTTP. */
function explain(err: unknown, url: URL): unknown {
  if (err instanceof ImageRejected || err instanceof SourceUnavailable || !(err instanceof Error)) return err;
  if (err instanceof AddressRefused) return refused(url.hostname);
  const code = 'code' in err && typeof err.code === 'string' ? err.code : '';
  if (code === 'ENOTFOUND') return new ImageRejected(`There is no server with the name ${url.hostname}.`);
  return new SourceUnavailable(`Cannot fetch from ${url.host}: ${err.message || code}.`, { cause: err });
}
