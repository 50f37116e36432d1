/** Snapshots with real guests. */
// Boots guests: each takes a core without hardware virtualisation.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { demoImage } from '../support/demo-image.ts';
import { netNamespace } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import type { SnapshotStory } from '../support/snapshot-story.ts';
import { temporaryDirectory } from '../support/stores.ts';

const exec = promisify(execFile);

t.test(
  'a snapshot shows all disks at one instant and outlives them',
  { skip: await noQemu(), timeout: 600_000 },
  async (t) => {
    const directory = temporaryDirectory(t);
    const image = await demoImage(directory);
    const namespace = netNamespace(t, 'snapshots');
    const program = [process.execPath, 'test/support/snapshot-story.ts', join(directory, 'data'), image];
    const { stdout } = await exec('ip', ['netns', 'exec', namespace.name, ...program], { maxBuffer: 2 ** 24 });
    const seen = JSON.parse(stdout) as SnapshotStory;

    t.strictSame(seen.phases, { both: 'available', frozen: 'available', stopped: 'available', alone: 'available' });
    const [root, data] = seen.counters;
    t.ok(root > 0 && data - root >= 0 && data - root <= 1, `both disks show one instant: ${root} and ${data}`);
    t.ok(seen.later > data, 'the guest went on writing');
    t.strictSame(seen.needsRecovery, { both: true, frozen: false }, 'frozen file systems need no recovery');
    t.ok(seen.counterAfterFreeze[1] > seen.counterAfterFreeze[0], 'the guest is thawed');
    t.equal(seen.withoutAgent, 'error: no_guest_agent');
    t.ok(seen.allocated < seen.size / 2, `the copy is sparse: ${seen.allocated} of ${seen.size} bytes`);
    t.equal(seen.phaseAfterKill, 'available', 'a killed agent makes the snapshot again');
    t.strictSame(seen.leftFiles, [], 'and leaves no incomplete copy');
    const [first, second] = seen.twinCounters;
    t.equal(seen.twinPhase, 'available', 'a volume has the data of another one, also after a kill in the middle');
    t.ok(second > 0 && first - second >= 0 && first - second <= 1, `it shows one instant: ${first} and ${second}`);
    t.ok(seen.counterAfterTwin > first, 'the guest of the source went on writing');
    t.match(seen.idleMarks, [/^\d{15}$/, /^\d{15}$/], 'disks without guest are copied');
    t.strictSame(
      seen.afterRestore,
      { state: 'succeeded', digest: seen.written },
      'a stopped VM gets back the content of its disks, also after a kill in the middle',
    );
    const [allocated, bytes] = seen.restoredDisk;
    t.ok(allocated < seen.size / 2, `a restored disk is sparse: ${allocated} of ${seen.size} bytes (${bytes})`);
    t.ok(seen.imageIsSame, 'an image has the content of its snapshot');
    t.equal(seen.restored, seen.written, 'a new volume has the data of the snapshot');
    t.strictSame(seen.filesAfterDeletion, [], 'the host removes the data of deleted snapshots');
    t.equal(seen.copyProcesses, '', 'no process that copies stays');
  },
);
