/**
 * Which proxy a request goes by, from the environment, as curl and Go have it: HTTPS_PROXY and HTTP_PROXY name the proxy
 * of either scheme, NO_PROXY what is asked directly; each in small letters, too, which come first.
 *
 * The provider gets a copy of this file (`npm run generate`), so that it and the command never differ.
 */
import { BlockList, isIP } from 'node:net';

export type ProxyEnvironment = Readonly<Record<string, string | undefined>>;

export interface ProxySetting {
  /** With user name and password, if it has them. */
  readonly url: URL;
  /** For people: its address without user name and password, and where it is set. */
  readonly text: string;
}

function setting(environment: ProxyEnvironment, name: string): readonly [name: string, value: string] | undefined {
  for (const spelled of [name.toLowerCase(), name]) {
    const value = environment[spelled]?.trim();
    if (value) return [spelled, value];
  }
  return undefined;
}

/** The proxy to ask for the URL; undefined to ask it directly. @throws Error that names a variable which cannot be used */
export function proxyFor(url: URL, environment: ProxyEnvironment): ProxySetting | undefined {
  const found = setting(environment, url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY');
  if (!found) return undefined;
  const host = bare(url.hostname);
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  if (isLoopback(host) || isExcepted(host, port, setting(environment, 'NO_PROXY')?.[1] ?? '')) return undefined;
  const [name, value] = found;
  const proxy = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value}`);
  // The value may hold a password, so it is not repeated.
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

/** Without brackets, the dot at the end, and capital letters. */
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

/** `host`, `.suffix`, `*.suffix`, an address, a block of addresses, any of them with a port, or `*` for all. */
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
    // A name stands for those below it as well; what begins with a dot, for these alone.
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
