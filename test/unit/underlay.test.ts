/** The underlay address of a host, as the operator gives it. */
import t from 'tap';
import { findUnderlay } from '../../backend/host/network/underlay.ts';
import type { Run } from '../../backend/host/system/command.ts';

const at = (local: string, prefixlen = 64) => ({ local, prefixlen });
const addresses = [
  { ifname: 'lo', mtu: 65_536, link_type: 'loopback', addr_info: [at('::1', 128), at('fd00:f::1', 128)] },
  { ifname: 'eth0', mtu: 9000, link_type: 'ether', addr_info: [at('fd00::2'), at('fe80::2')] },
  { ifname: 'eth1', mtu: 1500, link_type: 'ether', addr_info: [at('fd00:1::2')] },
  { ifname: 'old', mtu: 1349, link_type: 'ether', addr_info: [at('fd00:2::2')] },
  { ifname: 'dummy0', mtu: 1500, link_type: 'ether', addr_info: [at('fd00:f::3', 128)] },
  // `ip` prints an empty object for an interface without an address of the family.
  {},
];
const machine =
  (routes: readonly object[] = []): Run =>
  async (_program, args) =>
    JSON.stringify(args.includes('route') ? routes : addresses);

t.test('the MTU is that of the interface with the address', async (t) => {
  t.strictSame(await findUnderlay(machine(), 'FD00:0::2'), { address: 'fd00::2', mtu: 9000 });
});

t.test('an address of length 128 is reached over the links of the routes', async (t) => {
  const gateway = 'fe80::1';
  const routes = [
    { dst: 'default', gateway, dev: 'eth0' },
    { dst: 'fd00:1::/64', dev: 'eth1' },
    { dst: 'fd42::1', gateway, dev: 'uvtransit' },
  ];
  for (const address of ['fd00:f::1', 'fd00:f::3']) {
    t.strictSame(await findUnderlay(machine(routes), address), { address, mtu: 9000 });
    const two = [{ dst: 'fd00:f::/48', nexthops: [{ dev: 'eth0' }, { dev: 'eth1' }] }];
    t.strictSame(await findUnderlay(machine(two), address), { address, mtu: 1500 });
    await t.rejects(findUnderlay(machine(), address), { message: /no route over IPv6 to a gateway/ });
  }
});

t.test('bad addresses are refused with the rule', async (t) => {
  for (const [text, rule] of [
    ['', /is not an IPv6 address/],
    ['10.0.0.1', /is not an IPv6 address/],
    ['fd00::2/64', /is not an IPv6 address/],
    ['fe80::2', /that other hosts can reach/],
    ['ff02::1', /that other hosts can reach/],
    ['::', /that other hosts can reach/],
    ['::1', /that other hosts can reach/],
    ['fd00::9', /is on no interface of this host/],
    ['fd00:2::2', /the MTU of old is 1349; tunnels between hosts need at least 1350/],
  ] as const)
    await t.rejects(findUnderlay(machine(), text), { message: rule }, text);
});
