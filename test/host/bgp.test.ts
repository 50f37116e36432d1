/** bird on a host: the generated configuration, the process, and the sessions with a router of the fabric. */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import {
  birdConfig,
  type ConfiguredPeer,
  isPassword,
  passwordIn,
  peerFault,
} from '../../backend/host/bgp/bird-config.ts';
import { run } from '../../backend/host/system/command.ts';
import { birdDirectory, instanceOf } from '../../backend/host/system/instance.ts';
import { formatIpv6 } from '../../backend/model/network/addresses.ts';
import { noAnnouncements } from '../../backend/model/network/announcements.ts';
import { formatPrefix, networkOf } from '../../backend/model/network/prefixes.ts';
import { BgpLab, spineAddress, spinePeer, underlayAddress } from '../support/bgp-lab.ts';
import { ucloudCommand } from '../support/cli.ts';
import { until } from '../support/eventually.ts';
import { noNamespaces } from '../support/net-namespace.ts';

const skip = noNamespaces('bird');

const network = 'fd42:0:0:100::/64';
const announcements = { networks: [network], addresses: ['fd42:0:0:100::5/128'], prefixes: ['fd43:0:0:10::/60'] };
const announced = ['fd42:0:0:100::/64', 'fd42:0:0:100::5', 'fd43:0:0:10::/60'].map(
  (prefix) => `${prefix} via ${underlayAddress}`,
);
const staticDefault = `default via ${spineAddress} metric 1024`;
const defaultOfBird = 'default via fe80::a metric 117';

t.test('bird accepts every configuration', { skip }, async (t) => {
  const lab = new BgpLab(t);
  const path = join(lab.directory, 'any.conf');
  const bits = (length: number) => fc.bigInt({ min: 0n, max: 2n ** BigInt(length) - 1n });
  const prefix = fc
    .tuple(bits(128), fc.integer({ min: 1, max: 128 }))
    .map(([address, length]) => formatPrefix(networkOf((0x2n << 124n) | (address >> 4n), length)));
  const letters = 'abcdefghijklmnopqrstuvwxyz0123456789_.-';
  const link = fc
    .tuple(
      fc.constantFrom('e', 'up', 'all', 'bgp', '1'),
      fc.string({ unit: fc.constantFrom(...letters), maxLength: 12 }),
    )
    .map((parts) => parts.join(''));
  const address = fc.oneof(
    link.map((name) => `fe80::a%${name}`),
    bits(124).map((rest) => formatIpv6((0x2n << 124n) | rest)),
  );
  const asn = fc.integer({ min: 1, max: 2 ** 32 - 2 });
  const peer: fc.Arbitrary<ConfiguredPeer> = fc
    .record({ number: bits(53), address, asn, local_asn: asn, password: fc.option(fc.string().filter(isPassword)) })
    .map(({ number, password, ...rest }) => ({
      id: `bgp-${number.toString(32).padStart(16, '0')}`,
      ...rest,
      ...(password !== null && { password }),
    }));
  const list = fc.array(prefix, { maxLength: 20 });
  const settings = fc.record({
    peers: fc.uniqueArray(peer, { minLength: 1, maxLength: 5, selector: ({ id }) => id }),
    announcements: fc.record({ networks: list, addresses: list, prefixes: list }),
  });
  await fc.assert(
    fc.asyncProperty(settings, async ({ peers, announcements }) => {
      const text = birdConfig({ underlayAddress, peers, announcements });
      t.equal(birdConfig({ underlayAddress, peers: peers.toReversed(), announcements }), text);
      writeFileSync(path, text);
      await run('bird', ['-p', '-c', path]);
    }),
    { numRuns: 60 },
  );
});

t.test('the password of a session is found in the configuration, and that of no other', async (t) => {
  const peers = ['a', 'b', 'c'].map((letter) => ({
    ...{
      id: `bgp-${letter.repeat(16)}`,
      address: letter === 'b' ? 'fe80::a%eth0' : '2001:db8::1',
      asn: 65001,
      local_asn: 65002,
    },
    ...(letter !== 'c' && { password: `} secret ${letter} {` }),
  }));
  const text = birdConfig({ underlayAddress: 'fd00::1', peers, announcements: noAnnouncements });
  for (const { id, ...peer } of peers) t.equal(passwordIn(text, id), 'password' in peer ? peer.password : undefined);
  t.equal(
    peerFault({ ...peers[0], id: 'bgp-aaaaaaaaaaaaaaaa', address: 'x; }', asn: 1, local_asn: 2 })?.includes('address'),
    true,
  );
});

t.test('texts that would change the meaning of the configuration are refused', async (t) => {
  const settings = { underlayAddress, peers: [spinePeer], announcements: noAnnouncements };
  const wrong: readonly Partial<ConfiguredPeer>[] = [
    { id: 'bgp-0123456789abcdef {' },
    { address: 'fe80::a%uplink"; import all; #' },
    { address: '2001:db8::1; import all' },
    { asn: Number.NaN },
    { local_asn: 2 ** 32 },
    { password: 'a"; import all; #' },
    { password: 'two\nlines' },
    { password: '' },
    { password: 'x'.repeat(81) },
  ];
  for (const change of wrong) {
    t.throws(
      () => birdConfig({ ...settings, peers: [{ ...spinePeer, ...change }] }),
      RangeError,
      JSON.stringify(change),
    );
  }
  t.throws(() => birdConfig({ ...settings, underlayAddress: '::; }' }), RangeError);
  t.throws(
    () => birdConfig({ ...settings, announcements: { ...noAnnouncements, networks: ['::/0 via x'] } }),
    RangeError,
  );
  t.equal(birdConfig({ ...settings, peers: [] }), '');
});

t.test('prefixes are announced with the underlay address as next hop, and withdrawn', { skip }, async (t) => {
  const lab = new BgpLab(t);
  lab.startSpine('secret');
  // That of an agent.
  const umask = process.umask(0o077);
  t.teardown(() => process.umask(umask));
  const bird = lab.bird();
  const peers = [{ ...spinePeer, password: 'secret' }];
  await bird.converge(lab.config({ peers, announcements }));
  await until('the spine has all prefixes', () => lab.announced().length === announced.length);
  t.strictSame(lab.announced(), announced);
  await until('the host has the default route', () => lab.hostRoutes().includes(defaultOfBird));
  t.strictSame(lab.hostRoutes(), [staticDefault, defaultOfBird], 'and no other route of the spine');
  const [session] = await bird.sessions();
  t.match(session, { peer: spinePeer.id, state: 'established', imported: 1 });
  t.ok(Math.abs(Date.parse(session?.since ?? '') - Date.now()) < 120_000, 'the time of the session is that of now');
  const config = join(lab.directory, 'bird', 'bird.conf');
  t.equal(statSync(config).mode & 0o007, 0, 'others cannot read the password');
  t.equal(statSync(config).uid, 0, 'bird cannot change its configuration');

  const began = performance.now();
  await bird.converge(lab.config({ peers, announcements: { ...announcements, addresses: [] } }));
  await until('one prefix is withdrawn', () => lab.announced().length === announced.length - 1);
  t.comment(`withdrawn after ${Math.round(performance.now() - began)} ms`);
  t.equal((await bird.sessions())[0]?.since, session?.since, 'the session stays');

  t.match(await bird.stop(), [/process \d+ \(bird\)/, 'default route via fe80::a']);
  await until('the spine has no prefix', () => lab.announced().length === 0);
  t.strictSame(lab.hostRoutes(), [staticDefault], 'routes of others stay');
  t.strictSame(await bird.find(), []);
  t.throws(() => statSync(join(lab.directory, 'bird')), { code: 'ENOENT' });
  t.strictSame(await bird.stop(), [], 'a second time there is nothing');
});

t.test('a configuration that bird refuses leaves the session alone', { skip }, async (t) => {
  const lab = new BgpLab(t);
  lab.startSpine();
  const bird = lab.bird();
  await t.rejects(bird.converge('protocol nonsense {'), /syntax error/, 'before the first start');
  t.strictSame(await bird.find(), []);
  const good = lab.config({ announcements });
  await bird.converge(good);
  await until('the spine has all prefixes', () => lab.announced().length === announced.length);
  const before = await bird.sessions();
  await t.rejects(bird.converge(`${good}protocol nonsense {`), /syntax error/);
  t.strictSame(lab.announced(), announced);
  t.strictSame(await bird.sessions(), before);
  t.equal(readFileSync(join(lab.directory, 'bird', 'bird.conf'), 'utf8'), good);
  await bird.stop();
});

t.test('bird is adopted by a new agent, and started again after its death', { skip }, async (t) => {
  const lab = new BgpLab(t);
  lab.startSpine();
  const config = lab.config({ announcements });
  await lab.bird().converge(config);
  await until('the spine has all prefixes', () => lab.announced().length === announced.length);
  const [first] = await lab.bird().find();
  const before = await lab.bird().sessions();
  const adopted = lab.bird();
  await adopted.converge(config);
  t.strictSame(await adopted.find(), [first]);
  t.strictSame(await adopted.sessions(), before, 'the session did not end');

  process.kill(first?.pid ?? 0, 'SIGKILL');
  await until('bird is dead', async () => (await adopted.find()).length === 0);
  t.ok(lab.hostRoutes().includes(defaultOfBird), 'the default route stays without bird');
  await until('the spine has lost the host', () => lab.announced().length === 0);
  const began = performance.now();
  await adopted.converge(config);
  await until('the spine has all prefixes again', () => lab.announced().length === announced.length);
  t.comment(`announced ${Math.round(performance.now() - began)} ms after the start`);

  const [second] = await adopted.find();
  process.kill(second?.pid ?? 0, 'SIGKILL');
  await until('bird is dead', async () => (await adopted.find()).length === 0);
  t.match(await adopted.stop(), ['default route via fe80::a'], 'the default route of a dead bird goes');
  t.strictSame(lab.hostRoutes(), [staticDefault]);
});

t.test('BFD ends a session with a silent end, and it returns', { skip }, async (t) => {
  const lab = new BgpLab(t);
  lab.startSpine();
  const bird = lab.bird(500);
  const config = lab.config({ announcements });
  await bird.converge(config);
  const isBfdUp = async () => (await lab.askSpine('show bfd sessions')).some((line) => / Up /.test(line));
  await until('BFD is up', isBfdUp);
  await until('the spine has all prefixes', () => lab.announced().length === announced.length);
  const spine = lab.spine.pids()[0] ?? 0;
  process.kill(spine, 'SIGSTOP');
  const stopped = performance.now();
  await until('the host has left the silent spine', () => !lab.hostRoutes().includes(defaultOfBird));
  const lost = performance.now() - stopped;
  t.comment(`default route withdrawn after ${Math.round(lost)} ms`);
  t.ok(lost < 8_000, 'before the hold time of 9 s');
  t.match(await bird.sessions(), [{ state: 'connecting', message: /BFD|Hold/i }]);
  process.kill(spine, 'SIGCONT');
  const continued = performance.now();
  await until('the host has the default route again', () => lab.hostRoutes().includes(defaultOfBird));
  t.comment(`default route back after ${Math.round(performance.now() - continued)} ms`);

  await until('BFD is up again', isBfdUp);
  const [running] = await bird.find();
  process.kill(running?.pid ?? 0, 'SIGSTOP');
  await until('the spine has left the silent host', () => lab.announced().length === 0);
  await t.rejects(bird.sessions(), /no answer/);
  await lab.bird(500).converge(`${config}# changed\n`);
  t.not((await bird.find())[0]?.pid, running?.pid, 'a bird that does not answer is replaced');
  await until('the spine has all prefixes again', () => lab.announced().length === announced.length);
  await bird.stop();
});

t.test('a wrong password keeps the session down', { skip }, async (t) => {
  const lab = new BgpLab(t);
  lab.startSpine('secret');
  const bird = lab.bird();
  await bird.converge(lab.config({ peers: [{ ...spinePeer, password: 'wrong' }], announcements }));
  await until('bird tries', async () => (await bird.sessions())[0]?.state === 'connecting');
  await bird.converge(lab.config({ peers: [{ ...spinePeer, password: 'secret' }], announcements }));
  await until('the right password works', async () => (await bird.sessions())[0]?.state === 'established');
  await bird.stop();
});

t.test('`ucloud host clean` ends bird and removes its route', { skip }, async (t) => {
  const lab = new BgpLab(t);
  lab.startSpine();
  const data = join(lab.directory, 'data');
  mkdirSync(join(data, 'host'), { recursive: true });
  const directory = birdDirectory(instanceOf(join(data, 'host')));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const bird = lab.bird(5_000, directory);
  await bird.converge(lab.config({ announcements }));
  await until('the spine has all prefixes', () => lab.announced().length === announced.length);
  await until('the host has the default route', () => lab.hostRoutes().includes(defaultOfBird));
  const clean = () => lab.host.run(ucloudCommand, 'host', 'clean', '--data', data, '--yes');
  t.match(clean(), /removed process \d+ \(bird\)\nremoved default route via fe80::a\n/);
  t.strictSame([await bird.find(), lab.hostRoutes(), existsSync(directory)], [[], [staticDefault], false]);
  await until('the spine has no prefix', () => lab.announced().length === 0);
  t.match(clean(), /nothing was there/);
});
