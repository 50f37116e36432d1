/**
 * Resolves the names in URLs of users. `dns.lookup` would wait in one of the few threads that the whole process shares.
 * A silent name server of one project would then delay the names and files of other projects. The queries of this class
 * take no thread, and end after some seconds.
 */
import { NODATA, NOTFOUND } from 'node:dns';
import { Resolver } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';

/** An address of a name. */
export interface Address {
  readonly address: string;
  readonly family: 4 | 6;
}

const hostsFile = '/etc/hosts';
/** The timeout of the first query to a server. The second and last query waits twice as long. */
const queryTimeoutMs = 3000;

const isAbsent = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && (error.code === NOTFOUND || error.code === NODATA);

/** Returns the addresses of a name from a text in the format of hosts(5). */
export function addressesInHosts(text: string, name: string): Address[] {
  return text.split('\n').flatMap((line): Address[] => {
    const [address = '', ...names] = (line.split('#')[0] ?? '').trim().split(/\s+/);
    const family = isIP(address);
    if (family === 0 || !names.some((each) => each.toLowerCase() === name.toLowerCase())) return [];
    return [{ address, family: family === 6 ? 6 : 4 }];
  });
}

/** Resolves names by its own queries to name servers. */
export class NameResolver {
  readonly #resolver = new Resolver({ timeout: queryTimeoutMs, tries: 2 });

  /** @param servers addresses with optional ports (RFC 5952, section 6). Default: those of /etc/resolv.conf. */
  constructor(servers?: readonly string[]) {
    if (servers) this.#resolver.setServers(servers);
  }

  /**
   * Returns at least one address, IPv6 addresses first. A name in /etc/hosts needs no query.
   * @throws Error with the code `ENOTFOUND` if the name has no address, or a code of c-ares if no server answers
   */
  async resolve(name: string): Promise<Address[]> {
    const local = addressesInHosts(await readFile(hostsFile, 'utf8').catch(() => ''), name);
    if (local.length > 0) return local;
    const results = await Promise.allSettled([this.#resolver.resolve6(name), this.#resolver.resolve4(name)]);
    const found = results.flatMap((result, index): Address[] =>
      result.status === 'fulfilled' ? result.value.map((address) => ({ address, family: index === 0 ? 6 : 4 })) : [],
    );
    if (found.length > 0) return found;
    for (const result of results) if (result.status === 'rejected' && !isAbsent(result.reason)) throw result.reason;
    throw Object.assign(new Error(`${name} has no address`), { code: NOTFOUND });
  }

  /** Ends all queries. */
  close(): void {
    this.#resolver.cancel();
  }
}
