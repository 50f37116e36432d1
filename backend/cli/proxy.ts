/**
 * The proxy of a request, from the environment in the way of curl and Go. HTTPS_PROXY and HTTP_PROXY give the proxy of
 * each scheme, and NO_PROXY the exceptions. The variables in lower case have precedence.
 *
 * The provider gets a copy of this file (`npm run generate`), so that it and the command behave alike.
 */
import { BlockList, isIP } from 'node:net';

/** The variables of the environment. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>;

/** The proxy of a request. */
export interface ProxySetting {
  /** The URL with user name and password, if it has them. */
  readonly url: URL;
  /** The address without user name and password, and the variable that sets it; for messages. */
  readonly text: string;
}

function setting(environment: ProxyEnvironment, name: string): readonly [name: string, value: string] | undefined {
  for (const spelled of [name.toLowerCase(), name]) {
    const value = environment[spelled]?.trim();
    if (value) return [spelled, value];
  }
  return undefined;
}

/** Returns the proxy for the URL; undefined if the request needs none. @throws Error that names an unusable variable */
export function proxyFor(url: URL, environment: ProxyEnvironment): ProxySetting | undefined {
  const found = setting(environment, url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY');
  if (!found) return undefined;
  const host = bare(url.hostname);
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  if (isLoopback(host) || isExcepted(host, port, setting(environment, 'NO_PROXY')?.[1] ?? '')) return undefined;
  const [name, value] = found;
  const proxy = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value}`);
  // The error omits the value, because it may contain a password.
  if (!proxy?.hostname) throw new Error(`${name} is not the URL of a proxy, such as http://proxy.example.com:3128`);
  if (proxy.protocol !== 'http:' && proxy.protocol !== 'https:') {
    throw new Error(`${name} names a proxy of ${proxy.protocol}//, and only http:// and https:// are known`);
  }
  return { url: proxy, text: `${proxy.protocol}//${proxy.host} (${name})` };
}

/** Returns the value of `Proxy-Authorization`; undefined for a proxy without user name. */
export function proxyAuthorization({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined;
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return `Basic ${Buffer.from(credentials).toString('base64')}`;
}

/** Returns the host without brackets and the final dot, in lower case. */
const bare = (host: string): string =>
  host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');

const family = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4');

function isLoopback(host: string): boolean {
  if (isIP(host) === 0) return host === 'localhost' || host.endsWith('.localhost');
  const loopback = new BlockList();
  loopback.addSubnet('127.0.0.0', 8, 'ipv4');
  loopback.addAddress('::1', 'ipv6');
  return loopback.check(host, family(host));
}

/**
 * Tells whether NO_PROXY contains the host. An entry is `host`, `.suffix`, `*.suffix`, an address, a block of
 * addresses, each with or without a port, or `*`.
 */
function isExcepted(host: string, port: string, exceptions: string): boolean {
  return exceptions
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true;
      const [, bracketed, named, asked] = entry.match(/^(?:(\[[^\]]*\](?:\/\d+)?)|([^:]*)):(\d+)$/) ?? [];
      if (asked !== undefined && asked !== port) return false;
      return covers((bracketed ?? named ?? entry).replace(/[[\]]/g, ''), host);
    });
}

function covers(entry: string, host: string): boolean {
  const [address = '', length, ...more] = entry.split('/');
  if (isIP(address) === 0) {
    // A name also covers its subdomains. An entry with a dot at the beginning covers only these.
    const name = bare(entry).replace(/^\*(?=\.)/, '');
    return name.startsWith('.') ? host.endsWith(name) : host === name || host.endsWith(`.${name}`);
  }
  if (isIP(host) === 0 || more.length > 0) return false;
  const block = new BlockList();
  const most = isIP(address) === 6 ? 128 : 32;
  const bits = length === undefined ? most : Number(length);
  if (!/^\d*$/.test(length ?? '') || length === '' || bits > most) return false;
  block.addSubnet(address, bits, family(address));
  return block.check(host, family(host));
}
