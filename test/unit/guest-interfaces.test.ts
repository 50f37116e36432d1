/** The slots of interfaces in a running QEMU. */
import fc from 'fast-check';
import t from 'tap';
import {
  nicOf,
  nicPortOf,
  outcomeOf,
  planInterfaces,
  portsIn,
} from '../../backend/host/hypervisor/qemu/guest-interfaces.ts';
import type { InterfaceSpec } from '../../backend/host/hypervisor/specs.ts';
import { idFrom } from '../../backend/model/ids.ts';

const network = (vni: number) => ({
  id: idFrom('network', `net-${String(vni).padStart(16, '0')}`),
  vni,
  cidr: `fd42:0:0:${vni}::/64`,
  mtu: 1430,
  dns_servers: [],
});
const nic = (number: number, vni = 1): InterfaceSpec => ({
  network: network(vni),
  mac: `02:00:5e:10:00:0${number}`,
  address: `fd42:0:0:${vni}::${number + 2}`,
});
const allPorts = new Set([0, 1, 2, 3, 4, 5, 6, 7]);
const devicesOf = (plan: readonly InterfaceSpec[], ports = allPorts) =>
  new Set([...[...ports].map(nicPortOf), ...plan.flatMap(({ slot }) => (slot === undefined ? [] : [nicOf(slot)]))]);

t.test('every change ends with the wanted interfaces, each in a slot of its own', async () => {
  const lists = fc.array(
    fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 8 }), fc.integer({ min: 1, max: 2 })), {
      selector: ([number]) => number,
      maxLength: 8,
    }),
    { minLength: 1, maxLength: 4 },
  );
  fc.assert(
    fc.property(lists, fc.infiniteStream(fc.boolean()), (declarations, releases) => {
      let plan: readonly InterfaceSpec[] = [];
      for (const list of declarations) {
        const wanted = list.map(([number, vni]) => nic(number, vni));
        for (let calls = 0; ; calls++) {
          plan = planInterfaces(plan, wanted, allPorts);
          const slots = plan.map(({ slot }) => slot);
          if (new Set(slots).size !== slots.length || slots.some((slot) => slot === undefined)) return false;
          // The guest releases some of them, now or later.
          plan = plan.filter(({ leaving }) => !leaving || (calls < 9 && !releases.next().value));
          const { interfaces, needsRestart } = outcomeOf(plan, wanted, devicesOf(plan), new Map());
          if (needsRestart) return false;
          const held = interfaces.map(({ mac, addresses }) => `${mac} ${addresses.join()}`).sort();
          if (
            held.join() ===
            wanted
              .map(({ mac, address }) => `${mac} ${address}`)
              .sort()
              .join()
          )
            break;
          if (calls > 11) return false;
        }
      }
      return true;
    }),
  );
});

t.test('a process of an earlier version keeps its interfaces until the next start', async (t) => {
  const present = [nic(1), nic(2)];
  const ports = portsIn(new Set(['slot1', 'device-x']));
  t.equal(ports.size, 0);
  const changed = planInterfaces(present, [{ ...nic(1), more_addresses: ['fd42:0:0:1::99'] }, nic(3)], ports);
  t.match(changed, [
    { mac: nic(1).mac, more_addresses: ['fd42:0:0:1::99'] },
    { mac: nic(2).mac, leaving: true },
  ]);
  const outcome = outcomeOf(changed, [nic(1), nic(3)], new Set(), new Map());
  t.strictSame(outcome.interfaces, [
    { mac: nic(1).mac, addresses: [nic(1).address, 'fd42:0:0:1::99'] },
    { mac: nic(2).mac, addresses: [] },
  ]);
  t.ok(outcome.needsRestart);
  t.notOk(outcomeOf(present, present, new Set(), new Map()).needsRestart, 'without a change it needs nothing');
});

t.test('an interface changes its network only by leaving first', async (t) => {
  const before = planInterfaces([], [nic(1, 1)], allPorts);
  const leaving = planInterfaces(before, [nic(1, 2)], allPorts);
  t.match(leaving, [{ mac: nic(1).mac, network: { vni: 1 }, leaving: true }]);
  t.match(planInterfaces([], [nic(1, 2)], allPorts), [{ network: { vni: 2 }, slot: 0 }]);
});
