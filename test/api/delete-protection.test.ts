/** Delete protection, the same for every resource that has it. */
import t from 'tap';
import * as records from '../../backend/model/records/index.ts';
import { put, read } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { until } from '../support/eventually.ts';

t.test('a protected object stays until the protection is taken off', async (t) => {
  const { operator, store } = await startTestApi(t);
  const { id: project } = await operator.create('projects', { name: 'kept' });
  const delete_protection = true;
  const pool = await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/40', delete_protection });
  const shared = { name: 'shared', kind: 'shared', path: '/srv/shared', delete_protection };
  const storagePool = await operator.create('storage-pools', shared);
  const prefix = await operator.create('prefixes', { name: 'site', project, delete_protection });
  const network = await operator.create('networks', { name: 'web', project, prefix: prefix.id, delete_protection });
  for (const [plural, { id }] of [
    ['networks', network] as const,
    ['prefixes', prefix] as const,
    ['prefix-pools', pool] as const,
    ['storage-pools', storagePool] as const,
  ]) {
    t.match(
      await operator.expect(409, 'DELETE', `/v1/${plural}/${id}`),
      { body: { code: 'delete_protected' } },
      plural,
    );
    t.match(await operator.update(plural, id, { delete_protection: false }), { delete_protection: false });
    if (plural === 'prefixes') {
      // As an earlier version has written it.
      const stored = await read(store, records.prefixes, id);
      if (!stored) throw new Error('the prefix is there');
      const { delete_protection: _none, ...older } = stored.value;
      await store.commit({ write: [put(records.prefixes, id, older)] });
      await until(
        'the older record shows',
        async () => (await operator.get('prefixes', id)).revision > stored.revision,
      );
      t.match(await operator.get('prefixes', id), { delete_protection: false });
    }
    await operator.remove(plural, id);
  }
});
