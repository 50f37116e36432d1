/**
 * The configuration of bird 2 (bird.conf). Pure.
 *
 * bird announces prefixes with the underlay address of the host as next hop, and takes a default route from its peers. All
 * other routes of peers are dropped on arrival, so a peer can neither fill the routing table nor cover an address of the
 * underlay. The texts come from people, so each has the form that its place in the file allows: numbers, prefixes in their
 * normal spelling, names of interfaces, and passwords without quotation marks.
 *
 * - The wait times after an error are short, because bird otherwise waits up to five minutes after a failure of BFD.
 * - `persist`: the default route stays when bird ends, because tunnels to other hosts may need it. Its metric tells it from
 *   routes of others.
 * - BFD finds a silent peer within a second. A peer without BFD works as well, with the hold time.
 */
import { createHash } from 'node:crypto';
import { formatIpv6, parseIpv6 } from '../../model/network/addresses.ts';
import type { Announcements } from '../../model/network/announcements.ts';
import { parsePeerAddress } from '../../model/network/peer-address.ts';
import { formatPrefix, storedPrefix } from '../../model/network/prefixes.ts';

/** A peer with the password of its session. */
export interface ConfiguredPeer {
  readonly id: string;
  readonly address: string;
  readonly asn: number;
  readonly local_asn: number;
  readonly password?: string;
}

/** The input of `birdConfig`. */
export interface BirdSettings {
  readonly underlayAddress: string;
  readonly peers: readonly ConfiguredPeer[];
  readonly announcements: Announcements;
}

/** The metric of the default route. It is less than those of router advertisements and of static routes (1024). */
export const defaultRouteMetric = 117;

/** The maximum number of announced prefixes. More are an error of this program, and the fabric must not suffer from it. */
const maxExported = 20_000;

/** Returns the name of the session in bird: `peer_` and the id without its prefix. @throws RangeError for other ids */
export function sessionName(id: string): string {
  const suffix = /^bgp-([0-9a-z]{16})$/.exec(id)?.[1];
  if (suffix === undefined) throw new RangeError(`${id} is not the id of a BGP peer`);
  return `peer_${suffix}`;
}

/** Returns the peer of a session; undefined for other protocols of bird. */
export const peerOfSession = (name: string): string | undefined =>
  /^peer_[0-9a-z]{16}$/.test(name) ? `bgp-${name.slice('peer_'.length)}` : undefined;

/** Tells whether bird can have this password: the file format has no escapes, and TCP MD5 takes 80 bytes (tcp(7)). */
export const isPassword = (text: string): boolean => /^[\x20\x21\x23-\x7e]{1,80}$/.test(text);

/**
 * Returns the router id, 32 bits that are not 0. A host without IPv4 addresses has no other, and it must differ between
 * hosts (RFC 6286).
 */
function routerId(underlayAddress: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = createHash('sha256').update(underlayAddress).digest();
  return [a === 0 ? 1 : a, b, c, d].join('.');
}

/** Returns the number as text. @throws RangeError for anything else */
function asnText(asn: number): string {
  if (!Number.isSafeInteger(asn) || asn < 1 || asn > 2 ** 32 - 2) throw new RangeError(`${asn} is not an AS number`);
  return String(asn);
}

/** Returns an address in its normal spelling. @throws RangeError for anything else */
function addressText(text: string): string {
  const address = parseIpv6(text);
  if (address === undefined) throw new RangeError(`${text} is not an IPv6 address`);
  return formatIpv6(address);
}

function sessionBlock({ id, address: text, asn, local_asn, password }: ConfiguredPeer, underlay: string): string {
  const parsed = parsePeerAddress(text);
  if (!parsed.ok) throw new RangeError(`the address of ${id} ${parsed.problem}`);
  if (password !== undefined && !isPassword(password)) throw new RangeError(`the password of ${id} is not printable`);
  const { address, interface: link } = parsed.value;
  return [
    `protocol bgp ${sessionName(id)} {`,
    `  local as ${asnText(local_asn)};`,
    `  neighbor ${address} as ${asnText(asn)};`,
    '  direct;',
    ...(link === undefined ? [] : [`  interface "${link}";`]),
    ...(password === undefined ? [] : [`  password "${password}";`]),
    '  bfd on;',
    '  hold time 9;',
    '  keepalive time 3;',
    '  connect retry time 1;',
    '  connect delay time 1;',
    '  error wait time 1, 4;',
    '  error forget time 10;',
    '  ipv6 {',
    '    import filter default_only;',
    '    import limit 4 action block;',
    '    export where proto = "announced";',
    `    export limit ${maxExported} action block;`,
    `    next hop address ${underlay};`,
    '  };',
    '}',
  ].join('\n');
}

/** Returns the rule that a peer breaks, so that it cannot stand in a configuration; undefined if there is none. */
export function peerFault(peer: ConfiguredPeer): string | undefined {
  try {
    sessionBlock(peer, '::1');
    return undefined;
  } catch (error) {
    if (error instanceof RangeError) return error.message;
    throw error;
  }
}

/** Returns the password of a session in a configuration. */
export const passwordIn = (config: string, id: string): string | undefined =>
  new RegExp(`^protocol bgp ${sessionName(id)} \\{\n[^}"]*(?:interface "[^"]*";\n)?  password "([^"]*)";$`, 'm').exec(
    config,
  )?.[1];

/** Returns the configuration; empty without peers. The same peers in any order give the same text. */
export function birdConfig({ underlayAddress, peers, announcements }: BirdSettings): string {
  if (peers.length === 0) return '';
  const underlay = addressText(underlayAddress);
  const announced = [...announcements.networks, ...announcements.addresses, ...announcements.prefixes];
  // bird refuses a prefix that is there twice.
  const routes = [...new Set(announced.map((prefix) => formatPrefix(storedPrefix(prefix))))];
  const sorted = peers.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  return `${[
    // Messages of peers must not fill a disk.
    'log stderr { fatal, bug };',
    'timeformat protocol "%s";',
    `router id ${routerId(underlay)};`,
    'protocol device { scan time 10; }',
    'filter default_only { if net = ::/0 then accept; reject; }',
    'protocol kernel to_kernel {',
    '  persist;',
    `  metric ${defaultRouteMetric};`,
    '  ipv6 {',
    '    import none;',
    `    export filter { if source = RTS_BGP && net = ::/0 then { krt_prefsrc = ${underlay}; accept; } reject; };`,
    '  };',
    '}',
    'protocol bfd failures { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }',
    ['protocol static announced {', '  ipv6;', ...routes.map((prefix) => `  route ${prefix} unreachable;`), '}'].join(
      '\n',
    ),
    ...sorted.map((peer) => sessionBlock(peer, underlay)),
  ].join('\n')}\n`;
}
