/** The decisions of the scheduler about VMs, moves above all. */
import fc from 'fast-check';
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import type { OperationRecord, ReportRecord, VmRecord } from '../../backend/model/records/index.ts';
import { provesStopped } from '../../backend/model/vm/lifecycle.ts';
import { type Decision, decide, type VmFacts } from '../../backend/scheduler/plan.ts';

const [a, b] = [newId('host'), newId('host')];
const at = '2026-01-01T00:00:00.000Z';
const size = { cpus: 1, memory: 1, disk: 1 };
const vm = { cpus: 1, memory: 1, disk_size: 1, power_state: 'stopped' } as VmRecord;
const stopped: ReportRecord = { host: a, fence: 2, phase: 'stopped', at };
const facts: VmFacts = {
  vm,
  schedule: { host: a, fence: 2, at },
  placement: { fence: 2, ...size, at },
  report: stopped,
  ...{ hostExists: true, hostAlive: true, move: undefined, hasOtherMembers: false },
};
const move = (state: OperationRecord['state'], host?: typeof b) => ({ state, options: host ? { host } : {} });
const moves = (to?: typeof b): Decision => ({ do: 'move', from: a, to });
const running = { ...vm, power_state: 'running' as const };
const deleted = { ...vm, deleted_at: at };
type Expected = Decision | { readonly fails: RegExp };

const cases: readonly [story: string, change: Partial<VmFacts>, decision: Expected][] = [
  ['a placed VM stays', {}, { do: 'nothing' }],
  ['a new VM is placed', { schedule: undefined, placement: undefined, report: undefined }, { do: 'place' }],
  ['a deleted VM waits for its host', { vm: deleted }, { do: 'nothing' }],
  ['and is released afterwards', { vm: deleted, report: { ...stopped, phase: 'gone' } }, { do: 'release' }],
  ['a move takes any other host', { move: move('pending') }, moves()],
  ['or the asked one', { move: move('pending', b) }, moves(b)],
  [
    'also from a dead host, whose report proves that no guest runs',
    { move: move('pending'), hostAlive: false },
    moves(),
  ],
  ['also if the host has reported nothing with this fence', { move: move('pending'), report: undefined }, moves()],
  ['a report with an older fence is the same', { move: move('pending'), report: { ...stopped, fence: 1 } }, moves()],
  [
    'a guest that stops is waited for',
    { move: move('pending'), report: { ...stopped, phase: 'stopping' } },
    { do: 'nothing' },
  ],
  [
    'a guest that ended by itself has one more report',
    { move: move('pending'), report: { ...stopped, reason: 'crashed' } },
    { do: 'nothing' },
  ],
  [
    'without this proof, the VM of a dead host stays',
    { move: move('pending'), report: { ...stopped, phase: 'running' }, hostAlive: false },
    { fails: /no sign of life, and has not reported/ },
  ],
  ['a start ends the move', { vm: running, move: move('pending') }, { fails: /was started/ }],
  [
    'a VM that has moved waits for its new host',
    { move: move('running'), report: { ...stopped, host: b, fence: 1 } },
    { do: 'nothing' },
  ],
  ['whose report ends the move', { move: move('running') }, { do: 'end_move' }],
  [
    'also if the guest has started there',
    { vm: running, move: move('running'), report: { ...stopped, phase: 'starting' } },
    { do: 'end_move' },
  ],
  [
    'a new host that dies fails the move',
    { move: move('running'), report: undefined, hostAlive: false },
    { fails: /can move again/ },
  ],
  ['a deletion fails the move', { vm: deleted, move: move('pending') }, { fails: /deleted/ }],
  [
    'also when the record is gone',
    { vm: undefined, schedule: undefined, placement: undefined, move: move('running') },
    { fails: /deleted/ },
  ],
  [
    'a VM that must wait can still grow',
    { vm: { ...vm, cpus: 2 }, move: move('pending'), report: { ...stopped, phase: 'stopping' } },
    { do: 'grant', host: a, resources: { ...size, cpus: 2 }, increases: true },
  ],
];

for (const [story, change, expected] of cases) {
  t.test(story, async (t) => {
    const decision = decide({ ...facts, ...change });
    if ('do' in expected) t.strictSame(decision, expected);
    else t.match(decision, { do: 'end_move', error: { message: expected.fails } });
  });
}

t.test('a VM moves only while it is declared stopped and its records prove that no guest runs', async (t) => {
  const phases = ['preparing', 'starting', 'running', 'stopping', 'stopped', 'error', 'gone'] as const;
  const report = fc.record({
    host: fc.constantFrom(a, b),
    fence: fc.integer({ min: 1, max: 2 }),
    phase: fc.constantFrom(...phases),
    reason: fc.constantFrom(undefined, 'crashed'),
  });
  const world = fc.record({
    report: fc.option(report, { nil: undefined }),
    power_state: fc.constantFrom('running' as const, 'stopped' as const),
    deleted: fc.boolean(),
    hostAlive: fc.boolean(),
    state: fc.constantFrom(undefined, 'pending' as const, 'running' as const),
  });
  fc.assert(
    fc.property(world, ({ report, power_state, deleted, hostAlive, state }) => {
      const seen = report && ({ ...report, at } as ReportRecord);
      const all: VmFacts = {
        ...facts,
        vm: { ...vm, power_state, ...(deleted && { deleted_at: at }) },
        report: seen,
        hostAlive,
        move: state && move(state),
      };
      const decision = decide(all);
      if (decision.do !== 'move') return;
      const current = seen?.host === a && seen.fence === 2;
      t.ok(state === 'pending' && power_state === 'stopped' && !deleted);
      t.ok(!current || (seen.phase === 'stopped' && seen.reason === undefined));
      t.ok(provesStopped({ host: a, fence: 2, at }, seen));
    }),
  );
});
