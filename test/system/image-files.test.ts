/** Images from files of the project. */
import { linkSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import * as records from '../../backend/model/records/index.ts';
import { startImageScanner } from '../../backend/scanner/images.ts';
import { put, read } from '../../backend/store/collection.ts';
import { startTestApi } from '../support/api.ts';
import { rawDisk } from '../support/disk-images.ts';
import { until } from '../support/eventually.ts';
import { startTestFileServer } from '../support/file-server.ts';
import { silentLogger as logger } from '../support/silent-logger.ts';

t.test('an image from a file of the project, by name and by id', async (t) => {
  const test = await startTestApi(t);
  const { store, operator, project } = test;
  const server = await startTestFileServer(t, test, { limits: { quietMs: 100 } });
  const imageStore = join(server.root, '..', 'images');
  const limits = { retryAfterMs: 20 };
  const scanner = await startImageScanner({
    store,
    logger,
    filesDir: server.root,
    imageStore,
    mode: 'simulated',
    limits,
  });
  t.teardown(() => scanner.close());
  let images = 0;
  const imported = async (source: string, phase = 'available', owner: string = project) => {
    const { id } = await operator.create('images', {
      name: `image-${images++}`,
      project: owner,
      source: `file:${source}`,
    });
    return until(`${source} is ${phase}`, async () => {
      const image = await operator.get('images', id);
      return image.status.phase === phase && image;
    });
  };

  writeFileSync(join(server.directory, 'disk.raw'), rawDisk());
  const file = await server.appears('disk.raw');
  const sha256 = (image: unknown) => (image as { sha256: string }).sha256;
  t.equal(sha256(await imported('disk.raw')), file.sha256);
  t.equal(sha256(await imported(file.id)), file.sha256);

  writeFileSync(join(server.directory, 'tmp'), rawDisk());
  renameSync(join(server.directory, 'tmp'), Buffer.from(`${server.directory}/b\xe4r`, 'latin1'));
  const odd = await server.appears('b%E4r');
  t.equal(sha256(await imported(odd.id)), odd.sha256, 'a name in any encoding');

  const other = await operator.create('projects', { name: 'other' });
  t.match((await imported(file.id, 'error', other.id)).status.message, /no file/, 'a file of another project');

  await t.test('another content than the recorded one is refused', async (t) => {
    await server.stop();
    const stored = await read(store, records.files, file.id);
    if (!stored) throw new Error('no record');
    await store.commit({ write: [put(records.files, file.id, { ...stored.value, sha256: '0'.repeat(64) })] });
    t.match((await imported('disk.raw', 'error')).status.message, /changed while it was read/);
    await store.commit({ write: [put(records.files, file.id, stored.value)] });
    writeFileSync(join(server.directory, 'disk.raw'), Buffer.concat([rawDisk(), Buffer.alloc(512)]));
    const late = await imported('disk.raw', 'error');
    t.match(late.status.message, /not read it again yet/);
    await server.start();
    await until('the import after the scan', async () => {
      return (await operator.get('images', late.id)).status.phase === 'available';
    });
  });

  await t.test('a hard link to a file of somebody else is refused', async (t) => {
    mkdirSync(join(server.root, 'elsewhere'));
    writeFileSync(join(server.root, 'elsewhere', 'secret'), rawDisk());
    linkSync(join(server.root, 'elsewhere', 'secret'), join(server.directory, 'linked'));
    t.match((await imported('linked', 'error')).status.message, /one hard link/);
  });
});
