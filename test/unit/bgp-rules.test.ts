import fc from 'fast-check';
import t from 'tap';
import { formatIpv6 } from '../../backend/model/network/addresses.ts';
import { peerProblems, peersOf } from '../../backend/model/network/bgp.ts';
import { formatPeerAddress, parsePeerAddress } from '../../backend/model/network/peer-address.ts';

t.test('addresses of peers, and the rule that each wrong one breaks', async (t) => {
  const right = {
    '2001:DB8:0:0::1': '2001:db8::1',
    'fd00::1': 'fd00::1',
    'fe80::A%eth0': 'fe80::a%eth0',
    'fe80::1%enp1s0f0.100': 'fe80::1%enp1s0f0.100',
    'febf::1%up': 'febf::1%up',
    'fe80::1%br-lan_0': 'fe80::1%br-lan_0',
  };
  for (const [text, normal] of Object.entries(right)) {
    const parsed = parsePeerAddress(text);
    t.equal(parsed.ok && formatPeerAddress(parsed.value), normal, text);
  }
  const wrong: Readonly<Record<string, RegExp>> = {
    '': /must be an IPv6 address/,
    '192.0.2.1': /must be an IPv6 address/,
    '2001:db8::1/64': /must be an IPv6 address/,
    '2001:db8::1; include "/etc/shadow"': /must be an IPv6 address/,
    'fe80::a': /needs the interface/,
    'fe80::a%': /interface name/,
    'fe80::a%eth0%eth1': /interface name/,
    'fe80::a%sixteen_letters_': /interface name/,
    'fe80::a%-x': /interface name/,
    'fe80::a%.': /interface name/,
    'fe80::a%eth0"; accept': /interface name/,
    'fe80::a%e\nth0': /interface name/,
    '2001:db8::1%eth0': /only link-local addresses/,
    '::1': /unicast/,
    '::': /unicast/,
    'ff02::1': /unicast/,
    'ff02::1%eth0': /only link-local/,
    '::ffff:192.0.2.1': /unicast/,
  };
  for (const [text, rule] of Object.entries(wrong)) {
    const parsed = parsePeerAddress(text);
    t.match(parsed.ok ? '' : parsed.problem, rule, JSON.stringify(text));
  }
});

t.test('no text becomes an address with characters beyond those of addresses and interfaces', async () => {
  const text = fc.oneof(
    fc.string({ unit: 'grapheme' }),
    fc.tuple(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }), fc.string()).map(([n, name]) => `${formatIpv6(n)}%${name}`),
    fc.string().map((name) => `fe80::1%${name}`),
  );
  fc.assert(
    fc.property(text, (each) => {
      const parsed = parsePeerAddress(each);
      return !parsed.ok || /^[0-9a-f:]+(%[A-Za-z0-9][A-Za-z0-9_.-]{0,14})?$/.test(formatPeerAddress(parsed.value));
    }),
    { numRuns: 2_000 },
  );
});

t.test('reserved and equal AS numbers are refused', async (t) => {
  for (const asn of [0, 23456, 65535, 4294967295]) {
    t.match(peerProblems({ asn, local_asn: 65001 }), [{ field: 'asn', rule: /reserved/ }], String(asn));
    t.match(peerProblems({ asn: 65001, local_asn: asn }), [{ field: 'local_asn', rule: /reserved/ }], String(asn));
  }
  t.match(peerProblems({ asn: 65001, local_asn: 65001 }), [{ field: 'local_asn', rule: /must differ from asn/ }]);
  t.strictSame(peerProblems({ asn: 4200000000, local_asn: 65001 }), []);
});

t.test('a host has the peers whose selector its labels match, and one for each address', async (t) => {
  const peer = (id: string, address: string, host_selector?: string) => ({
    ...{ id, address, asn: 65001, local_asn: 65002 },
    ...(host_selector !== undefined && { host_selector }),
  });
  const all = peer('bgp-2', 'fe80::a%eth0');
  const rack = peer('bgp-1', 'fe80::b%eth0', 'rack=r1');
  const same = peer('bgp-3', 'fe80::a%eth0', 'rack=r1');
  const unreadable = peer('bgp-4', 'fe80::c%eth0', 'in in in');
  const declared = [all, rack, same, unreadable];
  t.strictSame(peersOf(declared, {}), { peers: [all], surplus: [] });
  t.strictSame(peersOf(declared, { rack: 'r1' }), { peers: [rack, all], surplus: [same] });
});
