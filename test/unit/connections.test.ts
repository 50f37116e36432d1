/** The entries of the connection table after a change of rules. */
import t from 'tap';
import { decisionOf, deletionsOf, type Entry, entriesIn } from '../../backend/host/network/connections.ts';
import { idFrom } from '../../backend/model/ids.ts';

const output = `udp      17 599 src=fd77::1 dst=fd77::2 sport=1000 dport=81 [UNREPLIED] src=fd77::2 dst=fd77::1 sport=81 dport=1000 mark=0 use=1
icmpv6   58 599 src=fd77::1 dst=fd77::2 type=128 code=0 id=7 [UNREPLIED] src=fd77::2 dst=fd77::1 type=129 code=0 id=7 mark=0 use=1
tcp      6 599 ESTABLISHED src=fd77::1 dst=fd77::2 sport=1000 dport=80 src=fd77::2 dst=fd77::1 sport=80 dport=1000 [ASSURED] mark=0 use=1
unknown  50 599 src=fd77::1 dst=fd77::2 [UNREPLIED] src=fd77::2 dst=fd77::1 mark=0 use=1
conntrack v1.4.7 (conntrack-tools): 3 flow entries have been shown.
`;

t.test('the output of conntrack is read from the side of the first packet', async (t) => {
  const common = { source: 'fd77::1', destination: 'fd77::2' };
  t.strictSame(entriesIn(output), [
    { name: 'udp', protocol: 17, ...common, port: 81 },
    { name: 'icmpv6', protocol: 58, ...common, port: 128 },
    { name: 'tcp', protocol: 6, ...common, port: 80 },
    { name: 'unknown', protocol: 50, ...common, port: 0 },
  ]);
});

t.test('a connection needs a rule on each filtered side', async (t) => {
  const id = idFrom('security_group', `sg-${'0'.repeat(16)}`);
  const filter = {
    groups: [
      {
        id,
        default_egress: 'deny' as const,
        rules: [
          { direction: 'ingress' as const, protocol: 'tcp' as const, ports: ['80'], prefixes: ['fd77::/64'] },
          { direction: 'egress' as const, protocol: 'udp' as const, peers: 'dns' },
        ],
      },
    ],
    peers: [{ name: 'dns', addresses: ['fd88::53'] }],
    ports: [{ mac: '02:00:00:00:00:01', addresses: ['fd77::2', 'fd99::/60'], groups: [id] }],
  };
  const entry = (source: string, destination: string, protocol: number, port: number): Entry => ({
    ...{ name: 'any', source, destination, protocol, port },
  });
  const isAllowed = decisionOf(filter);
  t.ok(isAllowed(entry('fd77::1', 'fd77::2', 6, 80)));
  t.ok(isAllowed(entry('fd77::1', 'fd99::7', 6, 80)), 'the prefix behind the interface has its groups');
  t.notOk(isAllowed(entry('fd77::1', 'fd77::2', 6, 81)));
  t.notOk(isAllowed(entry('fd78::1', 'fd77::2', 6, 80)));
  t.ok(isAllowed(entry('fd77::2', 'fd88::53', 17, 53)));
  t.notOk(isAllowed(entry('fd77::2', 'fd88::54', 17, 53)));
  t.ok(isAllowed(entry('fd78::1', 'fd78::2', 6, 22)), 'no side is filtered here');
});

t.test('few commands remove the refused entries, and no allowed one', async (t) => {
  const entry = (source: string, port: number): Entry => ({
    ...{ name: 'tcp', protocol: 6, source, destination: 'fd77::2', port },
  });
  const clients = Array.from({ length: 1_000 }, (_, number) => `fd78::${(number + 1).toString(16)}`);
  t.strictSame(
    deletionsOf(
      clients.map((source) => entry(source, 80)),
      [entry('fd78::1', 81)],
    ),
    [['-d', 'fd77::2', '-p', 'tcp', '--dport', '80']],
  );
  t.strictSame(deletionsOf([entry('fd78::1', 80)], [entry('fd78::2', 80)]), [
    ['-s', 'fd78::1', '-d', 'fd77::2', '-p', 'tcp', '--dport', '80'],
  ]);
  t.strictSame(
    deletionsOf(
      clients.map((source) => entry(source, 80)),
      [entry('fd79::1', 80)],
    ),
    [['-d', 'fd77::2']],
    'beyond a limit, an address loses all its entries',
  );
});
