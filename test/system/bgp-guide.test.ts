/** The guide `Announce your prefixes`, followed with real processes of bird. The VMs are simulated. */
import { join } from 'node:path';
import t from 'tap';
import { imageReports } from '../../backend/model/records/index.ts';
import { startScheduler } from '../../backend/scheduler/start.ts';
import { put } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { BgpLab, underlayAddress } from '../support/bgp-lab.ts';
import { until } from '../support/eventually.ts';
import { readerEnvironment, runGuide } from '../support/guide.ts';
import { noNamespaces } from '../support/net-namespace.ts';
import { exemption } from '../support/pages.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { startSimulatedHost } from '../support/simulated-host.ts';
import { temporaryDirectory } from '../support/stores.ts';

const page = 'docs/guides/announce-prefixes.md';

t.test('a reader announces prefixes to a router', { skip: noNamespaces('bird'), timeout: 300_000 }, async (t) => {
  const lab = new BgpLab(t);
  const { url, operator, operatorToken, project, store } = await startTestApi(t);
  const scheduler = await startScheduler({ store, logger: silentLogger });
  t.teardown(() => scheduler.close());
  const underlay = { address: underlayAddress, mtu: 1500 };
  await startSimulatedHost(t, store, { name: 'rack1-node1', underlay, bird: lab.bird() });
  await operator.create('prefix-pools', { name: 'main', cidr: '2001:db8::/40' });
  const prefix = await operator.create('prefixes', { name: 'site', project });
  await operator.create('networks', { name: 'web', project, prefix: prefix.id });
  const image = await operator.create('images', { name: 'demo', project, source: 'file:demo.raw' });
  const report = { phase: 'available', size: 2 ** 20, at: new Date().toISOString() } as const;
  await store.commit({ write: [put(imageReports, image.id, report)] });
  const [home, reader] = [temporaryDirectory(t), lab.directory];
  const password = join(reader, 'bgp-password');
  await runGuide(t, page, temporaryDirectory(t), {
    directory: reader,
    environment: {
      ...readerEnvironment(home),
      UCLOUD_ENDPOINT: url,
      UCLOUD_TOKEN: operatorToken,
      UCLOUD_PROJECT: 'default',
    },
    exempt: (block) => exemption(page, block),
    adapt: (text) =>
      text
        // The command is installed. Without it, npx would look into the registry.
        .replaceAll('npx ucloud', 'ucloud')
        .replaceAll('/etc/ucloud/bgp-password', password)
        .replaceAll('bird -c bird.conf -s bird.ctl', `ip netns exec ${lab.spine.name} bird -c bird.conf -s bird.ctl`),
  });
  await until('bird of the host has ended', async () => (await lab.bird().find()).length === 0);
});
