/** The guide "Bring your own image": the test runs every command of the page, on simulated hosts. */
import t from 'tap';
import { readerEnvironment, runGuide } from '../support/guide.ts';
import { needsQemuImg } from '../support/importer.ts';
import { netNamespace } from '../support/net-namespace.ts';
import { temporaryDirectory } from '../support/stores.ts';

const root = process.getuid?.() === 0 ? {} : { skip: 'network namespaces need root' };

t.test('the guide to an image of one’s own', { ...root, ...needsQemuImg }, async (t) => {
  const home = temporaryDirectory(t);
  const namespace = netNamespace(t, 'own-image');
  await runGuide(t, 'docs/guides/bring-your-own-image.md', temporaryDirectory(t), {
    directory: temporaryDirectory(t),
    within: ['ip', 'netns', 'exec', namespace.name],
    environment: readerEnvironment(home),
    // An empty disk does not boot.
    adapt: (text) => text.replace('ucloud up ', 'ucloud up --hypervisor simulated '),
  });
});
