/** Follows the guide about moves of VMs, on simulated hosts. */
import t from 'tap';
import * as records from '../../backend/model/records/index.ts';
import { startTestCloud } from '../support/cloud.ts';
import { until } from '../support/eventually.ts';
import { readerEnvironment, runGuide } from '../support/guide.ts';
import { exemption } from '../support/pages.ts';
import { temporaryDirectory } from '../support/stores.ts';

const page = 'docs/guides/move-a-vm.md';

t.test('the guide about moves', { timeout: 300_000 }, async (t) => {
  const { api, member, project } = await startTestCloud(t, { moreHosts: 1 });
  const prefix = await member.create('prefixes', { name: 'site', length: 60 });
  await member.create('networks', { name: 'web', prefix: prefix.id });
  const pool = await api.operator.create('storage-pools', { name: 'fast', kind: 'shared', path: '/srv/fast' });
  await until('both hosts reach the pool', async () => {
    const { entries } = await api.store.list(`${records.poolReports.prefix}${pool.id}/`);
    return entries.length === 2;
  });
  const home = temporaryDirectory(t);
  const names = (await api.operator.list('hosts')).items.map(({ name }) => String(name));
  const second = names.find((name) => name !== 'rack1-node1') ?? '';
  await runGuide(t, page, temporaryDirectory(t), {
    directory: home,
    environment: {
      ...readerEnvironment(home),
      UCLOUD_ENDPOINT: api.url,
      UCLOUD_TOKEN: api.operator.token,
      UCLOUD_PROJECT: project,
    },
    exempt: (block) => exemption(page, block),
    adapt: (text) =>
      text
        .replaceAll('npx ucloud', 'ucloud')
        .replaceAll('rack1-node2', second)
        .replace('Moved from rack1-node… to rack1-node…', 'Moved from … to …'),
  });
});
