/**
 * Frames of a hostile guest and of an honest one, for every guest and every filter: the table of
 * test/security/frames.test.ts. All frames differ, so a received frame identifies its row.
 */
import fc from 'fast-check';
import type { DropReason } from '../../backend/host/network/tap-filter.ts';
import {
  authentication,
  ethernet,
  fragment,
  icmp,
  ipv4,
  ipv6,
  options,
  packed,
  routing,
  tagged,
  target,
  tcp,
  udp,
} from './frames.ts';

export interface Party {
  readonly mac: string;
  readonly address: string;
  readonly linkLocal: string;
}

export interface Case {
  readonly what: string;
  /** The reason for which the filter drops the frame; undefined if the frame arrives. */
  readonly reason: DropReason | undefined;
  readonly frame: Buffer;
}

const everybody = '33:33:00:00:00:01';
const nodes = 'ff02::1';
/** Router advertisement of a router with preference high (RFC 4191) and a lifetime of half an hour. */
export const routerAdvertisement = (from: Party, to: string): Buffer =>
  ethernet(
    from.mac,
    to,
    0x86dd,
    ipv6({
      source: from.linkLocal,
      destination: nodes,
      next: 58,
      payload: icmp(134, Buffer.from('400807080000000000000000', 'hex')),
    }),
  );

/** A MAC address and two IPv6 addresses that neither guest has, for hostile frames to `to`. */
export function hostileFrames(me: Party, to: Party, router: string): Case[] {
  const cases: Case[] = [];
  const add = (reason: DropReason, what: string, frame: Buffer) => cases.push({ what, reason, frame });
  const packet = (next: number, payload: Buffer, change: Partial<Parameters<typeof ipv6>[0]> = {}) =>
    ipv6({ source: me.address, destination: to.address, next, payload, ...change });
  const frame = (payload: Buffer, type = 0x86dd, sender = me.mac, receiver = to.mac) =>
    ethernet(sender, receiver, type, payload);
  const send = (next: number, payload: Buffer, change: Partial<Parameters<typeof ipv6>[0]> = {}) =>
    frame(packet(next, payload, change));
  const fromLinkLocal = { source: me.linkLocal, destination: nodes };
  const announce = (next: number, payload: Buffer) =>
    frame(packet(next, payload, fromLinkLocal), 0x86dd, me.mac, everybody);
  const ra = icmp(134, Buffer.alloc(12));
  const claim = icmp(136, target(to.address));
  const datagram = Buffer.concat([udp(7, 7), Buffer.alloc(8)]);

  // Senders.
  add('mac', 'the MAC of another', frame(packet(58, icmp(128)), 0x86dd, to.mac));
  add('mac', 'the MAC of the router', frame(packet(58, icmp(128)), 0x86dd, router));
  add('mac', 'no MAC', frame(packet(58, icmp(128)), 0x86dd, '00:00:00:00:00:00'));
  add('mac', 'a group as sender', frame(packet(58, icmp(128)), 0x86dd, everybody));
  const sources = [to.address, to.linkLocal, 'fe80::1', 'fe80::a9fe:a9fe', '::1', 'ff02::1', '2001:db8::1', 'fd42::1'];
  for (const source of sources) add('source', `from ${source}`, send(58, icmp(128), { source }));
  add('source', 'no address, but an echo request', send(58, icmp(128), { source: '::' }));
  add('source', 'no address, but UDP', send(17, udp(1, 2), { source: '::' }));
  add('source', 'no address, but a fragment', send(44, fragment(17, 0, true, datagram), { source: '::' }));

  // Frames that are not IPv6 in plain Ethernet.
  const types = {
    IPv4: 0x0800,
    ARP: 0x0806,
    RARP: 0x8035,
    AppleTalk: 0x809b,
    'PPPoE discovery': 0x8863,
    'PPPoE session': 0x8864,
    MPLS: 0x8847,
    EAPOL: 0x888e,
    LLDP: 0x88cc,
    'MAC control (pause)': 0x8808,
    'a local experiment': 0x88b5,
    'IEEE 1588': 0x88f7,
    loopback: 0x9000,
  };
  for (const [name, type] of Object.entries(types)) add('type', name, frame(Buffer.alloc(46, 1), type));
  add('type', 'IPv4 that is whole', frame(ipv4('203.0.113.9', '203.0.113.1', udp(7, 7)), 0x0800));
  add('type', 'LLC (spanning tree)', frame(Buffer.from('424203000000000000', 'hex'), 9));
  add('type', 'SNAP with IPv6', frame(Buffer.concat([Buffer.from('aaaa0300000086dd', 'hex'), packet(58, ra)]), 100));
  add('type', 'a length and not a type', frame(Buffer.alloc(46, 2), 46));
  for (const type of [0x8100, 0x88a8]) {
    for (const id of [0, 1, 4094]) {
      add('type', `IPv6 with tag ${type.toString(16)} ${id}`, tagged(send(58, icmp(128)), type, id));
      add('type', `a router advertisement with tag ${type.toString(16)} ${id}`, tagged(announce(58, ra), type, id));
    }
  }
  add('type', 'two tags', tagged(tagged(send(58, icmp(128)), 0x8100, 2), 0x88a8, 1));
  add('type', 'a tag around IPv4', tagged(frame(Buffer.alloc(46, 3), 0x0800), 0x8100, 0));

  // Groups.
  for (const group of [
    'ff:ff:ff:ff:ff:ff',
    '01:00:5e:00:00:01',
    '01:00:0c:cc:cc:cc',
    '01:80:c2:00:00:10',
    '33:32:00:00:00:01',
  ])
    add('group', `to ${group}`, frame(packet(58, icmp(128)), 0x86dd, me.mac, group));
  add('group', 'to everybody, but not to a group of IPv6', frame(packet(17, datagram), 0x86dd, me.mac, everybody));

  // Headers that lie.
  for (const version of [0, 4, 5, 7, 15]) add('header', `version ${version} as IPv6`, send(58, icmp(128), { version }));
  add(
    'header',
    'IPv4 as IPv6',
    frame(ipv4('203.0.113.9', '203.0.113.2', Buffer.concat([udp(7, 7), Buffer.alloc(40)]))),
  );
  add('header', 'longer than the frame', send(17, datagram, { length: 200 }));
  add('header', 'a jumbogram', send(0, options(17, datagram), { length: 0 }));
  add('header', 'no length', send(17, datagram, { length: 0 }));

  // Frames that end early.
  const whole = send(17, datagram);
  for (const length of [14, 15, 20, 33, 53]) add('header', `${length} bytes`, whole.subarray(0, length));
  const cut = (next: number, payload: Buffer, length: number) => send(next, payload.subarray(0, length));
  add('header', 'ICMPv6 without a type', cut(58, icmp(128), 0));
  add('header', 'UDP without ports', cut(17, datagram, 2));
  add('header', 'UDP without its length', cut(17, datagram, 4));
  add('header', 'TCP without ports', cut(6, tcp(1, 2), 2));
  add('header', 'TCP without flags', cut(6, tcp(3, 4), 12));
  add('header', 'TCP cut by one byte', cut(6, tcp(5, 6), 19));
  add('header', 'an advertisement without its target', cut(58, claim, 20));
  add('header', 'a solicitation without its target', cut(58, icmp(135, target(to.address)), 23));
  add('header', 'options without an end', cut(60, options(58, ra, 4), 16));
  add('header', 'a fragment header cut in two', cut(44, fragment(17, 0, true, datagram), 4));

  // Routers, claims, servers.
  add('icmp', 'a router advertisement', announce(58, ra));
  add('icmp', 'a router advertisement to one', send(58, ra, { source: me.linkLocal }));
  add('icmp', 'a router advertisement from its address', send(58, ra));
  add('icmp', 'a redirect', send(58, icmp(137, Buffer.concat([target('fe80::1'), packed(to.address)])), fromLinkLocal));
  for (const type of [130, 138, 139, 140, 141, 148, 149, 151, 152, 153, 200, 255])
    add('icmp', `ICMPv6 type ${type}`, send(58, icmp(type, Buffer.alloc(20))));
  for (const address of [to.address, to.linkLocal, 'fe80::1', 'fe80::a9fe:a9fe', 'ff02::1']) {
    add('claim', `a claim to ${address}`, announce(58, icmp(136, target(address))));
    add(
      'claim',
      `a probe that makes the owner of ${address} give it up`,
      frame(
        packet(58, icmp(135, target(address)), { source: '::', destination: 'ff02::1:ff00:1' }),
        0x86dd,
        me.mac,
        '33:33:ff:00:00:01',
      ),
    );
  }
  add('dhcp', 'an answer of a DHCPv6 server', send(17, udp(547, 546)));
  add('dhcp', 'the same from another port', send(17, udp(4000, 546)));
  add('dhcp', 'the same to another port', send(17, udp(547, 4000)));
  add('dhcp', 'the same behind options', send(60, options(17, udp(547, 546))));

  // The same behind other headers.
  const behind: [string, number, (next: number, payload: Buffer) => Buffer][] = [
    ['destination options', 60, (next, payload) => options(next, payload)],
    ['long destination options', 60, (next, payload) => options(next, payload, 20)],
    ['hop-by-hop options', 0, (next, payload) => options(next, payload)],
    ['AH', 51, (next, payload) => authentication(next, payload)],
    [
      'ten headers',
      60,
      (next, payload) =>
        Array.from({ length: 9 }).reduce<Buffer>((inner) => options(60, inner), options(next, payload)),
    ],
  ];
  for (const [name, next, around] of behind) {
    // The filter does not look behind AH.
    add(next === 51 ? 'header' : 'icmp', `a router advertisement behind ${name}`, announce(next, around(58, ra)));
    add('header', `a claim behind ${name}`, send(next, around(58, claim)));
    add('header', `a claim to its own address behind ${name}`, send(next, around(58, icmp(136, target(me.address)))));
    add('header', `a search for a router behind ${name}`, announce(next, around(58, icmp(133))));
    add('header', `a routing header behind ${name}`, send(next, around(43, routing(17, 0, to.address, datagram))));
  }
  for (const type of [0, 1, 2, 3, 4, 253])
    add('header', `a routing header of type ${type}`, send(43, routing(17, type, 'fe80::1', datagram)));
  add('header', 'a router advertisement behind a routing header', announce(43, routing(58, 2, nodes, ra)));
  add('header', 'UDP with AH', send(51, authentication(17, datagram)));
  add('header', 'UDP behind hop-by-hop options', send(0, options(17, datagram)));
  for (const next of [135, 139, 140])
    add('header', `header ${next} before a router advertisement`, announce(next, options(58, ra)));

  // Fragments.
  const first = (next: number, payload: Buffer, more = true) => fragment(next, 0, more, payload);
  const discovery: [string, Buffer][] = [
    ['a router search', icmp(133)],
    ['a router advertisement', ra],
    ['a search', icmp(135, target(to.address))],
    ['a claim', claim],
    ['a claim to its own address', icmp(136, target(me.address))],
    ['a redirect', icmp(137, Buffer.alloc(36))],
    ['a listener report', icmp(131, Buffer.alloc(20))],
  ];
  for (const [name, payload] of discovery) {
    add('fragment', `${name} as the only fragment`, send(44, first(58, payload, false)));
    add('fragment', `${name} with the rest to come`, send(44, first(58, payload)));
    add(
      'fragment',
      `${name} of which one word is here`,
      send(44, first(58, Buffer.concat([payload.subarray(0, 4), Buffer.from(name.padEnd(4).slice(-4))]))),
    );
    add('fragment', `${name} from a link-local address`, send(44, first(58, payload), { source: me.linkLocal }));
    add('fragment', `${name} behind options in the first fragment`, send(44, first(60, options(58, payload))));
    add('fragment', `${name} behind options before the fragment header`, send(60, options(44, first(58, payload))));
  }
  add('fragment', 'options, and the rest to come', send(44, first(60, options(58, Buffer.alloc(0)))));
  add('fragment', 'a second fragment with what comes behind options', send(44, fragment(60, 1, false, ra)));
  add('fragment', 'a DHCPv6 answer behind options, first', send(44, first(60, options(17, Buffer.alloc(0), 2))));
  add('fragment', 'a DHCPv6 answer behind options, second', send(44, fragment(60, 2, false, udp(547, 546))));
  add('fragment', 'a first fragment of a few bytes', send(44, first(17, Buffer.alloc(4))));
  add('fragment', 'a first fragment of nothing', send(44, first(17, Buffer.alloc(0))));
  add('fragment', 'a fragment that says it is shorter', send(44, first(17, datagram), { length: 8 }));
  add('header', 'a first fragment with half of TCP', send(44, first(6, tcp(1, 2).subarray(0, 8))));
  add('dhcp', 'a DHCPv6 answer as a fragment', send(44, first(17, udp(547, 546), false)));
  for (const next of [0, 43, 44, 51, 60, 135, 139, 140]) {
    add('fragment', `a first fragment of header ${next}`, send(44, first(next, options(58, ra, 3))));
    add('fragment', `a later fragment of header ${next}`, send(44, fragment(next, 3, true, Buffer.alloc(16))));
  }
  add('fragment', 'a fragment to a group', announce(44, fragment(17, 2, false, Buffer.alloc(16))));
  add(
    'fragment',
    'a later fragment from a link-local address',
    send(44, fragment(58, 2, false, Buffer.alloc(16)), { source: me.linkLocal }),
  );
  add('fragment', 'a fragment in a fragment', send(44, first(44, fragment(58, 0, false, ra))));
  return cases;
}

/** Returns the frames that a guest may send to another. */
export function honestFrames(me: Party, to: Party): Case[] {
  const cases: Case[] = [];
  const add = (what: string, next: number, payload: Buffer, change: Partial<Parameters<typeof ipv6>[0]> = {}) => {
    const destination = change.destination ?? to.address;
    const receiver = destination.startsWith('ff') ? everybody : to.mac;
    const packet = ipv6({ source: me.address, next, payload, ...change, destination });
    cases.push({ what, reason: undefined, frame: ethernet(me.mac, receiver, 0x86dd, packet) });
  };
  const long = (header: Buffer) => Buffer.concat([header, Buffer.alloc(1000, 5)]);
  const rest = Buffer.alloc(16, 6);
  add('a search for the router', 58, icmp(133), { source: '::', destination: 'ff02::2' });
  add('the same with an address', 58, icmp(133), { source: me.linkLocal, destination: 'ff02::2' });
  for (const address of [me.address, me.linkLocal]) {
    add(`a probe for ${address}`, 58, icmp(135, target(address)), { source: '::', destination: 'ff02::1:ff00:2' });
    add(`a claim to ${address}`, 58, icmp(136, target(address)), { source: address, destination: nodes });
    add(`a search from ${address}`, 58, icmp(135, target(to.address)), { source: address, destination: nodes });
  }
  add('a listener report', 0, options(58, icmp(143, Buffer.alloc(4))), {
    source: me.linkLocal,
    destination: 'ff02::16',
  });
  add('a listener report without an address', 0, options(58, icmp(143)), { source: '::', destination: 'ff02::16' });
  for (const type of [1, 2, 3, 4, 128, 129]) add(`ICMPv6 type ${type}`, 58, long(icmp(type)));
  add('UDP', 17, long(udp(5353, 53)));
  add('UDP to a group', 17, udp(5353, 5353), { destination: 'ff02::fb', source: me.linkLocal });
  add('a request of a DHCPv6 client', 17, udp(546, 547), { source: me.linkLocal, destination: 'ff02::1:2' });
  add('TCP', 6, long(tcp(4000, 443)));
  add('TCP from its link-local address', 6, tcp(4000, 80), { source: me.linkLocal });
  add('SCTP', 132, long(udp(1, 2)));
  add('GRE', 47, Buffer.alloc(40, 1));
  add('ESP', 50, Buffer.alloc(40, 2));
  add('UDP behind destination options', 60, options(17, long(udp(10, 10))));
  add('no next header', 59, Buffer.alloc(8, 3));
  add('a first fragment of UDP', 44, fragment(17, 0, true, long(udp(1, 2))));
  add('a later fragment of UDP', 44, fragment(17, 126, false, rest));
  add('a first fragment of an echo request', 44, fragment(58, 0, true, long(icmp(128))));
  add('a later fragment of an echo request', 44, fragment(58, 126, false, rest));
  add('a first fragment of TCP', 44, fragment(6, 0, true, long(tcp(1, 2))));
  add('an atomic fragment of UDP', 44, fragment(17, 0, false, long(udp(3, 4))));
  return cases;
}

/** Returns a frame of the table with a few bytes changed, added or removed. */
export const mutated = (frames: readonly Buffer[]): fc.Arbitrary<Buffer> => {
  // The relevant fields are in the first hundred bytes.
  const offset = fc.oneof({ weight: 4, arbitrary: fc.nat(100) }, { weight: 1, arbitrary: fc.nat(1500) });
  const change = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), offset, value: fc.nat(255) }),
    fc.record({ kind: fc.constant('flip' as const), offset, value: fc.nat(7) }),
    fc.record({ kind: fc.constant('cut' as const), offset, value: fc.constant(0) }),
    fc.record({ kind: fc.constant('insert' as const), offset, value: fc.integer({ min: 1, max: 64 }) }),
    fc.record({ kind: fc.constant('remove' as const), offset, value: fc.integer({ min: 1, max: 16 }) }),
    fc.record({
      kind: fc.constant('header' as const),
      offset: fc.constant(20),
      value: fc.constantFrom(0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 135),
    }),
  );
  return fc
    .tuple(fc.constantFrom(...frames), fc.array(change, { minLength: 1, maxLength: 5 }))
    .map(([frame, changes]) =>
      changes.reduce<Buffer>((before, { kind, offset: wish, value }) => {
        const at = before.length === 0 ? 0 : wish % before.length;
        if (kind === 'insert') return Buffer.concat([before.subarray(0, at), Buffer.alloc(value), before.subarray(at)]);
        if (kind === 'remove') return Buffer.concat([before.subarray(0, at), before.subarray(at + value)]);
        if (kind === 'cut') return before.subarray(0, at);
        const after = Buffer.from(before);
        if (at < after.length) after[at] = kind === 'flip' ? (after[at] ?? 0) ^ (1 << value) : value;
        return after;
      }, frame),
    );
};
