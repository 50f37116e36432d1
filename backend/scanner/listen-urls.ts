/** The URLs at which hosts reach an image server. */
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';

/** The maximum number of URLs. A machine may have many addresses. */
const maxUrls = 8;

/** Tells whether the server listens on all addresses. */
const isWildcard = (host: string): boolean => host === '::' || host === '0.0.0.0';

/** Bridges and taps of guests have these names (model/network/interface-names.ts). */
const isOfGuests = (name: string): boolean => /^u[bt][0-9a-f]+$/.test(name);

const urlOf = (host: string, port: number): string => `https://${isIPv6(host) ? `[${host}]` : host}:${port}`;

/**
 * Returns the URLs of a server. If it listens on all addresses, these are the global and unique local addresses of the
 * machine, IPv6 first; a machine without such an address has the loopback address.
 */
export function listenUrls(host: string, port: number, interfaces = networkInterfaces()): string[] {
  if (!isWildcard(host)) return [urlOf(host, port)];
  const addresses = Object.entries(interfaces)
    .filter(([name]) => !isOfGuests(name))
    .flatMap(([, all]) => all ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:') && !address.startsWith('169.254.'))
    .map(({ address }) => address)
    .filter((address) => host === '::' || !isIPv6(address));
  const [six, four] = [addresses.filter(isIPv6), addresses.filter((address) => !isIPv6(address))];
  const found = [...six, ...four].slice(0, maxUrls);
  return (found.length > 0 ? found : [host === '::' ? '::1' : '127.0.0.1']).map((address) => urlOf(address, port));
}
