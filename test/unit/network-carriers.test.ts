/** The carriers of networks: the choice, and the records that the scheduler keeps. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { idFrom, newId } from '../../backend/model/ids.ts';
import { completeCarriers, maxCarriers, preferredCarriers } from '../../backend/model/network/carriers.ts';
import { memberId } from '../../backend/model/network/members.ts';
import { alive, hosts, leaders, networkCarriers, networkMembers } from '../../backend/model/records/index.ts';
import { CarrierLoop } from '../../backend/scheduler/network-carriers.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put, read, remove } from '../../backend/store/collection.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import type { Write } from '../../backend/store/store.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { withStore } from '../support/stores.ts';

const host = (number: number) => idFrom('host', `host-${String(number).padStart(16, '0')}`);
const network = (number: number) => idFrom('network', `net-${String(number).padStart(16, '0')}`);

t.test('living hosts come first, and the order depends on nothing else', async () => {
  const numbers = fc.uniqueArray(fc.integer({ min: 1, max: 50 }), { maxLength: 20 });
  fc.assert(
    fc.property(numbers, numbers, fc.nat(5), (all, living, of) => {
      const isAlive = (id: string) => living.some((number) => host(number) === id);
      const order = preferredCarriers(network(of), all.map(host), isAlive);
      const reversed = preferredCarriers(network(of), all.toReversed().map(host), isAlive);
      const dead = order.map(isAlive).indexOf(false);
      return (
        order.join() === reversed.join() &&
        order.length === all.length &&
        (dead < 0 || order.slice(dead).every((id) => !isAlive(id)))
      );
    }),
  );
});

t.test('networks do not all take the same host', async (t) => {
  const all = Array.from({ length: 10 }, (_, n) => host(n));
  const first = new Set(Array.from({ length: 200 }, (_, n) => preferredCarriers(network(n), all, () => true)[0]));
  t.equal(first.size, 10);
});

/** A term of leadership, with only the loop for carriers. */
async function term(t: Test, first: readonly Write[]) {
  const store = await withStore(t);
  const lead = await store.commit({ write: [put(leaders, 'scheduler', { id: 'test' }), ...first] });
  if (!lead.ok) throw new Error('the first commit has failed');
  const kinds = [leaders, hosts, alive, networkMembers, networkCarriers];
  const mirror = await openMirror(store, { prefixes: [''], kinds });
  const holds = { key: `${leaders.prefix}scheduler`, revision: lead.revision };
  const lease = await store.lease(60);
  const end = new AbortController();
  const loop = new CarrierLoop({ store, mirror, logger: silentLogger }, { lease, revision: lead.revision, holds });
  const running = loop.run(end.signal);
  const stop = async () => {
    end.abort();
    await running;
    await mirror.close();
  };
  return { store, mirror, stop };
}

const at = '2026-01-01T00:00:00.000Z';
const vm = newId('vm');
const macOf = (n: number) => `42:00:5e:10:00:0${n}`;
const withUnderlay = (n: number) =>
  put(hosts, host(n), hostRecord({ id: host(n), underlay: { address: `fd00::${n}`, mtu: 9000 } }));
const member = (of: number, n: number, on: number): Write =>
  put(networkMembers, memberId(network(of), macOf(n)), { vm, host: host(on), fence: 1, address: '2001:db8::1' });

t.test('the records follow members, signs of life and hosts', async (t) => {
  const change = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        of: fc.integer({ min: 1, max: 3 }),
        n: fc.integer({ min: 1, max: 6 }),
        on: fc.integer({ min: 1, max: 5 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ gone: fc.integer({ min: 1, max: 3 }), n: fc.integer({ min: 1, max: 6 }) }) },
    { weight: 1, arbitrary: fc.record({ dead: fc.integer({ min: 1, max: 5 }) }) },
    { weight: 1, arbitrary: fc.record({ living: fc.integer({ min: 1, max: 5 }) }) },
    { weight: 1, arbitrary: fc.record({ wrong: fc.integer({ min: 1, max: 4 }) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 25, size: 'max' }), async (changes) => {
      const { store, mirror, stop } = await term(t, [
        ...[1, 2, 3, 4].map(withUnderlay),
        // A host without an underlay address carries nothing for others.
        put(hosts, host(5), hostRecord({ id: host(5) })),
        ...[1, 3, 5].map((n) => put(alive, host(n), { at })),
        member(1, 1, 2),
        put(networkCarriers, network(4), { hosts: [host(1)] }),
      ]);
      for (const each of changes) {
        const write =
          'on' in each
            ? member(each.of, each.n, each.on)
            : 'gone' in each
              ? remove(networkMembers, memberId(network(each.gone), macOf(each.n)))
              : 'dead' in each
                ? remove(alive, host(each.dead))
                : 'living' in each
                  ? put(alive, host(each.living), { at })
                  : put(networkCarriers, network(each.wrong), { hosts: [host(5), host(4)] });
        await store.commit({ write: [write] });
      }
      const isRight = () =>
        mirror.get(networkCarriers, completeCarriers) !== undefined &&
        [1, 2, 3, 4].every((n) => {
          const on = new Set([...mirror.list(networkMembers, `${network(n)}/`)].map(({ value }) => value.host));
          on.delete(host(5));
          const wanted = preferredCarriers(network(n), on, (id) => mirror.get(alive, id) !== undefined);
          const known = mirror.get(networkCarriers, network(n))?.value.hosts ?? [];
          return known.join() === wanted.slice(0, maxCarriers).join();
        });
      await mirror.catchUp();
      await until('the records are right', isRight);
      await stop();
    }),
    { numRuns: 30, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
  );
});

t.test('a leader that was replaced writes nothing', async (t) => {
  const { store, mirror, stop } = await term(t, [withUnderlay(1)]);
  await until('complete', () => mirror.get(networkCarriers, completeCarriers));
  await store.commit({ write: [put(leaders, 'scheduler', { id: 'another' }), member(1, 1, 1)] });
  await mirror.catchUp();
  await stop();
  t.notOk(await read(store, networkCarriers, network(1)));
});

t.test('the leading scheduler says that it keeps the records', async (t) => {
  const store = await withStore(t);
  const scheduler = await startScheduler({ store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  await until('complete', () => read(store, networkCarriers, completeCarriers));
  t.match((await read(store, leaders, 'scheduler'))?.value, { carriers: true });
});
