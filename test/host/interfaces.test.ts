/** Interfaces of a running guest, with a real one. */
// Boots a guest, which takes a core without hardware virtualisation.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { demoImage } from '../support/demo-image.ts';
import type { InterfaceStory } from '../support/interface-story.ts';
import { netNamespace } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';

const exec = promisify(execFile);

t.test('a running guest gets an interface and loses it', { skip: await noQemu(), timeout: 600_000 }, async (t) => {
  const directory = temporaryDirectory(t);
  const image = await demoImage(directory);
  const namespace = netNamespace(t, 'interfaces');
  const program = [process.execPath, 'test/support/interface-story.ts', join(directory, 'data'), image];
  const { stdout } = await exec('ip', ['netns', 'exec', namespace.name, ...program], { maxBuffer: 2 ** 24 });
  const seen = JSON.parse(stdout) as InterfaceStory;
  const [mac = '', address = '', chosen = ''] = seen.added;

  t.ok(seen.links.includes(mac), 'the guest has the new interface');
  t.comment(`its address answered after ${seen.millisecondsUntilAnswer} ms`);
  t.notOk(seen.linksAfterRemoval.includes(mac), 'the guest has lost the interface');
  t.notOk(seen.answersAfterRemoval, 'no address of it answers');
  for (const each of [address, chosen])
    t.notMatch(seen.neighboursAfterRemoval, `${each} `, 'the host has forgotten it');
  t.ok(seen.answersAfterCrash, 'a cloud that is killed in the middle adds the interface afterwards');
  t.notOk(seen.answersAfterSecondCrash, 'a cloud that is killed in the middle removes it afterwards');
  t.ok(seen.sameBoot, 'the guest has run all the time');
  t.equal(seen.tapsAtTheEnd, 1, 'no tap is left');
});
