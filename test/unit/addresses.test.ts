import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import {
  addressKey,
  defaultMac,
  formatIpv6,
  interfaceId,
  isReservedInterfaceId,
  isUsableMac,
  macKey,
  parseIpv6,
  parseMac,
  slaacAddress,
} from '../../backend/model/network/addresses.ts';
import { tapName } from '../../backend/model/network/interface-names.ts';

const address = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n });
/** Addresses with runs of zeros, where the rules of RFC 5952 matter. */
const sparse = fc
  .array(fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 0xffffn })), { minLength: 8, maxLength: 8 })
  .map((groups) => groups.reduce((all, group) => (all << 16n) | group, 0n));
const mac = fc
  .uint8Array({ minLength: 6, maxLength: 6 })
  .map((bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':'));

t.test('the examples of RFC 5952 and RFC 4291', async (t) => {
  for (const [text, canonical] of [
    ['2001:0db8:0000:0000:0001:0000:0000:0001', '2001:db8::1:0:0:1'],
    ['2001:DB8::1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ] as const) {
    const parsed = parseIpv6(text);
    t.equal(parsed === undefined ? undefined : formatIpv6(parsed), canonical, text);
  }
  for (const text of [
    '',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    'g::',
    '12345::',
    'fe80::1%eth0',
    '::1.2.3',
    '::256.1.1.1',
    '::01.2.3.4',
    ' ::1',
    '::1/64',
    '1.2.3.4',
  ]) {
    t.equal(parseIpv6(text), undefined, JSON.stringify(text));
  }
});

t.test('text and number are the same address', async () => {
  fc.assert(
    fc.property(fc.oneof(address, sparse), (number) => {
      const text = formatIpv6(number);
      return isIPv6(text) && parseIpv6(text) === number && BigInt(`0x${addressKey(number)}`) === number;
    }),
  );
});

t.test('the canonical text is the one that URL gives', async () => {
  fc.assert(
    fc.property(sparse, (number) => new URL(`http://[${formatIpv6(number)}]/`).hostname === `[${formatIpv6(number)}]`),
  );
});

t.test('ucloud and Node accept the same addresses', async () => {
  const piece = fc.constantFrom(':', '::', '0', '1', 'ffff', 'abcde', '1.2.3.4', '.', 'g', '');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const text = pieces.join('');
      return (parseIpv6(text) !== undefined) === isIPv6(text);
    }),
    { numRuns: 2000 },
  );
});

t.test('modified EUI-64', async (t) => {
  // The example of RFC 4291 appendix A, and that of RFC 2464 section 4.
  t.equal(interfaceId('34:56:78:9a:bc:de').toString(16), '365678fffe9abcde');
  t.equal(formatIpv6(slaacAddress(parseIpv6('2001:db8::') ?? 0n, '42:00:5e:10:00:01')), '2001:db8::4000:5eff:fe10:1');
  fc.assert(fc.property(mac, mac, (a, b) => (interfaceId(a) === interfaceId(b)) === (a === b)));
});

t.test('no usable MAC address gives a reserved interface identifier', async (t) => {
  t.ok(isReservedInterfaceId(0n));
  t.ok(isReservedInterfaceId(interfaceId('00:00:5e:00:52:12')), 'that of IANA’s block would');
  t.ok(isReservedInterfaceId(0xfdff_ffff_ffff_ff80n));
  fc.assert(fc.property(mac.filter(isUsableMac), (one) => !isReservedInterfaceId(interfaceId(one))));
});

t.test('usable MAC addresses are unicast and locally administered', async (t) => {
  for (const [text, usable] of [
    ['02:00:00:00:00:00', true],
    ['42:00:5e:10:00:01', true],
    ['fe:ff:ff:ff:ff:ff', true],
    ['00:00:5e:10:00:01', false],
    ['01:00:5e:00:00:01', false],
    ['33:33:00:00:00:01', false],
    ['ff:ff:ff:ff:ff:ff', false],
    ['42-00-5e-10-00-01', false],
    ['42:00:5E:10:00:01', false],
  ] as const) {
    t.equal(isUsableMac(text), usable, text);
  }
});

t.test('default MAC addresses', async (t) => {
  t.equal(defaultMac('prj-0', 'web', 0, 0), defaultMac('prj-0', 'web', 0, 0), 'the same again');
  const all = new Set<string>();
  for (let index = 0; index < 8; index++) {
    for (let probe = 0; probe < 8; probe++) {
      for (const name of ['web', 'db']) all.add(defaultMac('prj-0', name, index, probe));
    }
  }
  t.equal(all.size, 128, 'and different for all else');
  t.ok([...all].every((one) => isUsableMac(one) && one.startsWith('42:')));
  fc.assert(fc.property(mac, mac, (a, b) => (macKey(a) === macKey(b)) === (tapName(a) === tapName(b))));
  t.equal(parseMac('42:00'), undefined);
});
