/** The page about pools of Ceph: the test runs its commands on a real cluster. */
import { join } from 'node:path';
import t from 'tap';
import { CephPool } from '../../backend/host/storage/pools/ceph-pool.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { cephCluster, noCeph } from '../support/ceph.ts';
import { readerEnvironment, runGuide } from '../support/guide.ts';
import { exemption } from '../support/pages.ts';
import { temporaryDirectory } from '../support/stores.ts';

const page = 'docs/ceph.md';

t.test('the page about pools of Ceph prepares a pool that works', { skip: await noCeph() }, async (t) => {
  const cluster = await cephCluster(t);
  const [home, etc] = [temporaryDirectory(t), join(temporaryDirectory(t), 'ucloud')];
  await runGuide(t, page, temporaryDirectory(t), {
    directory: home,
    environment: { ...readerEnvironment(home), CEPH_CONF: join(cluster.directory, 'ceph.conf') },
    exempt: (block) => exemption(page, block),
    adapt: (text) => text.replaceAll('/etc/ucloud', etc),
  });
  const pool = new CephPool(idFrom('storage_pool', 'stp-0000000000000001'), {
    ...{
      kind: 'ceph',
      monitors: [cluster.monitor],
      user: 'ucloud',
      key_file: join(etc, 'ceph.key'),
      rbd_pool: 'ucloud',
    },
  });
  const volume = idFrom('volume', 'vol-0000000000000001');
  await pool.ensure(volume, 1024 ** 2);
  t.strictSame(await pool.list(), [volume]);
  t.equal(await pool.usage(), undefined, 'a cluster without a manager knows no space, and its pool works');
});
