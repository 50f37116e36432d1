/**
 * Frames of a guest that no other guest must receive. The test writes a table of frames to the real tap of the first guest, and
 * listens at the tap of the second. Without the filter, the same frames arrive.
 */
import fc from 'fast-check';
import t from 'tap';
import { routerAddress } from '../../backend/host/network/links.ts';
import { dropReasons } from '../../backend/host/network/tap-filter.ts';
import { formatIpv6 } from '../../backend/model/network/addresses.ts';
import { honestFrames, hostileFrames, mutated, type Party } from '../support/hostile-frames.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { hostAddress, tapLab } from '../support/tap-lab.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'bridge');

/** Frames that the kernel's bridge refuses by itself: their source is no station's. */
const refusedByBridge = new Set(['no MAC', 'a group as sender']);

const sourceOf = (frame: Buffer): string => formatIpv6(BigInt(`0x${frame.subarray(22, 38).toString('hex') || '0'}`));

t.test('frames between guests', { skip }, async (t) => {
  const lab = await tapLab(t, 'frames');
  t.strictSame(await lab.converge(), []);
  const [a, b] = [await lab.open(t, lab.a), await lab.open(t, lab.b)];
  const hostile = hostileFrames(lab.a, lab.b, lab.router);
  const honest = honestFrames(lab.a, lab.b);
  const all = [...hostile, ...honest];
  const byFrame = Map.groupBy(all, ({ frame }) => frame.toString('hex'));
  const same = [...byFrame.values()].filter(({ length }) => length > 1);
  t.strictSame(
    same.map((cases) => cases.map(({ what }) => what)),
    [],
    'all frames differ',
  );
  const last = honest.at(-1)?.frame ?? Buffer.alloc(0);

  await t.test('a guest cannot speak for another, as a router, or in a way that hides what it says', async (t) => {
    const before = lab.drops(lab.a);
    await a.send(hostile.map(({ frame }) => frame));
    const after = lab.drops(lab.a);
    await a.send([last]);
    await b.hears(last);
    for (const { what, reason, frame } of hostile) t.notOk(b.has(frame), `${reason}: ${what}`);
    const expected = dropReasons.map((reason) => [reason, hostile.filter((each) => each.reason === reason).length]);
    const counted = dropReasons.map((reason) => [reason, (after[reason] ?? 0) - (before[reason] ?? 0)]);
    t.strictSame(counted, expected, 'each is counted by its reason');
  });

  await t.test('a guest can send what an honest one needs', async (t) => {
    b.heard.length = 0;
    await a.send(honest.map(({ frame }) => frame));
    await b.hears(last);
    for (const { what, frame } of honest) t.ok(b.has(frame), what);
  });

  await t.test('frames changed at random bring no other sender and nothing to the host', async (t) => {
    const { namespace } = lab.host;
    const probe = [
      'add table inet probe',
      'add counter inet probe taps',
      'add counter inet probe others',
      // Behind the host's own filter.
      'add chain inet probe input { type filter hook input priority 100; policy accept; }',
      'add rule inet probe input iifname "ut*" counter name taps drop',
      `add rule inet probe input iifname "${lab.bridge}" meta l4proto != ipv6-icmp counter name others drop`,
      'add table arp probe',
      'add counter arp probe arps',
      'add chain arp probe input { type filter hook input priority 0; policy accept; }',
      'add rule arp probe input counter name arps',
    ];
    for (const line of probe) namespace.run('nft', line);
    const heard = b.heard.length;
    // Guests may reach the metadata and ping the host, but not send their other frames to it.
    const toHost: Party = { mac: lab.router, address: 'fe80::1', linkLocal: 'fe80::a9fe:a9fe' };
    const seeds = [...all, ...hostileFrames(lab.a, toHost, lab.router), ...honestFrames(lab.a, toHost)];
    const frames = fc.sample(mutated(seeds.map(({ frame }) => frame)), { numRuns: 4000 });
    await a.send(frames);
    await a.send([last]);
    await b.hears(last, heard);
    const { mac, address, linkLocal } = lab.a;
    const ofHost = new Set(['fe80::1', 'fe80::a9fe:a9fe', routerAddress(lab.networks[0].cidr), hostAddress]);
    const own = new Set([address, linkLocal, '::']);
    const foreign = b.heard.slice(heard).filter((text) => {
      const frame = Buffer.from(text, 'hex');
      const sender = text.slice(12, 24);
      // The router forwards what the guest sends to it, and speaks for itself.
      if (sender === lab.router.replaceAll(':', '')) return !own.has(sourceOf(frame)) && !ofHost.has(sourceOf(frame));
      return sender !== mac.replaceAll(':', '') || frame.readUInt16BE(12) !== 0x86dd || !own.has(sourceOf(frame));
    });
    t.strictSame(foreign, [], `of ${frames.length} frames, ${b.heard.length - heard} arrived`);
    t.ok(b.heard.length - heard > 50, 'some got through, as they were still good');
    for (const family of ['inet', 'arp']) {
      const counters = namespace.run('nft', 'list', 'counters', 'table', family, 'probe');
      t.notMatch(counters, /packets [1-9]/, 'none reached the host but ICMPv6');
      namespace.run('nft', 'delete', 'table', family, 'probe');
    }
  });

  await t.test(
    'all of it arrives when the filter is taken out, and nothing when the agent has put it back',
    async (t) => {
      lab.withoutFilters('netdev', 'inet');
      lab.host.namespace.ip('link', 'set', 'dev', lab.b.tap, 'type', 'bridge_slave', 'bcast_flood', 'on');
      b.heard.length = 0;
      await a.send([...hostile.map(({ frame }) => frame), last]);
      await b.hears(last);
      for (const { what, frame } of hostile.filter(({ what }) => !refusedByBridge.has(what))) t.ok(b.has(frame), what);
      b.heard.length = 0;
      t.strictSame(await lab.converge(), []);
      await a.send([...hostile.map(({ frame }) => frame), last]);
      await b.hears(last);
      t.strictSame(
        hostile.filter(({ frame }) => b.has(frame)).map(({ what }) => what),
        [],
      );
    },
  );
  await lab.driver.kill();
});
