/** Two versions of ucloud on one database: what the newer one has written, the older one must neither lose nor tell. */
import t from 'tap';
import { guardFormat } from '../../backend/cli/format-guard.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put } from '../../backend/store/collection.ts';
import type { Store } from '../../backend/store/store.ts';
import { type Body, contentOf, createVmPrerequisites, startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';
import { hostRecord } from '../support/host-record.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSimulatedHost } from '../support/simulated-host.ts';
import { withStore } from '../support/stores.ts';

const newer = { newer: ['secret'] };

/** Adds a field to every object in a record, except to those that are maps. */
function extended(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(extended);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).map(([name, each]) => [name, name === 'labels' ? each : extended(each)]);
  return { ...Object.fromEntries(fields), ...newer };
}

const count = (text: string): number => text.split('"newer"').length - 1;

/** Rewrites all records as a newer version would have written them, which adds a field in every place. */
async function upgrade(store: Store): Promise<Map<string, string>> {
  for (const key of (await contentOf(store)).keys()) {
    // Leases would be lost with their keys: who lives and who leads is written anew all the time.
    if (/^(alive|leader)\//.test(key)) continue;
    await until(`${key} extended`, async () => {
      const entry = await store.get(key);
      if (entry === undefined) return true;
      const value = JSON.stringify(extended(JSON.parse(entry.value)));
      return (await store.commit({ require: [{ key, revision: entry.revision }], write: [{ put: key, value }] })).ok;
    });
  }
  return contentOf(store);
}

t.test('fields of a newer version survive every change by an older one, and no answer shows them', async (t) => {
  const store = await withStore(t);
  const test = await startTestApi(t, { store });
  const { operator } = test;
  const scheduler = await startScheduler({ store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  const host = await startSimulatedHost(t, store);

  const quota = { vms: 10, memory: '64GiB' };
  const project = await operator.create('projects', { name: 'acme', quota });
  const prerequisites = await createVmPrerequisites(test, project.id);
  const lock = { ID: 'one', Operation: 'apply', Info: '', Who: 'alice', Version: '1.11.4', Path: '' };
  const member = await test.member(project.id);
  await member.expect(200, 'POST', '/v1/terraform-states/site/lock', lock);
  await operator.update('hosts', host.id, { labels: { rack: 'one' } });
  const token = await operator.create('tokens', { name: 'spare', project: project.id, role: 'member' });
  // Imported, as far as the scheduler and the agent ask.
  const at = new Date().toISOString();
  await store.commit({
    write: [put(records.imageReports, prerequisites.image.id, { phase: 'available', size: 1024, at })],
  });
  const vm = await operator.create('vms', {
    name: 'web',
    project: project.id,
    image: prerequisites.image.id,
    interfaces: [{ network: prerequisites.network.id }],
    ssh_keys: [prerequisites.sshKey.id],
    anti_affinity: { group: 'web', mode: 'preferred' },
  });
  const status = async (wanted: (vm: Body) => boolean) => {
    for (let seen = await operator.get('vms', vm.id); ; ) {
      if (wanted(seen)) return seen;
      seen = await operator.get('vms', vm.id, `?after=${seen.revision}&timeout=30`);
    }
  };
  await status((seen) => seen.status.ready);
  const reboot = (await operator.expect(202, 'POST', `/v1/vms/${vm.id}/reboot`, {})).body;
  await until('the reboot', async () => (await operator.get('operations', reboot.id)).state === 'succeeded');

  const before = await upgrade(store);
  t.ok(before.size > 20);

  // Every answer is checked against openapi.yaml besides.
  const answers = await Promise.all(
    ['projects', 'tokens', 'ssh-keys', 'images', 'prefix-pools', 'prefixes', 'networks', 'vms', 'hosts', 'operations']
      .concat('terraform-states', 'events')
      .map((plural) => operator.list(plural)),
  );
  t.notMatch(JSON.stringify(answers), /newer/, 'no answer shows them');

  const labels = { tier: 'web' };
  await operator.update('projects', project.id, { labels, quota: { ...quota, vms: 9 } });
  await operator.update('tokens', token.id, { labels });
  await operator.update('ssh-keys', prerequisites.sshKey.id, { labels });
  await operator.update('images', prerequisites.image.id, { labels });
  await operator.update('prefix-pools', prerequisites.pool.id, { labels });
  await operator.update('prefixes', prerequisites.prefix.id, { labels });
  await operator.update('networks', prerequisites.network.id, { labels });
  await operator.update('hosts', host.id, { labels });
  // Of the quota's guard and of the pool's map: more of what is counted.
  await operator.create('prefixes', { name: 'second', project: project.id, pool: prerequisites.pool.id });
  const other = { ...lock, ID: 'two' };
  await member.expect(423, 'POST', '/v1/terraform-states/site/lock', other);
  await member.expect(200, 'POST', '/v1/terraform-states/site?ID=one', {
    version: 4,
    serial: 1,
    lineage: 'x',
    terraform_version: '1.11.4',
    outputs: {},
    resources: [],
  });
  // More than any host has: the scheduler notes why; then less, which it grants.
  await operator.update('vms', vm.id, { labels, cpus: 256 });
  const schedule = records.schedules.prefix + vm.id;
  const noted = await until('a note', async () => {
    const text = (await store.get(schedule))?.value;
    return text?.includes('resize_waits') && text;
  });
  t.equal(count(noted), count(before.get(schedule) ?? ''), 'the note of the scheduler');
  await operator.update('vms', vm.id, { cpus: 2 });
  const placement = `${records.placements.prefix}${host.id}/${vm.id}`;
  await until('a grant', async () => /"cpus":2\b/.test((await store.get(placement))?.value ?? ''));
  await until('no note', async () => (await store.get(schedule))?.value === before.get(schedule));

  const after = await contentOf(store);
  // Observations are made anew by who observes: what was seen before is not what is.
  // An order never changes: a resize opens the next one.
  const madeAnew = /^(hosts|reports|guests|image-reports|alive|leader|orders)\//;
  const changed = [...before].filter(([key, text]) => !madeAnew.test(key) && after.get(key) !== text);
  t.strictSame(
    [...new Set(changed.map(([key]) => key.slice(0, key.indexOf('/') + 1)))].sort(),
    [
      ...['host-policies/', 'images/', 'networks/', 'placements/', 'prefix-maps/', 'prefix-pools/', 'prefixes/'],
      ...['projects/', 'quota-guards/', 'ssh-keys/', 'terraform-states/', 'tokens/', 'vms/'],
    ],
    'what an older version changes was changed',
  );
  for (const [key, text] of changed) t.equal(count(after.get(key) ?? ''), count(text), `${key} keeps what was added`);

  // An operation, which the agent carries on.
  await host.close();
  const second = (await operator.expect(202, 'POST', `/v1/vms/${vm.id}/reboot`, {})).body;
  const open = (await upgrade(store)).get(records.operations.prefix + second.id) ?? '';
  await startSimulatedHost(t, store, { dataDir: host.dataDir });
  await until('the reboot', async () => (await operator.get('operations', second.id)).state === 'succeeded');
  const ended = (await store.get(records.operations.prefix + second.id))?.value ?? '';
  t.equal(count(ended), count(open), 'an operation, too');

  // And it deletes what has them: nothing is left over.
  await operator.remove('vms', vm.id);
  t.equal(await store.get(placement), undefined);
});

t.test('a version does not touch a database that it would get wrong', async (t) => {
  const store = await withStore(t);
  const told: Error[] = [];
  const guard = await guardFormat(store.session(), silentLogger, (error) => told.push(error));
  t.teardown(() => guard.close());
  await store.commit({ write: [put(records.formats, 'store', { reader: records.currentFormat })] });
  const again = await guardFormat(store.session(), silentLogger, (error) => told.push(error));
  await again.close();
  t.same(told, [], 'of its own format it is');
  await store.commit({ write: [put(records.formats, 'store', { reader: records.currentFormat + 1 })] });
  await until('it is told', () => told.length > 0);
  const [newer, current] = [records.currentFormat + 1, records.currentFormat];
  t.match(told, [{ message: `records of format ${newer}; this version understands ${current}: upgrade it` }]);
  await t.rejects(
    guardFormat(store.session(), silentLogger, () => t.fail('both told and rejected')),
    { message: new RegExp(`records of format ${newer}`) },
  );
});

t.test('the first record that older versions would misread raises the format', async (t) => {
  const { store, operator, project } = await startTestApi(t);
  const formatNow = async () => (await store.get(`${records.formats.prefix}${records.storeFormat}`))?.value;
  const name = 'base';
  await operator.create('volumes', { name: 'plain', project, size: '1GiB' });
  t.equal(await formatNow(), undefined, 'older versions understand a plain volume');
  const image = await operator.create('images', { name, project, source: 'file:base.raw', architecture: 'x86_64' });
  t.equal(await formatNow(), '{"reader":2}', 'older versions cannot read the operation of an import');
  await operator.create('volumes', { name: 'root', project, size: '1GiB', image: image.id });
  t.equal(await formatNow(), '{"reader":2}');
  await operator.create('volumes', { name: 'second', project, size: '1GiB', image: image.id });
  t.equal(await formatNow(), '{"reader":2}');
});

t.test('records that an older scheduler would ignore raise the format', async (t) => {
  const test = await startTestApi(t);
  const { store, operator, project } = test;
  const formatNow = async () => (await store.get(`${records.formats.prefix}${records.storeFormat}`))?.value;
  const { image, network } = await createVmPrerequisites(test, project);
  const host = newId('host');
  await store.commit({ write: [put(records.hosts, host, hostRecord({ id: host }))] });
  await until('the host', async () => (await operator.list('hosts')).items.length === 1);
  await operator.update('hosts', host, { draining: true, labels: { zone: 'a' } });
  const vm = { project, image: image.id, interfaces: [{ network: network.id }], disk_size: '1GiB' };
  await operator.create('vms', { ...vm, name: 'anywhere' });
  t.not(await formatNow(), '{"reader":4}', 'labels, drain and plain VMs are known');
  await operator.update('hosts', host, { cordoned: true });
  t.equal(await formatNow(), '{"reader":4}', 'an older scheduler would place VMs on a cordoned host');
});

t.test('a VM with a host selector raises the format', async (t) => {
  const test = await startTestApi(t);
  const { store, operator, project } = test;
  const { image, network } = await createVmPrerequisites(test, project);
  const vm = { project, image: image.id, interfaces: [{ network: network.id }], disk_size: '1GiB', name: 'chosen' };
  await operator.create('vms', { ...vm, host_selector: 'zone=a' });
  t.equal((await store.get(`${records.formats.prefix}${records.storeFormat}`))?.value, '{"reader":4}');
});
