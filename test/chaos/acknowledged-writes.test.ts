/**
 * No write that a guest has acknowledged is lost, whatever is killed. `npm test` kills three times, `npm run chaos` two
 * hundred times; this takes about an hour. UCLOUD_TEST_SEED repeats the random choices of a run.
 */
// Boots guests: each takes a core without hardware virtualisation.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import type { AcknowledgedWrites } from '../support/acknowledged-writes.ts';
import { demoImage } from '../support/demo-image.ts';
import { netNamespace } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const kills = process.env.UCLOUD_CHAOS === 'all' ? 200 : 3;
const seed = process.env.UCLOUD_TEST_SEED ?? String(Date.now() % 2 ** 31);

t.test('acknowledged writes survive kills, growth and snapshots', { skip: await noQemu(), timeout: 0 }, async (t) => {
  t.comment(`seed ${seed}`);
  const directory = temporaryDirectory(t);
  const image = await demoImage(directory);
  const namespace = netNamespace(t, 'writes');
  const story = ['test/support/acknowledged-writes.ts', join(directory, 'data'), image, String(kills), seed];
  const program = ['netns', 'exec', namespace.name, process.execPath, ...story];
  const { stdout } = await promisify(execFile)('ip', program, { maxBuffer: 2 ** 24 });
  const seen = JSON.parse(stdout) as AcknowledgedWrites;
  t.comment(JSON.stringify({ ...seen, lost: seen.lost.length }));
  t.strictSame(seen.lost, [], 'every acknowledged record is there');
  t.ok(seen.acknowledged >= kills, 'the guest has written between the kills');
  t.ok(seen.checks > kills / 3 && seen.restored >= Math.floor((kills + 1) / 4), 'disks and snapshots were compared');
  t.equal(seen.sizes[1], seen.sizes[0], 'the guest sees the size after all growth');
});
