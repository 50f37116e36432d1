/**
 * Kills an agent before and after each action in the life of a VM, once at each point. The next agent must bring the VM
 * to the same final state. The points run concurrently, each with its own host and VM.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Id } from '../../backend/contract/fields.ts';
import {
  attachmentReports,
  placements,
  reports,
  schedules,
  volumePlacements,
  volumeReports,
  volumes,
} from '../../backend/model/records/index.ts';
import { put, remove } from '../../backend/store/collection.ts';
import { type Cluster, GiB, withCluster } from '../support/cluster.ts';
import { KillableHost, RunHistory } from '../support/killable-host.ts';
import { temporaryDirectory } from '../support/stores.ts';

async function assign(cluster: Cluster, vm: Id<'vm'>, host: Id<'host'>): Promise<void> {
  const at = new Date().toISOString();
  const given = { fence: 1, cpus: 1, memory: GiB, disk: GiB, at };
  await cluster.write(put(schedules, vm, { host, fence: 1, at }), put(placements, `${host}/${vm}`, given));
}

/** Runs the whole life of a VM once. Returns the number of boundaries that the first agent passed. */
async function live(cluster: Cluster, host: KillableHost, history: RunHistory, crashAt?: number): Promise<number> {
  let agents = 1;
  await host.start(crashAt);
  const watch = (crashed: Promise<string>): Promise<void> =>
    crashed.then(async () => {
      agents++;
      await host.start();
    });
  const restarted = watch(host.crashed);
  if (host.id === undefined) await restarted;
  const { id } = host;
  if (id === undefined) throw new Error('the host has no id');
  const vm = await cluster.createVm();
  await assign(cluster, vm, id);
  const where = `crash at boundary ${crashAt}`;
  const isReady = () => cluster.phase(vm) === 'running' && cluster.ready(vm);
  await cluster.until(`ready, ${where}`, isReady);
  await cluster.updateVm(vm, { power_state: 'stopped' });
  await cluster.until(`stopped, ${where}`, () => cluster.phase(vm) === 'stopped');
  await cluster.updateVm(vm, { power_state: 'running' });
  await cluster.until(`ready again, ${where}`, isReady);
  await cluster.updateVm(vm, { user_data: '#!/bin/sh' });
  await cluster.until(`a restart is owed, ${where}`, () => cluster.pending(vm) === 'user_data');
  const { volume, attachment } = await cluster.attachVolume(vm, id);
  const attached = () => cluster.mirror.get(attachmentReports, attachment)?.value.phase === 'attached';
  const hasVolume = () => host.hypervisor.volumesOf(vm).includes(volume);
  await cluster.until(`the guest has the volume, ${where}`, () => attached() && hasVolume());
  const reboot = await cluster.rebootVm(vm);
  await cluster.until(`rebooted, ${where}`, () => cluster.operation(reboot)?.state === 'succeeded');
  await cluster.until(`ready after the reboot, ${where}`, isReady);
  if (cluster.pending(vm) !== '') throw new Error(`${where}: it was restarted without the new user data`);
  await cluster.until(`the guest has the volume again, ${where}`, () => attached() && hasVolume());
  await cluster.detachVolume(attachment);
  await cluster.until(`no claim, ${where}`, () => cluster.mirror.get(attachmentReports, attachment) === undefined);
  if (hasVolume()) throw new Error(`${where}: the guest has the volume without a claim`);
  await cluster.deleteVolume(volume, attachment);
  const data = () => cluster.mirror.get(volumeReports, volume)?.value.phase;
  await cluster.until(`the data is removed, ${where}`, () => data() === 'gone');
  await cluster.write(remove(volumePlacements, volume), remove(volumes, volume), remove(volumeReports, volume));
  await cluster.deleteVm(vm);
  await cluster.until(`gone, ${where}`, () => cluster.phase(vm) === 'gone');
  await cluster.write(remove(schedules, vm), remove(placements, `${id}/${vm}`));
  await cluster.until(`forgotten, ${where}`, () => cluster.mirror.get(reports, vm) === undefined);
  await cluster.until(`no network, ${where}`, () => host.hypervisor.networks().length === 0);
  const left = await host.hypervisor.list();
  if (left.length > 0) throw new Error(`${where}: ${JSON.stringify(left)} is left on the machine`);
  const runs = history.runs.get(vm);
  if (runs !== 3) throw new Error(`${where}: it ran ${runs} times, not 3`);
  const { boundaries } = host;
  await host.close();
  if (crashAt !== undefined && agents !== 2) throw new Error(`${where}: nothing crashed`);
  return boundaries;
}

t.test('after a kill at any step, the next agent brings the VM to the same state', async (t) => {
  const history = new RunHistory();
  const directory = temporaryDirectory(t);
  const newHost = (cluster: Cluster, name: string) => {
    mkdirSync(join(directory, name));
    return new KillableHost(cluster.store, join(directory, name), history);
  };
  const first = await withCluster(t);
  t.teardown(history.watch(first.mirror));
  const total = await live(first, newHost(first, 'whole'), history);
  t.ok(total > 40, `a whole life has ${total} boundaries`);
  const failures: string[] = [];
  // Every agent sees every commit, so the points run in groups, each with its own database.
  for (let start = 1; start <= total - 2; start += 16) {
    const cluster = await withCluster(t);
    t.teardown(history.watch(cluster.mirror));
    const points = Array.from({ length: Math.min(16, total - 1 - start) }, (_, index) => start + index);
    const lives = points.map((point) => live(cluster, newHost(cluster, `n${point}`), history, point));
    for (const each of await Promise.allSettled(lives)) {
      if (each.status === 'rejected') failures.push(String(each.reason));
    }
  }
  t.strictSame(failures, []);
  t.strictSame(history.violations, []);
  t.equal(history.running.size, 0);
});
