/** Many VMs at the same time, through a gateway that is busy and loses answers. The user sees no errors. */
import t from 'tap';
import { asked, startTestCloud } from '../support/cloud.ts';
import { answerProblem, startGateway } from '../support/gateway.ts';
import { imageAndNetwork, vmBlock } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

const count = 100;
const main = imageAndNetwork({ name: 'many' }) + vmBlock('this', `count = ${count}`, `"vm-\${count.index}"`);

t.test('a hundred VMs with -parallelism=50', { skip: terraformMissing() ?? false }, async (t) => {
  const cloud = await startTestCloud(t);
  let requests = 0;
  let spoilt = false;
  const faults = { limited: 0, busy: 0, broken: 0, lost: 0 };
  const gateway = await startGateway(
    cloud.api.url,
    {
      decide: ({ path }, response) => {
        if (!path.startsWith('/v1/vms')) return 'pass';
        requests++;
        if (!spoilt) return 'pass';
        if (requests % 7 === 0) {
          faults.limited++;
          return answerProblem(response, 429, 'rate_limited', { 'retry-after': '1' });
        }
        if (requests % 9 === 0) {
          faults.busy++;
          return answerProblem(response, 503, 'store_unavailable');
        }
        if (requests % 11 === 0) {
          faults.broken++;
          response.destroy();
          return 'handled';
        }
        if (requests % 8 !== 0) return 'pass';
        faults.lost++;
        return 'lose-answer';
      },
    },
    t,
  );
  asked(t, { UCLOUD_ENDPOINT: gateway.url });
  const directory = cloud.configuration(t, main);
  /** Returns the messages of Terraform, and the number of requests per VM. */
  const run = async (...args: string[]): Promise<{ said: string; perVm: number }> => {
    requests = 0;
    const said = await directory.run(args[0] ?? '', '-no-color', ...args.slice(1), '-parallelism=50');
    return { said, perVm: requests / count };
  };
  const quiet = (said: string) =>
    t.notMatch(said, /^(Warning|Error): |\b(409|429|503)\b/m, 'the user saw nothing of it');
  const names = async (): Promise<string[]> => {
    const { items } = await cloud.member.list('vms', '?limit=1000');
    return items.map(({ name }: { name: string }) => name);
  };

  await t.test('with few requests', async (t) => {
    const apply = await run('apply', '-auto-approve');
    t.match(apply.said, new RegExp(`${count + 2} added, 0 changed, 0 destroyed`));
    t.ok(apply.perVm <= 2, `${apply.perVm} requests to create a VM`);
    const { items } = await cloud.member.list('vms', '?limit=1000');
    t.equal(new Set(items.map(({ address }: { address: string }) => address)).size, count, 'each has its own address');
    const plan = await run('plan', '-detailed-exitcode');
    t.ok(plan.perVm <= 1, `${plan.perVm} requests to refresh a VM`);
    const destroy = await run('destroy', '-auto-approve');
    t.ok(destroy.perVm <= 2.5, `${destroy.perVm} requests to delete a VM`);
    for (const { said } of [apply, plan, destroy]) quiet(said);
  });

  await t.test('while it asks to slow down, is busy, breaks connections, and loses answers', async (t) => {
    spoilt = true;
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
    for (const [fault, count] of Object.entries(faults)) t.ok(count > 5, `${fault}: ${count}`);
  });
});
