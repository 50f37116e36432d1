/** Volumes with real guests: data that outlives a VM. */
// Boots guests: each takes a core without hardware virtualisation.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { demoImage } from '../support/demo-image.ts';
import { netNamespace } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';
import type { VolumeStory } from '../support/volume-story.ts';

const exec = promisify(execFile);
const MiB = 1024 ** 2;

t.test('a volume outlives its VM', { skip: await noQemu(), timeout: 600_000 }, async (t) => {
  const directory = temporaryDirectory(t);
  const image = await demoImage(directory);
  const namespace = netNamespace(t, 'volumes');
  const program = [process.execPath, 'test/support/volume-story.ts', join(directory, 'data'), image];
  const { stdout } = await exec('ip', ['netns', 'exec', namespace.name, ...program], { maxBuffer: 2 ** 24 });
  const seen = JSON.parse(stdout) as VolumeStory;

  t.equal(seen.attachedPhase, 'attached', 'a running guest gets the volume');
  t.equal(seen.sizeAtFirst, 64 * MiB);
  t.strictSame(
    seen.inUse,
    ['The guest has mounted it at /mnt.', 'The guest uses it as swap.'],
    'a running guest keeps a volume that it uses, and loses it afterwards',
  );
  t.match(seen.refusedSecondVm, /is attached to vm-/, 'no second VM gets it');
  t.match(seen.refusedDeletion, /is still used by/, 'an attached volume stays');
  t.equal(seen.sizeAfterGrowth, 128 * MiB, 'the running guest sees the new size at once');
  t.equal(seen.readAfterCrash, seen.written, 'the guest keeps the volume through a crash of the cloud');
  t.notOk(
    seen.devicesAfterDetachment.some((serial) => serial.startsWith('vol-')),
    'a guest that must not have the volume loses it',
  );
  t.equal(seen.stoppedPhase, 'ready', 'a stopped VM gets the volume at its start');
  t.equal(seen.readByOtherVm, seen.written, 'another VM reads the data');
  t.equal(seen.sizeInOtherVm, 128 * MiB);
  t.ok(seen.freedByTrim, 'the host gets back the space that the guest discards');
  t.ok(seen.keptAfterVm, 'the data stays when its VM is deleted');
  t.match(seen.statusAfterVm, { phase: 'available', vm: undefined });
  t.notOk(seen.dataAfterDeletion, 'the host removes the data with the volume');
});
