/** The next step of an agent for a running VM, by what it has reported and what it observes. */
import t from 'tap';
import { idFrom } from '../../backend/model/ids.ts';
import type { OperationRecord, PlacementRecord, ReportRecord, VmRecord } from '../../backend/model/records/index.ts';
import { nextStep, otherAddressesReason } from '../../backend/model/vm/lifecycle.ts';

const host = idFrom('host', 'host-0000000000000001');
const at = '2026-01-01T00:00:00.000Z';
const vm = { power_state: 'running', generation: 1 } as VmRecord;
const placement: PlacementRecord = { fence: 1, cpus: 1, memory: 2 ** 29, disk: 2 ** 30, at };
const running: ReportRecord = { host, fence: 1, phase: 'running', at };

t.test('the report of a running VM says whether its guest uses other addresses', async (t) => {
  const cases: readonly (readonly [reason: string | undefined, others: boolean | undefined, step: string])[] = [
    [undefined, false, 'nothing'],
    [undefined, true, 'report_running'],
    [otherAddressesReason, true, 'nothing'],
    [otherAddressesReason, undefined, 'nothing'],
    [undefined, undefined, 'nothing'],
    ['step_failed', undefined, 'report_running'],
    [otherAddressesReason, false, 'report_running'],
    ['step_failed', false, 'report_running'],
    ['step_failed', true, 'report_running'],
  ];
  for (const [reason, otherAddresses, step] of cases) {
    const report = reason === undefined ? running : { ...running, reason };
    const observed = { running: true, fence: 1 };
    const facts = { host, vm, placement, report, observed, otherAddresses, operation: undefined };
    t.equal(nextStep(facts).do, step, `${reason} and ${otherAddresses}`);
  }
});

t.test('no guest starts while its disks are restored, and a guest that runs ignores the restore', async (t) => {
  const restore = { kind: 'vm_restore', state: 'running', progress: 10, options: {} } as OperationRecord;
  const stopped: ReportRecord = { ...running, phase: 'stopped' };
  const step = (change: object) =>
    nextStep({ host, vm, placement, report: stopped, observed: undefined, operation: restore, ...change }).do;
  t.equal(step({}), 'nothing');
  t.equal(step({ operation: { ...restore, state: 'pending' } }), 'nothing');
  t.equal(step({ operation: undefined }), 'start');
  t.equal(step({ vm: { ...vm, power_state: 'stopped' } }), 'nothing', 'the agent does not refuse it');
  t.equal(step({ vm: { ...vm, deleted_at: at } }), 'destroy');
  const guest = { observed: { running: true, fence: 1 }, report: running };
  t.equal(step(guest), 'nothing', 'it is no reboot');
});
