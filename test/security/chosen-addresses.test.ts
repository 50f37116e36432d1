/** Addresses that users choose: a guest may use those of its interface, and no others. */
import t from 'tap';
import { honestFrames, type Party } from '../support/hostile-frames.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { type LabGuest, tapLab } from '../support/tap-lab.ts';

const skip = noNamespaces('nft', 'radvd', 'python3', 'bridge');

t.test('the chosen addresses of guests', { skip }, async (t) => {
  const lab = await tapLab(t, 'chosen');
  t.strictSame(await lab.converge(), []);
  const give = async (guest: LabGuest, ...more_addresses: string[]) => {
    const { network, mac, address } = guest;
    await lab.driver.call('attach', guest.vm, [{ network, mac, address, more_addresses }]);
  };
  const chosen = 'fd42:0:0:7::80';
  await give(lab.a, chosen);
  t.strictSame(await lab.driver.call('converge'), []);
  const [a, b] = [await lab.open(t, lab.a), await lab.open(t, lab.b)];
  const as = (guest: LabGuest, address: string): Party => ({ ...guest, address });
  /** The frames that contain the address. */
  const with80 = ({ frame }: { readonly frame: Buffer }) => frame.includes(Buffer.from('0000000000000080', 'hex'));
  const last = honestFrames(lab.a, lab.b).at(-1)?.frame ?? Buffer.alloc(0);
  const lastOfB = honestFrames(lab.b, lab.a).at(-1)?.frame ?? Buffer.alloc(0);

  await t.test('a guest sends from its chosen address, and claims it', async (t) => {
    const frames = honestFrames(as(lab.a, chosen), lab.b).filter(with80);
    t.ok(frames.length > 3, `${frames.length} frames`);
    await a.send(frames.map(({ frame }) => frame));
    await a.send([last]);
    await b.hears(last);
    for (const { what, frame } of frames) t.ok(b.has(frame), what);
  });
  await t.test('a guest sends from the chosen address of another, or claims it', async (t) => {
    const frames = honestFrames(as(lab.b, chosen), lab.a).filter(with80);
    await b.send(frames.map(({ frame }) => frame));
    await b.send([lastOfB]);
    await a.hears(lastOfB);
    for (const { what, frame } of frames) t.notOk(a.has(frame), what);
  });
  await t.test('a guest sends from an address that its interface has lost', async (t) => {
    await give(lab.a);
    await give(lab.b, chosen);
    t.strictSame(await lab.driver.call('converge'), []);
    b.heard.length = 0;
    const frames = honestFrames(as(lab.a, chosen), lab.b).filter(with80);
    await a.send(frames.map(({ frame }) => frame));
    await a.send([last]);
    await b.hears(last);
    for (const { what, frame } of frames) t.notOk(b.has(frame), what);
    const neighbours = lab.host.namespace.ip('-6', 'neigh', 'show', 'nud', 'permanent');
    t.match(
      neighbours,
      new RegExp(`${chosen} dev ${lab.bridge} lladdr ${lab.b.mac}`),
      'the host sends to the new holder',
    );
  });
  await lab.driver.kill();
});
