/** A host: its policy, and the end of its record. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { hostRecord } from '../support/host-record.ts';

t.test('a host', async (t) => {
  const test = await startTestApi(t);
  const { operator, store } = test;
  const id = newId('host');
  const capacity = { cpus: 8, memory: 2 ** 34, disk: 2 ** 40 };
  const record = hostRecord({ id, name: 'node1', capacity });
  await store.commit({ write: [put(records.hosts, id, record), put(records.alive, id, { at: 'now' })] });
  const vm = newId('vm');
  await store.commit({
    write: [put(records.placements, `${id}/${vm}`, { fence: 1, cpus: 2, memory: 2 ** 30, disk: 0, at: 'now' })],
  });
  const seen = await operator.expect(200, 'GET', `/v1/hosts/${id}`, undefined, { 'ucloud-min-revision': '4' });
  t.match(seen.body, { alive: true, draining: false, allocated: { cpus: 2, memory: 2 ** 30 }, labels: {} });
  const changed = await operator.update('hosts', id, { draining: true, labels: { rack: '1' } });
  t.match(changed, { draining: true, labels: { rack: '1' } });
  t.equal((await operator.list('hosts', '?selector=rack%3D1')).items.length, 1);
  t.match(await operator.request('DELETE', `/v1/hosts/${id}`), { status: 409, body: { code: 'invalid_state' } });
  await store.commit({ write: [{ delete: `alive/${id}` }] });
  t.match(await operator.request('DELETE', `/v1/hosts/${id}`), { status: 409 });
  await store.commit({ write: [{ delete: `placements/${id}/${vm}` }] });
  await operator.remove('hosts', id);
  t.equal((await operator.list('hosts')).items.length, 0);
});
