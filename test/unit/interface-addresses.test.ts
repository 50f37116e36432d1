/** The addresses of an interface: the derived one, and those that a user chooses. */
import fc from 'fast-check';
import t from 'tap';
import { formatIpv6, parseIpv6, slaacAddress } from '../../backend/model/network/addresses.ts';
import {
  addressProblem,
  configuredAddresses,
  derivedAddress,
  interfaceAddresses,
} from '../../backend/model/network/interface-addresses.ts';
import { storedPrefix } from '../../backend/model/network/prefixes.ts';
import { formatOf, vms } from '../../backend/model/records/index.ts';

const network = storedPrefix('2001:db8:0:1::/64');
const mac = '42:00:5e:10:00:01';
const derived = '2001:db8:0:1:4000:5eff:fe10:1';

t.test('the addresses that a user may choose', async (t) => {
  for (const [text, problem] of [
    ['2001:db8:0:1::2', undefined],
    ['2001:db8:0:1:ffff:ffff:ffff:ffff', undefined],
    ['2001:db8:0:1::', /anycast address of the routers/],
    ['2001:db8:0:1::1', /the network's router/],
    ['2001:db8:0:1:fdff:ffff:ffff:ff80', /reserved/],
    ['2001:db8:0:1:200:5eff:fe00:0', /reserved/],
    ['2001:db8:0:2::2', /in the prefix of the network, 2001:db8:0:1::\/64/],
    ['ff02::1', /in the prefix/],
    ['fe80::1', /in the prefix/],
    ['fe80::a9fe:a9fe', /in the prefix/],
    ['::', /in the prefix/],
  ] as const) {
    const found = addressProblem(network, parseIpv6(text) ?? 0n);
    if (problem === undefined) t.equal(found, undefined, text);
    else t.match(found, problem, text);
  }
});

t.test('an interface keeps the address that its guest forms by itself', async (t) => {
  t.strictSame(interfaceAddresses({ mac, address: derived }), [derived]);
  t.strictSame(configuredAddresses({ mac, address: derived }), []);
  const chosen = { mac, address: '2001:db8:0:1::80', secondary_addresses: ['2001:db8:0:1::81'] };
  t.equal(derivedAddress(chosen), derived);
  t.strictSame(interfaceAddresses(chosen), ['2001:db8:0:1::80', derived, '2001:db8:0:1::81']);
  t.strictSame(configuredAddresses(chosen), ['2001:db8:0:1::80', '2001:db8:0:1::81']);

  const id = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
  fc.assert(
    fc.property(fc.array(id, { minLength: 1, maxLength: 9 }), (ids) => {
      const [address = '', ...secondary_addresses] = ids.map((each) => formatIpv6(network.address | each));
      const all = interfaceAddresses({ mac, address, secondary_addresses });
      const own = formatIpv6(slaacAddress(network.address, mac));
      return all[0] === address && all.includes(own) && new Set(all).size === all.length && all.length <= 10;
    }),
  );
});

t.test('only a VM with a chosen address or a security group needs readers of format 7', async (t) => {
  const format = (each: object) => formatOf(`${vms.prefix}vm-1`, JSON.stringify({ interfaces: [each] }));
  t.equal(format({ mac, address: derived }), 1);
  t.equal(format({ mac, address: '2001:db8:0:1::80' }), 7);
  t.equal(format({ mac, address: derived, secondary_addresses: ['2001:db8:0:1::81'] }), 7);
  t.equal(format({ mac, address: derived, security_groups: ['sg-1'] }), 7);
});
