/** Snapshot schedules through API and hosts, with simulated guests and a clock of the test. */
import t, { type Test } from 'tap';
import { startApi } from '../../backend/api/start.ts';
import { idFrom, newId } from '../../backend/model/ids.ts';
import type { ApiClient, Body } from '../support/api.ts';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { silentLogger as logger } from '../support/silent-logger.ts';

const hourMs = 3_600_000;
/** Half an hour from now, so that no time is due while a test runs, whatever the time of the machine. */
const minute = `${(new Date().getUTCMinutes() + 30) % 60}`.padStart(2, '0');
const hourly = `${Number(minute)} * * * *`;

/** A cloud with a volume that has data, and a clock that goes only by `pass`. */
async function scheduleCloud(t: Test, options: Parameters<typeof startTestCloud>[1] = {}) {
  let nowMs = Date.now();
  const scheduleClock = { now: () => new Date(nowMs) };
  const cloud = await startTestCloud(t, { ...options, scheduleClock });
  const { member } = cloud;
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  const network = await member.create('networks', { name: 'web', prefix: prefix.id });
  const { items } = await member.list('images', '?name=demo');
  const volume = await member.create('volumes', { name: 'data', size: '2GiB' });
  const interfaces = [{ network: network.id }];
  const vm = await member.create('vms', {
    ...{ name: 'web', image: items[0]?.id, disk_size: '1GiB', interfaces, volumes: [volume.id] },
  });
  await until('the volume has data', async () => (await member.get('volumes', volume.id)).status.size === '2GiB');
  let changes = 0;
  /** Lets time pass, and makes the job look at the schedule. */
  const pass = async (schedule: Body, hours: number) => {
    nowMs += hours * hourMs;
    await member.update('snapshot-schedules', schedule.id, { description: `${changes++}` });
  };
  const names = async () => (await member.list('snapshots')).items.map(({ name }) => name);
  return { ...cloud, cloud, scheduleClock, volume, vm, pass, names };
}

const allAvailable = (client: ApiClient, count: number) =>
  until(`${count} snapshots are available`, async () => {
    const { items } = await client.list('snapshots');
    return items.length === count && items.every(({ status }) => status.phase === 'available');
  });

t.test('a schedule makes one snapshot at each time, and keeps the newest', async (t) => {
  const { member, volume, pass, names } = await scheduleCloud(t);
  const manual = await member.create('snapshots', { name: 'manual', volume: volume.id });
  const schedule = await member.create('snapshot-schedules', {
    ...{ name: 'hourly', volume: volume.id, cron: hourly, retain: 2, snapshot_labels: { made: 'hourly' } },
  });
  t.match(schedule, { status: { phase: 'active', next_at: new RegExp(`T\\d\\d:${minute}:00`) } });
  await allAvailable(member, 1);
  await pass(schedule, 1);
  await allAvailable(member, 2);
  const [first] = (await member.list('snapshots')).items.filter(({ id }) => id !== manual.id);
  t.match(first, {
    ...{
      name: new RegExp(`^hourly-\\d{8}-\\d\\d${minute}$`),
      labels: { made: 'hourly' },
      volume: volume.id,
      consistency: 'crash',
    },
    schedule: schedule.id,
  });
  t.match(await member.get('snapshot-schedules', schedule.id), { status: { last_snapshot: first?.id } });
  // An outage of five hours.
  await pass(schedule, 5);
  await allAvailable(member, 3);
  await member.update('snapshots', first?.id ?? '', { delete_protection: true });
  for (const count of [4, 4]) {
    await pass(schedule, 1);
    await allAvailable(member, count);
  }
  t.ok((await names()).includes(first?.name ?? '?'), 'a protected snapshot neither goes nor counts');
  await member.remove('snapshot-schedules', schedule.id);
  await allAvailable(member, 4);
  t.ok((await names()).includes('manual'), 'a snapshot made by hand stays');
});

t.test('several API processes make one snapshot at each time', async (t) => {
  const { api, member, volume, pass, scheduleClock } = await scheduleCloud(t);
  for (let others = 0; others < 2; others++) {
    const other = await startApi({ store: api.store, logger, listen: { host: '::1', port: 0 }, scheduleClock });
    t.teardown(() => other.close());
  }
  const schedule = await member.create('snapshot-schedules', {
    ...{ name: 'hourly', volume: volume.id, cron: hourly, retain: 100 },
  });
  for (let count = 1; count <= 3; count++) {
    // The usual name is taken, so the names of the processes differ, and no name prevents a second snapshot.
    const due = new Date(scheduleClock.now().getTime() + hourMs).toISOString();
    const name = `hourly-${due.slice(0, 10).replaceAll('-', '')}-${due.slice(11, 13)}00`;
    await member.create('snapshots', { name, volume: volume.id });
    await allAvailable(member, 2 * count - 1);
    await pass(schedule, 1);
    await allAvailable(member, 2 * count);
  }
});

t.test('a schedule says why there is no snapshot, and tries again at its next time', async (t) => {
  let failing = false;
  const { api, member, project, volume, vm, pass } = await scheduleCloud(t, {
    fault: (step) => {
      if (step === 'createSnapshot' && failing) throw new Error('the disk of the host does not answer');
    },
    retryMs: 5,
  });
  await api.operator.update('projects', project, { quota: { snapshots: 0 } });
  const schedule = await member.create('snapshot-schedules', {
    ...{ name: 'hourly', vm: vm.id, cron: hourly, retain: 1 },
  });
  const reasonIs = (reason: string | undefined) =>
    until(`the reason is ${reason}`, async () => {
      return (await member.get('snapshot-schedules', schedule.id)).status.reason === reason;
    });
  await pass(schedule, 1);
  await reasonIs('quota_exceeded');
  t.match(await member.get('snapshot-schedules', schedule.id), {
    status: { phase: 'active', message: /^No snapshot could be made: .*may have no snapshots/ },
  });
  await api.operator.update('projects', project, { quota: {} });
  await pass(schedule, 1);
  await allAvailable(member, 1);
  await reasonIs(undefined);
  const [good] = (await member.list('snapshots')).items;
  failing = true;
  await pass(schedule, 1);
  await until('it fails', async () =>
    (await member.list('snapshots')).items.some(({ status }) => status.phase === 'error'),
  );
  t.equal((await member.get('snapshots', good?.id ?? '')).status.phase, 'available', 'a failure displaces nothing');
  failing = false;
  await pass(schedule, 1);
  await allAvailable(member, 1);

  await member.remove('vms', vm.id);
  t.match(await member.get('snapshot-schedules', schedule.id), { status: { phase: 'source_gone' } });
  await pass(schedule, 24);
  await allAvailable(member, 1);
  await member.remove('volumes', volume.id);
});

t.test('a clock that was wrong for some time neither stops a schedule nor costs good snapshots', async (t) => {
  const { member, volume, pass } = await scheduleCloud(t);
  const schedule = await member.create('snapshot-schedules', {
    ...{ name: 'hourly', volume: volume.id, cron: hourly, retain: 1 },
  });
  const year = 365 * 24;
  await pass(schedule, year);
  await allAvailable(member, 1);
  const [early] = (await member.list('snapshots')).items;
  await pass(schedule, 1 - year);
  await until('a snapshot of the right time replaces that of the future', async () => {
    const { items } = await member.list('snapshots');
    return items.length === 1 && items[0]?.id !== early?.id && items[0]?.status.phase === 'available';
  });
  await pass(schedule, 1);
  await until('and the next time has one, too', async () => {
    const { last_at: at } = (await member.get('snapshot-schedules', schedule.id)).status as { last_at?: string };
    return at !== undefined && Date.parse(at) > Date.now() && Date.parse(at) < Date.now() + 3 * hourMs;
  });
});

t.test('incomplete snapshots of a schedule do not pile up', async (t) => {
  const capacity = { cpus: 8, memory: 64 * 1024 ** 3, disk: 4 * 1024 ** 3 };
  const { member, volume, pass } = await scheduleCloud(t, { capacity });
  const schedule = await member.create('snapshot-schedules', {
    ...{ name: 'hourly', volume: volume.id, cron: hourly, retain: 5 },
  });
  await pass(schedule, 1);
  await until(
    'it waits for space',
    async () => (await member.list('snapshots')).items[0]?.status.reason === 'no_space',
  );
  for (let hours = 0; hours < 3; hours++) {
    await pass(schedule, 1);
    await until('it says so', async () => {
      const { status } = await member.get('snapshot-schedules', schedule.id);
      return status.reason === 'unfinished';
    });
  }
  t.equal((await member.list('snapshots')).items.length, 1);
});

t.test('bad schedules are refused and leave nothing', async (t) => {
  const { api, member, volume, vm } = await scheduleCloud(t);
  const body = { name: 'bad', cron: '0 3 * * *', retain: 1 };
  const refused = (change: object, client = member) =>
    client.request('POST', '/v1/snapshot-schedules', { ...body, ...change });
  const one = { status: 422, body: { errors: [{ pointer: '/volume', detail: /exactly one of volume and vm/ }] } };
  t.match(await refused({}), one);
  t.match(await refused({ volume: volume.id, vm: vm.id }), one);
  for (const cron of ['* 3 * * *', '0 3 31 2 *', '61 3 * * *']) {
    t.match(
      await refused({ volume: volume.id, cron }),
      { status: 422, body: { errors: [{ pointer: '/cron' }] } },
      cron,
    );
  }
  for (const cron of ['0 3 * * MON', '@daily', '0 3 * *', `0 ${'1,'.repeat(200)}1 * * *`]) {
    t.match(
      await refused({ volume: volume.id, cron }),
      { status: 400, body: { errors: [{ pointer: '/cron' }] } },
      cron,
    );
  }
  for (const retain of [0, -1, 1.5, 1e9]) {
    t.match(await refused({ volume: volume.id, retain }), { status: 400, body: { errors: [{ pointer: '/retain' }] } });
  }
  const stranger = (await api.operator.create('projects', { name: 'stranger' })).id;
  const outsider = await api.member(idFrom('project', stranger));
  for (const source of [{ volume: volume.id }, { vm: vm.id }, { volume: newId('volume') }]) {
    t.match(await refused(source, outsider), { status: 422, body: { code: 'invalid_reference' } });
  }
  t.strictSame((await member.list('snapshot-schedules')).items, []);
  const own = await member.create('snapshot-schedules', { ...body, volume: volume.id, delete_protection: true });
  const path = `/v1/snapshot-schedules/${own.id}`;
  t.match(await outsider.request('GET', path), { status: 404 });
  t.match(await outsider.request('PATCH', path, { retain: 2 }), { status: 404 });
  t.match(await member.request('DELETE', path), { status: 409, body: { code: 'delete_protected' } });
  t.match(await member.request('PATCH', path, { cron: '0 3 31 2 *' }), {
    status: 422,
    body: { errors: [{ pointer: '/cron', detail: /a day that exists/ }] },
  });
});
