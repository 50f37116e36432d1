/**
 * Measures the reads and writes of a guest on its volume, compared with a QEMU that a user starts by hand with the same options,
 * as ratios within one run: `node bench/guest-io.ts [--mebibytes 256] [--seconds 5] [--rounds 5]`.
 *
 * Promise: at least 0.9. Needs root, QEMU and ioping, whose program is copied into both guests.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { demoImage } from '../test/support/demo-image.ts';
import { NetNamespace, noNamespaces } from '../test/support/net-namespace.ts';
import type { Rates } from './support/guest-io-story.ts';
import { median } from './support/load.ts';
import { perSecond, printTable, ratio } from './support/table.ts';

const { values } = parseArgs({
  options: {
    mebibytes: { type: 'string', default: '256' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '5' },
  },
});
const missing = noNamespaces('ioping', 'ldd', 'qemu-system-x86_64', 'ssh');
if (missing) {
  console.error(`SKIPPED bench/guest-io: ${missing}`);
  process.exit(process.env.CI === 'true' ? 1 : 0);
}
const directory = mkdtempSync(join(tmpdir(), 'ucloud-bench-'));
const namespace = new NetNamespace(`bench-io-${process.pid}`);
try {
  const image = await demoImage(directory);
  const story = [process.execPath, 'bench/support/guest-io-story.ts', join(directory, 'data'), image];
  const sizes = [values.mebibytes, values.seconds, values.rounds];
  const args = ['netns', 'exec', namespace.name, ...story, ...sizes];
  const { stdout } = await promisify(execFile)('ip', args, { maxBuffer: 2 ** 24 });
  const rates = JSON.parse(stdout) as Rates;
  printTable(
    ['operations per second', 'ucloud', 'bare QEMU', 'ratio'],
    Object.entries(rates).map(([access, { ucloud, bare }]) => {
      const [ours, theirs] = [median(ucloud), median(bare)];
      return [access, perSecond(ours), perSecond(theirs), ratio(ours, theirs)];
    }),
  );
} finally {
  namespace.remove();
  rmSync(directory, { recursive: true, force: true });
}
