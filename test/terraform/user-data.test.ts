/** User data of `ucloud_vm`: the effects of a change, in the plan, in the VM, and after a crash. */
import type { ServerResponse } from 'node:http';
import t, { type Test } from 'tap';
import { newId } from '../../backend/model/ids.ts';
import { type OperationRecord, operations } from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import { asked, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { answerProblem, type GatewayRequest, type RequestOutcome, startGateway } from '../support/gateway.ts';
import { prerequisites, vmBlock as vm } from '../support/hcl.ts';
import { terraformMissing } from '../support/terraform.ts';

const skip = terraformMissing() ?? false;

/** Returns user data in HCL. */
const script = (word: string) => `"#!/bin/sh\\n# ${word}"`;

let cloud: TestCloud;
t.before(async () => {
  if (!skip) cloud = await startTestCloud(t);
});

t.test('what a change of user data does is chosen, and a write-only one is kept nowhere', { skip }, async (t) => {
  const directory = cloud.configuration(t, prerequisites);
  const write = (more: string) =>
    directory.write({ 'main.tf': prerequisites + vm('web', `wait_for = "none"\n ${more}`) });
  const shown = async () => {
    const [web] = (await cloud.member.list('vms', '?name=web')).items;
    return (await cloud.member.get('vms', String(web?.id))) as unknown as { user_data?: string };
  };
  const hidden = (script: string, version: number, more = '') =>
    write(`user_data_wo = "#!/bin/sh\\n# ${script}"\n user_data_wo_version = ${version}\n ${more}`);

  write('user_data = "#!/bin/sh\\n# one"');
  await directory.apply();
  write('user_data = "#!/bin/sh\\n# two"\n user_data_change = "ignore"');
  t.strictSame(await directory.pending(), ['ucloud_vm.web: update'], 'ignored: only the state learns of it');
  await directory.apply();
  t.equal((await shown()).user_data, '#!/bin/sh\n# one', 'the VM has what it was made with');
  t.strictSame(await directory.pending(), []);
  const { id } = (await directory.resource('ucloud_vm.web')).values;

  await t.test('from the plan to write-only: the same text replaces nothing', async (t) => {
    write('user_data = "#!/bin/sh\\n# two"');
    const late = await directory.planned('ucloud_vm.web');
    t.strictSame(late.replace_paths, [['user_data_change']], 'what was ignored is remembered when it is no more');
    write('user_data = "#!/bin/sh\\n# one"');
    await directory.apply();
    t.strictSame(await directory.pending(), []);
    hidden('one', 1);
    t.strictSame(await directory.pending(), ['ucloud_vm.web: update']);
    await directory.apply();
    t.match((await directory.resource('ucloud_vm.web')).values, { id, user_data: null, user_data_wo_version: 1 });
    t.notMatch(await directory.run('state', 'pull'), /# one/);
    t.strictSame(await directory.pending(), []);
  });

  await t.test('the version tells of a change', async (t) => {
    hidden('three', 1);
    t.strictSame(await directory.pending(), [], 'without it nobody knows');
    hidden('three', 2, 'user_data_change = "ignore"');
    await directory.apply();
    t.equal((await directory.resource('ucloud_vm.web')).values.id, id);
    hidden('three', 3);
    const change = await directory.planned('ucloud_vm.web');
    t.strictSame(change.actions, ['delete', 'create']);
    t.strictSame(change.replace_paths?.flat().toSorted(), ['user_data_change', 'user_data_wo_version']);
    await directory.apply();
    t.not((await directory.resource('ucloud_vm.web')).values.id, id);
    t.equal((await shown()).user_data, '#!/bin/sh\n# three');
    t.notMatch(await directory.run('state', 'pull'), /# three/, 'it is not in the state');
    t.strictSame(await directory.pending(), []);
  });

  await t.test('what does not go together is told', async (t) => {
    const told = async (more: string) => {
      write(more);
      return (await directory.diagnostics('validate')).map(({ summary, code }) => [summary, code?.split(' ')[0]]);
    };
    t.strictSame(await told('user_data = "#!x"\n user_data_wo = "#!x"\n user_data_wo_version = 1'), [
      ['Set `user_data` or `user_data_wo`, not both', 'user_data_wo'],
    ]);
    t.strictSame(await told('user_data_wo = "#!x"'), [['`user_data_wo` needs `user_data_wo_version`', 'user_data_wo']]);
    t.strictSame(await told('user_data_wo_version = 1'), [
      ['`user_data_wo_version` needs `user_data_wo`', 'user_data_wo_version'],
    ]);
    t.strictSame(await told('user_data_change = "reboot"'), [
      ['Invalid value for "user_data_change"', 'user_data_change'],
    ]);
  });
  write('');
  await directory.destroy();
});

/** Counts the reboot requests of the provider, and lets the test answer one instead of the API. */
class Gate {
  reboots = 0;
  onReboot: ((response: ServerResponse) => Promise<void>) | undefined;

  async start(t: Test): Promise<void> {
    const decide = ({ method, path }: GatewayRequest, response: ServerResponse): RequestOutcome => {
      if (method !== 'POST' || !path.endsWith('/reboot')) return 'pass';
      this.reboots++;
      const { onReboot } = this;
      this.onReboot = undefined;
      if (!onReboot) return 'pass';
      void onReboot(response);
      return 'handled';
    };
    asked(t, { UCLOUD_ENDPOINT: (await startGateway(cloud.api.url, { decide }, t)).url });
  }
}

const refuse = (response: ServerResponse, status: number, code: string, detail: string) => {
  answerProblem(response, status, code, {}, detail);
};

t.test('a VM is restarted for its user data', { skip }, async (t) => {
  const gate = new Gate();
  await gate.start(t);
  const directory = cloud.configuration(t, prerequisites);
  const address = 'ucloud_vm.web';
  const write = (more: string, change = 'restart') =>
    directory.write({ 'main.tf': prerequisites + vm('web', `${more}\n user_data_change = "${change}"`) });
  const hidden = (word: string, version: number, more = '') =>
    write(`user_data_wo = ${script(word)}\n user_data_wo_version = ${version}\n ${more}`);
  const shown = async () => {
    const [item] = (await cloud.member.list('vms', '?name=web')).items;
    if (!item) throw new Error('there is no VM');
    const whole = await cloud.member.get('vms', item.id);
    return whole as typeof whole & { readonly user_data?: string; readonly status: { readonly started_at: string } };
  };

  write(`user_data = ${script('one')}\n wait_for = "ready"`);
  await directory.apply();
  const { id } = await shown();
  /** Applies, and checks that the VM is the same, its user data, that the next plan is empty, and the warnings. */
  const applied = async (t: Test, word: string | undefined, reboots: number, told: object[] = []) => {
    const [before, count] = [await shown(), gate.reboots];
    // Terraform plans each change twice in an apply, so it shows the warnings of a plan twice.
    const diagnostics = new Map((await directory.diagnostics('apply')).map((each) => [each.summary, each]));
    t.match([...diagnostics.values()], told);
    t.equal(diagnostics.size, told.length, 'nothing else is told');
    const after = await shown();
    t.equal(after.id, id, 'the same VM');
    t.equal(after.user_data, word === undefined ? undefined : `#!/bin/sh\n# ${word}`);
    t.notOk(after.status.pending_changes.includes('user_data'), 'it owes no restart for it');
    t.equal(gate.reboots - count, reboots, `reboots asked for: ${reboots}`);
    t.equal(after.status.started_at !== before.status.started_at, reboots > 0);
    t.strictSame(await directory.pending(), [], 'and the next plan is empty');
    return after;
  };

  await t.test('in place, and apply waits until the guest is ready again', async (t) => {
    write(`user_data = ${script('two')}\n wait_for = "ready"`);
    const change = await directory.planned(address);
    t.strictSame([change.actions, change.replace_paths], [['update'], undefined]);
    t.match(change.after_unknown, { status: true });
    t.match(await applied(t, 'two', 1), { status: { phase: 'running', ready: true } });
  });

  await t.test('one restart for all that waits for one, and no word of another', async (t) => {
    write(`user_data = ${script('three')}\n cpus = 2\n memory = "1GiB"`);
    t.match(await applied(t, 'three', 1), { cpus: 2, memory: '1GiB', status: { restart_required: false } });
    write(`user_data = ${script('three')}\n cpus = 3\n memory = "1GiB"`);
    const warning = { severity: 'warning', summary: 'VM "web" must restart for the change' };
    t.match(await applied(t, 'three', 0, [warning]), { status: { pending_changes: ['cpus'] } }, 'but none for others');
    write(`user_data = ${script('four')}\n wait_for = "none"`);
    t.match(await applied(t, 'four', 1), { status: { restart_required: false } });
  });

  await t.test('Terraform is killed between the two requests', async (t) => {
    write(`user_data = ${script('five')}`);
    const { child, result } = directory.start('apply', '-no-color', '-auto-approve');
    const held = Promise.withResolvers<ServerResponse>();
    gate.onReboot = async (response) => held.resolve(response);
    const response = await held.promise;
    t.match(await shown(), { user_data: '#!/bin/sh\n# five', status: { restart_required: true } });
    if (child.pid === undefined) throw new Error('terraform did not start');
    process.kill(-child.pid, 'SIGKILL');
    await result;
    refuse(response, 403, 'forbidden', 'Nobody hears this.');

    const change = await directory.planned(address);
    t.strictSame(change.actions, ['update'], 'the next plan sees that a restart is owed');
    t.match(change.after_unknown, { status: true });
    const warning = {
      severity: 'warning',
      summary: 'VM "web" has user data that waits for a restart',
      detail: /interrupted before the restart.*This apply restarts the VM\./,
      code: 'user_data_change = "restart"',
    };
    await applied(t, 'five', 1, [warning]);
  });

  await t.test('a restart that is refused or fails is told, and made good by the next apply', async (t) => {
    write(`user_data = ${script('six')}`);
    gate.onReboot = async (response) => refuse(response, 403, 'forbidden', 'Not today.');
    t.match(await directory.diagnostics('apply'), [
      { severity: 'error', summary: /^VM "web" was not restarted/, detail: /Not today/ },
    ]);
    t.strictSame(await directory.pending(), [`${address}: update`]);
    await applied(t, 'six', 1, [{ summary: 'VM "web" has user data that waits for a restart' }]);
    write(`user_data = ${script('six and a half')}`);
    gate.onReboot = async (response) => {
      const at = new Date().toISOString();
      const operation: OperationRecord = {
        ...{ id: newId('operation'), project: cloud.project, kind: 'vm_reboot', target: id, options: {} },
        ...{ state: 'failed', progress: 100, error: { code: 'internal', message: 'a step failed on the host' } },
        ...{ created_at: at, updated_at: at },
      };
      await cloud.api.store.commit({ write: [put(operations, operation.id, operation)] });
      response.writeHead(202, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ id: operation.id, revision: 1, state: 'pending' }));
    };
    t.match(await directory.diagnostics('apply'), [
      {
        severity: 'error',
        summary: 'VM "web" was not restarted',
        detail: /^The restart failed: a step failed on the host\. .* The next apply tries again\.$/,
      },
    ]);
    hidden('seven', 1);
    gate.onReboot = async (response) => refuse(response, 403, 'forbidden', 'Not today.');
    await directory.diagnostics('apply');
    t.notMatch(await directory.run('state', 'pull'), /# seven/);
    await applied(t, 'seven', 1);
  });

  await t.test('a restart that is under way already is waited for', async (t) => {
    hidden('eight', 2);
    gate.onReboot = async (response) => {
      await cloud.member.expect(202, 'POST', `/v1/vms/${id}/reboot`, {});
      refuse(response, 409, 'invalid_state', 'An operation has not ended yet.');
    };
    await applied(t, 'eight', 1);
  });

  await t.test('the write-only twin', async (t) => {
    hidden('nine', 2);
    t.strictSame(await directory.pending(), [], 'without its version nobody knows');
    hidden('nine', 3);
    t.strictSame((await directory.planned(address)).actions, ['update']);
    await applied(t, 'nine', 1);
    t.notMatch(await directory.run('state', 'pull'), /# nine/, 'it is not in the state');
    write(`user_data = ${script('nine')}`);
    await applied(t, 'nine', 0);
    hidden('nine', 4);
    await applied(t, 'nine', 0);
    write('');
    await applied(t, undefined, 1);
  });

  await t.test('a VM that is stopped is not started for it', async (t) => {
    write('power_state = "stopped"');
    await directory.apply();
    write(`user_data = ${script('ten')}\n power_state = "stopped"`);
    const stopped = await applied(t, 'ten', 0);
    t.match(stopped, { status: { phase: 'stopped', restart_required: false } });
    write(`user_data = ${script('eleven')}`);
    await directory.apply();
    t.match(await shown(), { user_data: '#!/bin/sh\n# eleven', status: { phase: 'running', restart_required: false } });
    t.strictSame(await directory.pending(), []);
  });

  await t.test('what was changed elsewhere is put right', async (t) => {
    await cloud.member.update('vms', id, { user_data: '#!/bin/sh\n# strange' });
    t.strictSame(await directory.pending(), [`${address}: update`]);
    await applied(t, 'eleven', 1);
  });

  await t.test('user data that is known late', async (t) => {
    const late = (word: string) => `
resource "terraform_data" "late" {
  input = ${script(word)}
}`;
    const use = 'user_data = terraform_data.late.output\n user_data_change = "restart"';
    directory.write({ 'main.tf': prerequisites + late('eleven') + vm('web', use) });
    await applied(t, 'eleven', 0);
    directory.write({ 'main.tf': prerequisites + late('twelve') + vm('web', use) });
    t.strictSame((await directory.planned(address)).actions, ['update']);
    await applied(t, 'twelve', 1);
  });

  await t.test('another choice alone changes nothing; what was ignored is made good', async (t) => {
    const { updated_at } = await shown();
    for (const change of ['replace', 'ignore', 'restart']) {
      write(`user_data = ${script('twelve')}`, change);
      await applied(t, 'twelve', 0);
    }
    t.equal((await shown()).updated_at, updated_at);
    write(`user_data = ${script('thirteen')}`, 'ignore');
    await applied(t, 'twelve', 0);
    write(`user_data = ${script('thirteen')}`);
    const warning = {
      severity: 'warning',
      summary: 'VM "web" has other user data than its configuration',
      detail: 'Earlier changes were ignored. This apply changes the user data and restarts the VM.',
    };
    await applied(t, 'thirteen', 1, [warning]);
    write(`user_data = ${script('fourteen')}`, 'replace');
    t.strictSame((await directory.planned(address)).actions, ['delete', 'create']);
  });
  await directory.destroy();
});

t.test(
  'what lists leave out is read all the same, and a viewer plans no change of what it does not see',
  { skip },
  async (t) => {
    const data =
      'data "ucloud_vms" "all" {\n selector = "of=lists"\n}\ndata "ucloud_vm" "one" {\n name = "twin-0"\n}\n';
    const vms = [0, 1, 2].map((i) =>
      vm(`twin-${i}`, `wait_for = "none"\n labels = { of = "lists" }\n user_data = ${script(`twin ${i}`)}`),
    );
    const directory = cloud.configuration(t, prerequisites + vms.join('\n'));
    await directory.apply();
    t.strictSame(await directory.pending(), [], 'a member');
    directory.write({ 'main.tf': prerequisites + vms.join('\n') + data });
    await directory.apply();
    const { values } = await directory.resource('data.ucloud_vms.all');
    t.match(
      values.vms,
      [0, 1, 2].map((i) => ({ name: `twin-${i}`, user_data: `#!/bin/sh\n# twin ${i}` })),
    );
    t.match((await directory.resource('data.ucloud_vm.one')).values, { user_data: '#!/bin/sh\n# twin 0' });

    directory.write({ 'main.tf': prerequisites + vms.join('\n') });
    await directory.apply();
    const viewer = await cloud.api.member(cloud.project, 'viewer');
    await t.test('with the token of a viewer', async (t) => {
      asked(t, { UCLOUD_TOKEN: viewer.token });
      t.strictSame(await directory.pending(), []);
    });
    const [id] = (await cloud.member.list('vms', '?name=twin-1')).items.map((each) => each.id);
    await cloud.member.update('vms', String(id), { user_data: '#!/bin/sh\n# drift' });
    t.strictSame(await directory.pending(), ['ucloud_vm.twin-1: delete+create'], 'what has drifted is seen');
  },
);
