/** Changes of the interfaces of a VM: identity, and what stays taken while a guest may use it. */
import fc from 'fast-check';
import t from 'tap';
import { idFrom } from '../../backend/model/ids.ts';
import { derivedAddress, interfaceAddresses } from '../../backend/model/network/interface-addresses.ts';
import type { ReportRecord } from '../../backend/model/records/index.ts';
import {
  changingInterfaces,
  heldInterfaces,
  type Interface,
  leavingInterfaces,
  matchInterfaces,
  releaseInterfaces,
} from '../../backend/model/vm/interfaces.ts';

const network = (number: number) => idFrom('network', `net-${String(number).padStart(16, '0')}`);
const prefixOf = (number: number) => `2001:db8:0:${number}::`;
/** An interface whose MAC address and network follow from its number. */
const nic = (number: number, id?: number): Interface => {
  const mac = `02:00:5e:10:00:0${number}`;
  const net = (number % 3) + 1;
  const address = derivedAddress({ mac, address: `${prefixOf(net)}2` });
  return { network: network(net), mac, address: id === undefined ? address : `${prefixOf(net)}${id.toString(16)}` };
};

t.test('which interface an entry of a request means', async (t) => {
  const [one, four, two] = [nic(1), nic(4), nic(2, 0x80)];
  const present = [one, four, two];
  const indexes = (...asked: Parameters<typeof matchInterfaces>[0][number][]) =>
    matchInterfaces(asked, present).map((each) => (each ? present.indexOf(each) : undefined));
  const [a, b, c] = [network(2), network(3), network(1)];
  t.strictSame(indexes({ network: a }, { network: a }, { network: b }), [0, 1, 2]);
  t.strictSame(indexes({ network: b }, { network: a }), [2, 0], 'the order of networks does not count');
  t.strictSame(indexes({ network: a }, { network: a, mac: one.mac }), [1, 0], 'MAC addresses come first');
  t.strictSame(indexes({ network: a, address: four.address }, { network: a }), [1, 0], 'then addresses');
  t.strictSame(indexes({ network: a, address: `${prefixOf(2)}99` }), [0], 'a new address for the next interface');
  t.strictSame(indexes({ network: c }, { network: a, mac: '02:00:00:00:00:99' }), [undefined, undefined], 'new ones');
  t.strictSame(indexes({ network: a }, { network: a }, { network: a }), [0, 1, undefined]);
});

const numbers = fc.uniqueArray(fc.integer({ min: 0, max: 8 }), { maxLength: 8 });

t.test('the order of a list changes no interface', async () => {
  fc.assert(
    fc.property(numbers, fc.boolean(), fc.infiniteStream(fc.nat(7)), (list, withMac, swaps) => {
      const present = list.map((number) => nic(number));
      const shuffled = present
        .map((each) => ({ each, key: swaps.next().value }))
        .sort((x, y) => x.key - y.key)
        .map(({ each }) => each);
      const asked = shuffled.map(({ network, mac }) => (withMac ? { network, mac } : { network }));
      const found = matchInterfaces(asked, present);
      const all = new Set(found).size === present.length && !found.includes(undefined);
      return all && found.every((each, index) => each?.network === asked[index]?.network);
    }),
  );
});

t.test('what a guest may use stays taken, until the report shows that it does not', async () => {
  const report = (interfaces: ReportRecord['interfaces']): ReportRecord => ({
    host: idFrom('host', 'host-0000000000000000'),
    fence: 1,
    phase: 'running',
    at: 'now',
    ...(interfaces && { interfaces }),
  });
  const lists = fc.array(
    numbers.chain((list) =>
      fc.tuple(
        ...list.map((number) =>
          fc
            .option(fc.integer({ min: 2, max: 4 }), { nil: undefined })
            .map((id) => nic(number, id && 16 * (number + 1) + id)),
        ),
      ),
    ),
    { minLength: 2, maxLength: 4 },
  );
  const claims = (interfaces: readonly Interface[], leaving: ReturnType<typeof leavingInterfaces>) =>
    new Set([
      ...interfaces.flatMap((each) => [each.mac, ...interfaceAddresses(each)]),
      ...leaving.flatMap(({ mac, addresses }) => [mac, ...addresses]),
    ]);
  fc.assert(
    fc.property(lists, fc.nat(3), (declarations, seen) => {
      const [first = [], ...others] = declarations;
      let interfaces: readonly Interface[] = first;
      let leaving: ReturnType<typeof leavingInterfaces> = [];
      let held = heldInterfaces(first);
      for (const [index, next] of others.entries()) {
        leaving = leavingInterfaces({ interfaces, leaving_interfaces: leaving }, next);
        interfaces = next;
        const before = claims(interfaces, leaving);
        const released = releaseInterfaces({ interfaces }, leaving, report(held));
        leaving = released.leaving;
        const after = claims(interfaces, leaving);
        const freed = [...released.freed.macs, ...released.freed.addresses];
        if (freed.some((each) => after.has(each)) || freed.length + after.size !== before.size) return false;
        if (held.some(({ mac, addresses }) => [mac, ...addresses].some((each) => !after.has(each)))) return false;
        // The host follows now and then.
        if (index % 2 === seen % 2) held = heldInterfaces(interfaces);
      }
      const final = releaseInterfaces({ interfaces }, leaving, report(heldInterfaces(interfaces)));
      const unknown = releaseInterfaces({ interfaces }, leaving, report(undefined));
      return final.leaving.length === 0 && unknown.leaving.length === leaving.length;
    }),
  );
});

t.test('an interface that a guest does not release frees its addresses, and not its MAC address', async (t) => {
  const [stays, goes] = [nic(1), nic(2, 0x80)];
  const leaving = leavingInterfaces({ interfaces: [stays, goes] }, [stays]);
  t.strictSame(leaving, [{ network: goes.network, mac: goes.mac, addresses: interfaceAddresses(goes) }]);
  const held = [...heldInterfaces([stays]), { mac: goes.mac, addresses: [] }];
  const at = { host: idFrom('host', 'host-0000000000000000'), fence: 1, at: 'now' };
  const closed = releaseInterfaces({ interfaces: [stays] }, leaving, { ...at, phase: 'running', interfaces: held });
  t.strictSame(closed.freed, { macs: [], addresses: interfaceAddresses(goes), networks: [goes.network] });
  t.strictSame(closed.leaving, [{ ...leaving[0], addresses: [] }]);
  t.strictSame(changingInterfaces({ interfaces: [stays] }, held), [goes.mac]);
  const stopped = releaseInterfaces({ interfaces: [stays] }, closed.leaving, { ...at, phase: 'stopped' });
  t.strictSame(stopped, { leaving: [], freed: { macs: [goes.mac], addresses: [], networks: [] } });
  t.strictSame(changingInterfaces({ interfaces: [stays] }, heldInterfaces([stays])), []);
});
