/** `host_selector` of a VM: warned of in the plan, applied, and replaced by another one. */
import t from 'tap';
import { startTestCloud } from '../support/cloud.ts';
import { prerequisites, vmBlock } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

t.test('a VM on hosts with labels', { skip }, async (t) => {
  const cloud = await startTestCloud(t, { moreHosts: 1 });
  const { operator } = cloud.api;
  const [first, second] = (await operator.list('hosts')).items;
  const label = (id: string | undefined, labels: object) => operator.update('hosts', id ?? '', { labels });
  await label(second?.id, { zone: 'a', secret: 'bank' });
  const main = (selector: string) =>
    prerequisites + vmBlock('v', `host_selector = ${JSON.stringify(selector)}\n  timeouts = { create = "3s" }`);
  const directory = cloud.configuration(t, main('zone=a'));

  const refused = await directory.diagnostics('apply');
  t.match(
    refused.find(({ severity }) => severity === 'error'),
    { detail: /must name only labels that the operator has published: there are none/, code: /^host_selector/ },
  );
  await operator.expect(200, 'PATCH', '/v1/settings', { selectable_host_labels: ['zone'] });
  await directory.apply();
  const placed = async () => (await cloud.member.list('vms')).items[0];
  t.equal((await placed())?.status.host, second?.id);
  t.strictSame(await directory.pending(), []);
  for (const same of [' zone == a ', 'zone in (a)', 'zone=a,zone=a']) {
    directory.write({ 'main.tf': main(same) });
    t.strictSame(await directory.pending(), [], `${same} is the same selector`);
  }

  directory.write({ 'main.tf': main('zone=b') });
  const change = await directory.planned('ucloud_vm.v');
  t.strictSame(change.actions, ['delete', 'create'], 'a VM keeps its host, so another selector takes another VM');
  t.strictSame(change.replace_paths, [['host_selector']]);
  const diagnostics = await directory.diagnostics('apply');
  t.match(
    diagnostics.find(({ severity }) => severity === 'error'),
    { detail: /^It has no host yet: no host matches the host selector zone=b\b/, address: 'ucloud_vm.v' },
  );
  await label(first?.id, { zone: 'b' });
  await directory.apply();
  t.equal((await placed())?.status.host, first?.id);

  directory.write({ 'main.tf': main('zone=b') + vmBlock('w', 'host_selector = "zone=c"') });
  t.match(await directory.diagnostics('plan'), [
    {
      severity: 'warning',
      summary: 'No host can run this VM',
      detail: /No host matches the host selector zone=c[\s\S]*Change `host_selector`, or ask the operator/,
      code: /^host_selector/,
    },
  ]);
  directory.write({ 'main.tf': main('zone in b') });
  t.match(await directory.diagnostics('validate'), [
    {
      detail: /Must be a label selector such as `zone=a,disk in \(ssd,nvme\),!gpu`, not "zone in b"/,
      code: /^host_selector/,
    },
  ]);
  directory.write({ 'main.tf': prerequisites });
  await directory.destroy();
});
