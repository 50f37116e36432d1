/** Many VMs at once, by a way to the API that is busy and loses answers: the user sees none of it. */
import t from 'tap';
import { asked, startTestCloud } from '../support/cloud.ts';
import { type Fate, startGateway } from '../support/gateway.ts';
import { terraformMissing } from '../support/terraform.ts';

const count = 100;
const main = `
data "ucloud_image" "this" {
  name = "demo"
}

resource "ucloud_prefix" "this" {
  name = "many"
}

resource "ucloud_network" "this" {
  name   = "many"
  prefix = ucloud_prefix.this.id
}

resource "ucloud_vm" "this" {
  count      = ${count}
  name       = "vm-\${count.index}"
  image      = data.ucloud_image.this.id
  interfaces = [{ network = ucloud_network.this.id }]
}
`;

t.test('a hundred VMs with -parallelism=50', { skip: terraformMissing() ?? false }, async (t) => {
  const cloud = await startTestCloud(t);
  let requests = 0;
  const fates = { pass: 0, lose: 0, busy: 0 };
  let spoil: (nth: number) => Fate = () => 'pass';
  const gateway = await startGateway(cloud.api.url, {
    decide: ({ url }) => {
      if (!url?.startsWith('/v1/vms')) return 'pass';
      const fate = spoil(++requests);
      fates[fate]++;
      return fate;
    },
  });
  t.teardown(() => gateway.close());
  asked(t, { UCLOUD_ENDPOINT: gateway.url });
  const directory = cloud.configuration(t, main);
  /** What Terraform said to the user, and how many requests it took per VM. */
  const run = async (...args: string[]): Promise<{ said: string; perVm: number }> => {
    requests = 0;
    const said = await directory.run(args[0] ?? '', '-no-color', ...args.slice(1), '-parallelism=50');
    return { said, perVm: requests / count };
  };
  const quiet = (said: string) => t.notMatch(said, /^(Warning|Error): |\b(409|429)\b/m, 'the user saw nothing of it');
  const names = async (): Promise<string[]> => {
    const { items } = await cloud.member.list('vms', '?limit=1000');
    return items.map(({ name }: { name: string }) => name);
  };

  await t.test('with few requests', async (t) => {
    const apply = await run('apply', '-auto-approve');
    t.match(apply.said, new RegExp(`${count + 2} added, 0 changed, 0 destroyed`));
    t.ok(apply.perVm <= 2, `${apply.perVm} requests to create a VM`);
    const plan = await run('plan', '-detailed-exitcode');
    t.ok(plan.perVm <= 1, `${plan.perVm} requests to refresh a VM`);
    const destroy = await run('destroy', '-auto-approve');
    t.ok(destroy.perVm <= 2.5, `${destroy.perVm} requests to delete a VM`);
    for (const { said } of [apply, plan, destroy]) quiet(said);
  });

  await t.test('when every fifth answer is "later", and every seventh is lost', async (t) => {
    spoil = (nth) => (nth % 5 === 0 ? 'busy' : nth % 7 === 0 ? 'lose' : 'pass');
    const apply = await run('apply', '-auto-approve');
    quiet(apply.said);
    t.match(apply.said, new RegExp(`${count + 2} added, 0 changed, 0 destroyed`));
    t.same(
      (await names()).sort(),
      Array.from({ length: count }, (_, index) => `vm-${index}`).sort(),
      'each VM is there once',
    );
    quiet((await run('plan', '-detailed-exitcode')).said);
    quiet((await run('destroy', '-auto-approve')).said);
    t.same(await names(), []);
    t.ok(fates.busy > 10 && fates.lose > 10, `it happened often: ${JSON.stringify(fates)}`);
  });
});
