/** The drivers of storage pools: all behave in the same way. */
import t from 'tap';
import { CephPool } from '../../backend/host/storage/pools/ceph-pool.ts';
import { idFrom } from '../../backend/model/ids.ts';
import { cephCluster, noCeph } from '../support/ceph.ts';
import { poolSuite } from '../support/pool-suite.ts';

t.test('a pool of Ceph', { skip: await noCeph(), timeout: 300_000 }, async (t) => {
  const cluster = await cephCluster(t);
  const settings = await cluster.pool('suite');
  await poolSuite(t, {
    open: () => new CephPool(idFrom('storage_pool', 'stp-0000000000000001'), settings),
    async addForeign() {
      await cluster.admin('rbd', 'create', '--size', '1M', 'suite/foreign');
      await cluster.admin('rbd', 'create', '--size', '1M', 'suite/ucloud.other');
      await cluster.admin('rbd', 'trash', 'mv', 'suite/ucloud.other');
    },
    shared: true,
  });
  t.match(await cluster.admin('rbd', 'ls', 'suite'), 'foreign');
  t.match(await cluster.admin('rbd', 'trash', 'ls', 'suite'), 'ucloud.other');
});
