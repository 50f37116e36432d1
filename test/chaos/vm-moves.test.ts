/**
 * A VM moves 100 times between three hosts, while schedulers and agents are killed and users start and stop the VM. At every
 * revision of the database, the VM has exactly one placement, its members of networks and volumes are those of this
 * placement, and it never runs twice. In the end, no host has remains of it.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { UcloudError } from '../../backend/contract/errors.ts';
import type { Id } from '../../backend/contract/fields.ts';
import { newId } from '../../backend/model/ids.ts';
import { memberId } from '../../backend/model/network/members.ts';
import { parsePlacementId } from '../../backend/model/placement/placement-id.ts';
import * as records from '../../backend/model/records/index.ts';
import { rootSlot, volumeSlotKey } from '../../backend/model/vm/volumes.ts';
import { conflict, put, read, retryOnConflict, unchanged } from '../../backend/store/collection.ts';
import { openMirror } from '../../backend/store/mirror.ts';
import { type Cluster, GiB, withCluster } from '../support/cluster.ts';
import { KillableHost, RunHistory } from '../support/killable-host.ts';
import { KillableScheduler } from '../support/killable-scheduler.ts';
import { Random } from '../support/random.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { temporaryDirectory } from '../support/stores.ts';

const moves = 100;
const at = '2026-01-01T00:00:00.000Z';

/** Declares a VM that boots from a volume in a shared pool. */
async function createMovable(cluster: Cluster) {
  const [pool, root, attachment] = [newId('storage_pool'), newId('volume'), newId('volume_attachment')];
  const boot = { architecture: 'x86_64', firmware: 'bios', network_config: 'v2' } as const;
  const vm = cluster.newVm({
    root_volume: root,
    boot,
    disk_size: 0,
    power_state: 'stopped',
  });
  const common = { project: vm.project, labels: {}, created_at: at, updated_at: at };
  const rules = { max_iops: 0, max_throughput: 0, force_detach: false, delete_protection: false };
  const kind = { kind: 'shared', path: '/srv/ucloud', overcommit: 1, delete_protection: false } as const;
  const { project: _project, ...shared } = common;
  await cluster.write(
    put(records.storagePools, pool, { id: pool, name: 'fast', description: '', ...kind, ...shared }),
    put(records.volumes, root, { ...common, ...rules, id: root, name: 'root', description: '', size: GiB, pool }),
    put(records.volumeAttachments, attachment, {
      ...common,
      id: attachment,
      vm: vm.id,
      volume: root,
      slot: rootSlot,
      root: true,
    }),
    put(records.volumeSlots, volumeSlotKey(vm.id, rootSlot), { id: attachment }),
    put(records.volumeHolders, root, { id: attachment }),
    put(records.vms, vm.id, vm),
  );
  return { vm, root, member: memberId(cluster.network, vm.interfaces[0]?.mac ?? '') };
}

/** Checks each revision of the database. */
async function observe(
  t: Test,
  cluster: Cluster,
  { vm, root, member }: Awaited<ReturnType<typeof createMovable>>,
  violations: string[],
) {
  const { schedules, placements, networkMembers, volumePlacements, operations } = records;
  const mirror = await openMirror(cluster.store, {
    prefixes: [''],
    kinds: [schedules, placements, networkMembers, volumePlacements, operations],
    logger: silentLogger,
  });
  t.teardown(() => mirror.close());
  let last = 0;
  mirror.subscribe(() => {
    const schedule = mirror.get(schedules, vm.id)?.value;
    if (schedule?.host === undefined) return;
    const { host, fence } = schedule;
    const places = [...mirror.list(placements)].filter(({ id }) => parsePlacementId(id).vm === vm.id);
    const [place] = places;
    if (places.length !== 1 || place?.id !== `${host}/${vm.id}` || place.value.fence !== fence)
      violations.push(`fence ${fence}: the placements are ${places.map(({ id }) => id).join()}`);
    const at = mirror.get(networkMembers, member)?.value;
    if (at?.host !== host || at.fence !== fence || mirror.size(networkMembers) !== 1)
      violations.push(`fence ${fence}: the member is on ${at?.host} with fence ${at?.fence}`);
    if (mirror.get(volumePlacements, root)?.value.host !== host)
      violations.push(`fence ${fence}: the volume is elsewhere`);
    if (fence < last) violations.push(`the fence went from ${last} back to ${fence}`);
    last = fence;
  });
  return mirror;
}

/** Requests a move like the API: of a VM that is declared stopped and has no open move. */
async function requestMove(cluster: Cluster, vm: Id<'vm'>, host: Id<'host'> | undefined): Promise<Id<'operation'>> {
  const operation = newId('operation');
  return retryOnConflict(async () => {
    const stored = await read(cluster.store, records.vms, vm);
    if (stored === undefined) throw new UcloudError('not_found', `${vm} is gone`);
    const options = host === undefined ? {} : { host };
    const record = { id: operation, project: stored.value.project, kind: 'vm_move', target: vm, options } as const;
    const write = [
      put(records.operations, operation, { ...record, state: 'pending', progress: 0, created_at: at, updated_at: at }),
    ];
    return (await cluster.store.commit({ require: [unchanged(stored)], write })).ok ? operation : conflict;
  });
}

t.test('a VM that moves under kills has one placement at every revision', { timeout: 300_000 }, async (t) => {
  const random = new Random(Number(process.env.UCLOUD_TEST_SEED ?? Date.now() % 2 ** 31));
  t.comment(`seed ${random.seed}`);
  const cluster = await withCluster(t);
  const history = new RunHistory();
  const directory = temporaryDirectory(t);
  const hosts = ['a', 'b', 'c'].map((name) => {
    mkdirSync(join(directory, name));
    return new KillableHost(cluster.store, join(directory, name), history, { leaseSeconds: 1 });
  });
  const schedulers = [new KillableScheduler(cluster.store), new KillableScheduler(cluster.store)];
  t.teardown(() => Promise.all([...hosts, ...schedulers].map((each) => each.close())));
  for (const each of [...hosts, ...schedulers]) await each.start();
  for (const { id } of hosts) if (id) await cluster.setPolicy(id);
  const movable = await createMovable(cluster);
  const { vm } = movable;
  const mirror = await observe(t, cluster, movable, history.violations);
  const hasStopped = () => {
    const [schedule, report] = [cluster.schedule(vm.id), cluster.report(vm.id)];
    return report?.phase === 'stopped' && report.reason === undefined && report.fence === schedule?.fence;
  };
  await cluster.until('it is placed', hasStopped);

  const fate = async () => {
    const host = random.pick(hosts);
    switch (random.below(4)) {
      case 0:
        return host?.start(1 + random.below(10));
      case 1:
        return host?.start();
      case 2:
        return random.pick(schedulers)?.start();
      default:
        // The user starts the VM at the same time.
        return cluster.updateVm(vm.id, { power_state: 'running' });
    }
  };
  const outcomes = new Map<string, number>();
  for (let round = 0; round < moves; round++) {
    const asked = random.below(2) === 0 ? random.pick(hosts)?.id : undefined;
    const target = asked === cluster.schedule(vm.id)?.host ? undefined : asked;
    const beside = random.below(3) === 0;
    const [operation] = await Promise.all([requestMove(cluster, vm.id, target), beside ? fate() : undefined]);
    const ended = () => cluster.operation(operation)?.finished_at !== undefined;
    if (!ended()) {
      // Agents that have died come back, as systemd does it.
      for (const host of hosts) if (random.below(2) === 0) await host.start();
      await cluster.until(`move ${round} ends`, ended, 60_000);
    }
    const { state = '', error } = cluster.operation(operation) ?? {};
    const outcome = `${state} ${error?.message.replaceAll(/host-\w+/g, 'HOST') ?? ''}`;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    const isCrashed = await Promise.all(hosts.map(({ crashed }) => Promise.race([crashed, undefined])));
    for (const [index, host] of hosts.entries()) if (isCrashed[index] !== undefined) await host.start();
    await cluster.updateVm(vm.id, { power_state: 'stopped' });
    await cluster.until('it is stopped', hasStopped, 60_000);
  }
  t.comment(JSON.stringify(Object.fromEntries(outcomes)));

  for (const each of [...hosts, ...schedulers]) await each.start();
  await cluster.until('it is stopped', hasStopped);
  const place = cluster.schedule(vm.id)?.host;
  t.ok((cluster.schedule(vm.id)?.fence ?? 0) > moves / 2, `fence ${cluster.schedule(vm.id)?.fence}`);
  const remains = async () =>
    (
      await Promise.all(hosts.map(async ({ id, hypervisor }) => (await hypervisor.list()).map((each) => [id, each.id])))
    ).flat();
  let left = await remains();
  await cluster.until('the other hosts have nothing of it', () => {
    void remains().then((now) => {
      left = now;
    });
    return left.every(([host]) => host === place);
  });
  t.equal(mirror.size(records.placements), 1);
  t.strictSame(
    [...mirror.list(records.operations)].filter(({ value }) => value.finished_at === undefined),
    [],
  );
  t.strictSame(history.violations, []);
});
