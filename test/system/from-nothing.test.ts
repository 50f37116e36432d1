/**
 * The guide from nothing to ten VMs: the test runs every command of the page, with real guests. `npm test` declares three VMs
 * instead of ten; `npm run test:guests` follows the page as it is.
 */
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

/** The page with three VMs. Each number of VMs and of resources follows from the default of the variable. */
function withThreeVms(text: string): string {
  const numbers: readonly (readonly [ten: string, three: string])[] = [
    ['default     = 10\n', 'default     = 3\n'],
    ['Plan: 13 to add', 'Plan: 6 to add'],
    ['Resources: 13 added', 'Resources: 6 added'],
    ['0 added, 10 changed', '0 added, 3 changed'],
    ['-var vms=11', '-var vms=4'],
    ['vm delete vm-07', 'vm delete vm-03'],
    ['Resources: 13 destroyed', 'Resources: 6 destroyed'],
  ];
  return numbers.reduce((all, [ten, three]) => all.replaceAll(ten, three), text);
}

const page = 'docs/guides/from-nothing-to-ten-vms.md';
const all = process.env.UCLOUD_GUESTS === 'all';

t.test('the guide from nothing to ten VMs', { skip }, async (t) => {
  const home = temporaryDirectory(t);
  // The test has no network, so the packages for the image of the page must be on this machine.
  await demoImage(temporaryDirectory(t));
  const namespace = netNamespace(t, 'guide');
  await runGuide(t, page, temporaryDirectory(t), {
    directory: resolve('.'),
    within: ['ip', 'netns', 'exec', namespace.name],
    environment: readerEnvironment(home),
    ...(!all && { adapt: withThreeVms }),
  });
  t.strictSame(namespace.pids(), [], 'no process is left');
  t.match(namespace.run('ip', '-br', 'link'), /^lo\s[^\n]*\n$/, 'no interface is left');
  t.equal(namespace.run('nft', 'list', 'tables'), '', 'no filter is left');
});
