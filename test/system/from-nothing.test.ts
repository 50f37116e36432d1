/** The guide from nothing to ten VMs: the test runs every command of the page, with real guests. */
// Boots guests: each takes a core without hardware virtualisation.
import { resolve } from 'node:path';
import t from 'tap';
import { demoImage } from '../support/demo-image.ts';
import { readerEnvironment, runGuide } from '../support/guide.ts';
import { netNamespace } from '../support/net-namespace.ts';
import { noQemu } from '../support/qemu.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = (await noQemu()) || terraformMissing() || false;

t.test('the guide from nothing to ten VMs', { skip }, async (t) => {
  const home = temporaryDirectory(t);
  // The test has no network, so the packages for the image of the page must be on this machine.
  await demoImage(temporaryDirectory(t));
  const namespace = netNamespace(t, 'guide');
  await runGuide(t, 'docs/guides/from-nothing-to-ten-vms.md', temporaryDirectory(t), {
    directory: resolve('.'),
    within: ['ip', 'netns', 'exec', namespace.name],
    environment: readerEnvironment(home),
  });
  t.strictSame(namespace.pids(), [], 'no process is left');
  t.match(namespace.run('ip', '-br', 'link'), /^lo\s[^\n]*\n$/, 'no interface is left');
  t.equal(namespace.run('nft', 'list', 'tables'), '', 'no filter is left');
});
