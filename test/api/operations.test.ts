/** Operations: the reboot of a VM. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put, read, unchanged } from '../../backend/store/collection.ts';
import { createVmPrerequisites, startTestApi } from '../support/api.ts';

t.test('a reboot', async (t) => {
  const test = await startTestApi(t);
  const { operator, project, store } = test;
  const prerequisites = await createVmPrerequisites(test, project);
  const vmBody = {
    project,
    image: prerequisites.image.id,
    disk_size: '1GiB',
    interfaces: [{ network: prerequisites.network.id }],
  };
  const vm = await operator.create('vms', { ...vmBody, name: 'a' });
  const path = `/v1/vms/${vm.id}/reboot`;
  t.match(await operator.request('POST', path, {}), {
    status: 409,
    body: { code: 'invalid_state', detail: /no host/ },
  });
  const at = new Date().toISOString();
  await store.commit({ write: [put(records.schedules, vm.id, { host: newId('host'), fence: 1, at })] });
  await operator.get('vms', vm.id, `?after=${vm.revision}&timeout=60`);
  const both = await Promise.all([operator.request('POST', path, { force: true }), operator.request('POST', path, {})]);
  t.same(both.map(({ status }) => status).sort(), [202, 409], 'one at a time');
  const [operation] = (await operator.list('operations', `?target=${vm.id}`)).items;
  t.match(operation, { state: 'pending', target: vm.id });
  const stored = await read(store, records.operations, operation?.id ?? '');
  if (!stored) throw new Error('the operation lies in the store');
  const done = { ...stored.value, state: 'succeeded', progress: 100, finished_at: at } as const;
  const waiting = operator.get('operations', stored.id, `?after=${operation?.revision}&timeout=60`);
  await store.commit({ require: [unchanged(stored)], write: [put(records.operations, stored.id, done)] });
  t.match(await waiting, { state: 'succeeded' });
  const again = await operator.expect(202, 'POST', path, {}, { 'idempotency-key': 'again' });
  const replay = await operator.expect(202, 'POST', path, {}, { 'idempotency-key': 'again' });
  t.equal(replay.body.id, again.body.id);
  await operator.update('vms', vm.id, { power_state: 'stopped' });
  t.match(await operator.request('POST', path, {}), { status: 409, body: { detail: /stopped/ } });
  const deletion = await operator.expect(202, 'DELETE', `/v1/vms/${vm.id}`);
  t.match(await operator.request('POST', path, {}), { status: 409, body: { code: 'being_deleted' } });
  await store.commit({ write: [{ delete: `schedules/${vm.id}` }] });
  await operator.gone('vms', vm.id, deletion.body.revision);
  t.match(
    await operator.get('operations', again.body.id),
    { state: 'failed' },
    'what cannot happen any more has failed',
  );
});
