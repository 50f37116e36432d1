/** A VM that boots from a volume, with real guests. */
// Boots guests: each takes a core without hardware virtualisation.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { demoImage } from '../support/demo-image.ts';
import { netNamespace } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import type { RootVolumeStory } from '../support/root-volume-story.ts';
import { temporaryDirectory } from '../support/stores.ts';

const exec = promisify(execFile);

t.test(
  'a root volume outlives its VM, and another VM boots it',
  { skip: await noQemu(), timeout: 600_000 },
  async (t) => {
    const directory = temporaryDirectory(t);
    const image = await demoImage(directory);
    const namespace = netNamespace(t, 'root-volume');
    const program = [process.execPath, 'test/support/root-volume-story.ts', join(directory, 'data'), image];
    const { stdout } = await exec('ip', ['netns', 'exec', namespace.name, ...program], { maxBuffer: 2 ** 24 });
    const seen = JSON.parse(stdout) as RootVolumeStory;

    t.notOk(seen.ownDisk, 'the VM has no disk of its own');
    const [mounted = '', device = ''] = seen.root.split('\n');
    t.ok(device !== '' && mounted.startsWith(`/dev/${device}`), `the guest runs from the volume: ${seen.root}`);
    t.match(seen.refusals[0], /--root-volume: is attached to vm-/, 'no second VM gets it');
    t.match(seen.refusals[1], /--volumes.*: is attached to vm-/, 'it is no further volume');
    t.match(seen.refusals[2], /--disk-size: must be omitted with root_volume/);
    t.match(seen.refusals[3], /is still used by/, 'it stays');
    t.equal(seen.sizeInGuest, 2 * 1024 ** 3, 'it grows while the guest runs, also after a crash of the cloud');
    t.equal(seen.diskSize, '2GiB');
    t.match(seen.statusAfterVm, { phase: 'available', size: '2GiB' });
    t.ok(seen.otherVm);
    t.equal(seen.kept, 'first\none\ntwo', 'the new VM has the data of the old one and a name of its own');
  },
);
