import fc from 'fast-check';
import t from 'tap';
import { birdConfig } from '../../backend/host/bgp/bird-config.ts';
import { parseSessions } from '../../backend/host/bgp/bird-sessions.ts';
import { announcements } from '../../backend/model/network/announcements.ts';

const web = { cidr: 'fd42:0:0:1::/64', elsewhere: false };
const shared = { cidr: 'fd42:0:0:2::/64', elsewhere: true };

t.test('a host announces networks, addresses of spread networks, and routed prefixes', async (t) => {
  const one = { ...web, address: 'fd42:0:0:1::a' };
  const two = { ...shared, address: 'fd42:0:0:2::a' };
  const three = { ...shared, address: 'fd42:0:0:2::b' };
  const cases = [
    { says: 'nothing runs', interfaces: [], result: [[], []] },
    { says: 'a network on one host', interfaces: [one], result: [[web.cidr], []] },
    { says: 'a spread network', interfaces: [two], result: [[shared.cidr], ['fd42:0:0:2::a/128']] },
    {
      says: 'both, in any order',
      interfaces: [three, one, two],
      result: [
        [web.cidr, shared.cidr],
        ['fd42:0:0:2::a/128', 'fd42:0:0:2::b/128'],
      ],
    },
  ];
  for (const { says, interfaces, result } of cases) {
    const [networks, addresses] = result;
    t.strictSame(
      announcements({ interfaces, prefixes: [], draining: false }),
      { networks, addresses, prefixes: [] },
      says,
    );
  }
  t.strictSame(
    announcements({ interfaces: [one, two], prefixes: ['fd43::/60', 'fd43::/60'], draining: true }),
    { networks: [web.cidr], addresses: ['fd42:0:0:2::a/128'], prefixes: ['fd43::/60'] },
    'a host that is drained leaves spread networks to the others',
  );
});

t.test('every running VM is reachable by an announced prefix, and order does not matter', async () => {
  const each = fc
    .record({ number: fc.integer({ min: 1, max: 9 }), host: fc.integer({ min: 1, max: 99 }) })
    .map(({ number, host }) => ({
      cidr: `fd42:0:0:${number}::/64`,
      address: `fd42:0:0:${number}::${host}`,
      elsewhere: number % 2 === 0,
    }));
  fc.assert(
    fc.property(fc.array(each), fc.boolean(), (interfaces, draining) => {
      const result = announcements({ interfaces, prefixes: [], draining });
      const reversed = announcements({ interfaces: interfaces.toReversed(), prefixes: [], draining });
      return (
        JSON.stringify(result) === JSON.stringify(reversed) &&
        interfaces.every(({ cidr, address, elsewhere }) =>
          elsewhere ? result.addresses.includes(`${address}/128`) : result.networks.includes(cidr),
        ) &&
        result.networks.every((network) => interfaces.some(({ cidr }) => cidr === network))
      );
    }),
  );
});

t.test('no prefix is in the configuration twice', async (t) => {
  const text = birdConfig({
    underlayAddress: 'fd00::1',
    peers: [{ id: 'bgp-0000000000000000', address: 'fd00::2', asn: 1, local_asn: 2 }],
    announcements: { networks: ['fd42::/64'], addresses: ['fd42::1/128'], prefixes: ['fd42:0::/64', 'fd42::/60'] },
  });
  t.strictSame(text.match(/route \S+/g), ['route fd42::/64', 'route fd42::1/128', 'route fd42::/60']);
});

const line = (name: string, state: string, more: readonly string[] = []) => [
  `${name} BGP        ---        up     1767225600    whatever`,
  `  BGP state:          ${state}`,
  '    Neighbor address: fe80::a%ul',
  ...more,
];

t.test('the sessions of an answer, without texts that change a terminal', async (t) => {
  const lines = [
    'Name       Proto      Table      State  Since         Info',
    'device1    Device     ---        up     1767225600    ',
    '',
    ...line('peer_0000000000000001', 'Established', [
      '  Channel ipv6',
      '    Routes:         1 imported, 3 exported, 1 preferred',
      '',
    ]),
    ...line('peer_0000000000000002', 'Active', ['    Last error:       Socket: Connection refused']),
    ...line('peer_0000000000000003', 'Idle', [
      `    Last error:       Received: Administrative shutdown: "\u001b[2J\u202e${'x'.repeat(500)}"`,
    ]),
    ...line('peer_0000000000000004', 'Down'),
    ...line('someone', 'Established'),
    'peer_0000000000000005',
  ];
  const sessions = parseSessions(lines);
  const since = '2026-01-01T00:00:00.000Z';
  t.strictSame(
    sessions.filter(({ peer }) => !peer.endsWith('3')),
    [
      { peer: 'bgp-0000000000000001', state: 'established', since, imported: 1 },
      { peer: 'bgp-0000000000000002', state: 'connecting', since, message: 'Socket: Connection refused', imported: 0 },
      { peer: 'bgp-0000000000000004', state: 'down', since, imported: 0 },
      { peer: 'bgp-0000000000000005', state: 'down', imported: 0 },
    ],
  );
  const shutdown = sessions.find(({ peer }) => peer.endsWith('3'));
  t.match(shutdown?.message, /^Received: Administrative shutdown: " \[2J x+$/);
  t.equal(shutdown?.message?.length, 200);
});

t.test('no answer makes the parser fail', async () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), fc.constantFrom(...line('peer_0000000000000001', 'Up')))), (lines) =>
      Array.isArray(parseSessions(lines)),
    ),
  );
});
