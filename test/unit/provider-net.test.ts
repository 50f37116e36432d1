/**
 * The provider computes addresses by the rules of openapi.yaml. Its results must equal those of the API, so that plans are
 * exact.
 */
import fc from 'fast-check';
import t from 'tap';
import * as backend from '../../backend/model/network/addresses.ts';
import { formatSize, parseSize } from '../../backend/model/text/sizes.ts';
import { attributePath } from '../../provider/client/problem.ts';
import { describe } from '../../provider/derive/describe.ts';
import { flawsOf } from '../../provider/derive/rules.ts';
import { formats, sameMeaning } from '../../provider/derive/semantics.ts';
import {
  contains,
  formatAddress,
  formatPrefix,
  hostBits,
  parseAddress,
  parsePrefix,
  reverseName,
  subnet,
} from '../../provider/net/ipv6.ts';
import { defaultMac, eui64Address, normalMac, parseMac } from '../../provider/net/mac.ts';
import { schemaOf } from '../../provider/schema/resources.gen.ts';

const address = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n });
/** Addresses with runs of zeros, which is where their text is tricky. */
const sparse = fc
  .array(fc.constantFrom<bigint[]>(0n, 0n, 0n, 1n, 0xffffn), { minLength: 8, maxLength: 8 })
  .map((groups) => groups.reduce((value, group) => (value << 16n) | group, 0n));
const mac = fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }).map((value) => {
  const digits = value.toString(16).padStart(12, '0').match(/../g) ?? [];
  return digits.join(':');
});

t.test('addresses and MAC addresses come out as in the API', async (t) => {
  fc.assert(
    fc.property(fc.oneof(address, sparse), (value) => {
      const text = formatAddress(value);
      return (
        text === backend.formatIpv6(value) && parseAddress(text) === value && parseAddress(text.toUpperCase()) === value
      );
    }),
  );
  fc.assert(
    fc.property(
      fc.string({ maxLength: 45 }),
      (text) => (parseAddress(text) ?? null) === (backend.parseIpv6(text) ?? null),
    ),
  );
  fc.assert(
    fc.property(
      fc.string(),
      fc.string(),
      fc.nat(7),
      fc.nat(3),
      (project, name, index, attempt) =>
        defaultMac(project, name, index, attempt) === backend.defaultMac(project, name, index, attempt),
    ),
  );
  fc.assert(
    fc.property(address, mac, (value, text) => {
      const network = (value >> 64n) << 64n;
      return eui64Address({ network, length: 64 }, parseMac(text) ?? -1n) === backend.slaacAddress(network, text);
    }),
  );
  t.equal(normalMac('42-00-5E-10-00-01'), '42:00:5e:10:00:01');
  t.equal(normalMac('42:00-5e:10:00:01'), undefined, 'one kind of separator');
  t.equal(
    formatAddress(
      eui64Address(
        { network: parseAddress('2001:db8:0:100::') ?? 0n, length: 64 },
        parseMac('42:00:5e:10:00:01') ?? 0n,
      ),
    ),
    '2001:db8:0:100:4000:5eff:fe10:1',
  );
});

t.test('sizes mean the same as in the API', async (t) => {
  const size = fc
    .tuple(fc.integer({ min: 1, max: 2000 }), fc.constantFrom('MiB', 'GiB', 'TiB'))
    .map(([n, unit]) => `${n}${unit}`);
  const format = formats.size;
  if (!format) throw new Error('no format for sizes');
  fc.assert(
    fc.property(size, size, (a, b) => {
      const [x, y] = [parseSize(a), parseSize(b)];
      if (x === undefined || y === undefined) return true;
      return format.normal(a) === formatSize(x) && sameMeaning(format, a, b) === (x === y);
    }),
  );
  t.equal(sameMeaning(format, '2GiB', '2048MiB'), true);
});

t.test('prefixes', async (t) => {
  const prefix = parsePrefix('2001:DB8:0:ab00::/56') ?? { network: 0n, length: 0 };
  t.equal(formatPrefix(prefix), '2001:db8:0:ab00::/56');
  const third = subnet(prefix, 64, 2n) ?? prefix;
  t.equal(formatPrefix(third), '2001:db8:0:ab02::/64');
  t.equal(contains(prefix, third), true);
  t.equal(contains(third, prefix), false);
  t.equal(subnet(prefix, 64, 256n), undefined, 'numbers go to 255');
  t.equal(hostBits(parsePrefix('2001:db8::1/64') ?? prefix), 1n);
  for (const wrong of ['2001:db8::/129', '2001:db8::', '10.0.0.0/8', '2001:db8::/064', 'x/64'])
    t.equal(parsePrefix(wrong), undefined, wrong);
  t.equal(
    reverseName(parseAddress('2001:db8::1') ?? 0n),
    '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa',
  );
});

t.test('rules of openapi.yaml, in words', async (t) => {
  const [vm, image, token, ssh_key, network] = (['vm', 'image', 'token', 'ssh_key', 'network'] as const).map(schemaOf);
  if (!vm || !image || !token || !ssh_key || !network) throw new Error('a schema is missing');
  const field = (fields: typeof vm.fields, name: string) => {
    const found = fields[name];
    if (!found) throw new Error(name);
    return found;
  };
  for (const [fields, name, value, expected] of [
    [vm.fields, 'name', 'web-1', undefined],
    [vm.fields, 'name', 'a'.repeat(64), /^Must be 1 to 63 lower-case letters/],
    [vm.fields, 'cpus', 1.5, 'Must be a whole number, not 1.5.'],
    [vm.fields, 'cpus', 12n, undefined],
    [vm.fields, 'memory', '0GiB', /^Must be a whole number with its unit/],
    [vm.fields, 'ssh_keys', Array(65).fill('key-0123456789abcdef'), /^Must have at most \d+ elements, not 65\.$/],
    [vm.fields, 'labels', { team: 'a b' }, /^team: Must be at most 63 letters/],
    [vm.fields, 'labels', { team: null }, 'team: The value is null.'],
    [vm.fields, 'interfaces', [], 'Must have between 1 and 8 elements, not 0.'],
    [vm.fields, 'user_data', 'x'.repeat(32769), 'Must have at most 32768 characters, not 32769.'],
    [
      image.fields,
      'source',
      '../etc/passwd',
      'Must be an `https://` URL, or `file:` with the name or id of a file, not "../etc/passwd".',
    ],
    [image.fields, 'architecture', 'z80', 'Must be one of "x86_64", "aarch64", not "z80".'],
    [token.fields, 'expires_at', '2030-13-01T00:00:00Z', /^Must be a time that exists, with its zone/],
    [
      ssh_key.fields,
      'public_key',
      'ssh-dss AAAA me',
      /^Must be one line in the format of OpenSSH: type, base64, comment, not "ssh-dss AAAA me"; the types are ssh-ed25519, .*\.$/,
    ],
    [
      ssh_key.fields,
      'public_key',
      '-----BEGIN X',
      'Must be one line in the format of OpenSSH: type, base64, comment, not a PEM file.',
    ],
    [network.fields, 'dns_servers', ['10.0.0.1'], '0: Must be an IPv6 address such as `2001:db8::1`, not "10.0.0.1".'],
  ] as const) {
    const [problem, ...more] = flawsOf(field(fields, name), value).map((flaw) =>
      [...flaw.path, flaw.problem].join(': '),
    );
    if (expected instanceof RegExp) t.match(problem, expected);
    else t.equal(problem, expected, name);
    t.strictSame(more, []);
  }
  t.strictSame(attributePath('/interfaces/0/mac'), ['interfaces', 0, 'mac']);
  t.strictSame(attributePath('/labels/example.net~1team'), ['labels', 'example.net/team']);
  t.strictSame(attributePath('#query/selector'), ['selector']);
  t.equal(attributePath('#header/if-match'), undefined);
});

t.test('descriptions tell what values there are, once', async (t) => {
  const { image, power_state, memory, cpus, ssh_keys, address } = schemaOf('vm').fields;
  for (const [field, expected] of [
    [image, /: the id of an image\. Exactly one of/],
    [ssh_keys, /: the ids of SSH keys\. A change/],
    [power_state, / One of `running`, `stopped`\.$/],
    [memory, / A whole number with its unit, .*`2GiB`\.$/],
    [cpus, / From 1 to 256\.$/],
  ] as const) {
    if (!field) throw new Error('a field is missing');
    t.match(describe(field, true), expected);
  }
  const { role } = schemaOf('token').fields;
  if (!role || !address) throw new Error('a field is missing');
  t.equal(describe(role, true), role.description, 'which names the roles already');
  t.equal(describe(address, false), address.description, 'who only reads it needs no rule');
});
