/**
 * The MAC address of a tap. The kernel lets every process with an open tap change it. A bridge delivers frames to the MAC
 * address of one of its ports to the host, so they do not reach the guest with this address.
 */
import t from 'tap';
import { ethernet, ipv6, udp } from '../support/frames.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { tapLab } from '../support/tap-lab.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'bridge', 'unshare', 'perl');

t.test('the MAC address of a tap', { skip }, async (t) => {
  const lab = await tapLab(t, 'mac');
  const { a, b } = lab;
  t.strictSame(await lab.converge(), []);
  const victim = await lab.open(t, b);
  const entry = () => lab.bridgeEntries().find(({ mac }) => mac === b.mac);
  const own = { mac: b.mac, ifname: b.tap, state: 'static' };
  const macOf = (tap: string) => lab.host.namespace.run('cat', `/sys/class/net/${tap}/address`).trim();
  t.match(entry(), own);

  await t.test('a process cannot give its tap the MAC address of another VM', async (t) => {
    const process = await lab.open(t, a);
    const before = macOf(a.tap);
    await process.setMac(b.mac);
    t.strictSame(process.refused, ['refused Operation not permitted']);
    t.equal(macOf(a.tap), before);
    t.match(entry(), own);
    const packet = ipv6({ source: a.address, destination: b.address, next: 17, payload: udp(7, 1) });
    const frame = ethernet(a.mac, b.mac, 0x86dd, packet);
    await process.send([frame]);
    await victim.hears(frame);
    await process.close();
  });

  await t.test('without the filter of system calls it can, and takes the entry of the other VM', async (t) => {
    const process = await lab.open(t, a, true);
    await process.setMac(b.mac);
    t.strictSame(process.refused, []);
    t.equal(macOf(a.tap), b.mac);
    t.match(entry(), { ifname: a.tap, state: 'permanent' });
    t.strictSame(await lab.converge(), []);
    t.match(entry(), own, 'the agent puts it back');
  });
  await lab.driver.kill();
});
