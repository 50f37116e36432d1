/** The phase of a VM, derived from the records of its five writers. */
import fc from 'fast-check';
import t from 'tap';
import { vmPhases } from '../../backend/contract/resources/vms.ts';
import { newId } from '../../backend/model/ids.ts';
import type { ReportRecord, ScheduleRecord, VmRecord } from '../../backend/model/records/index.ts';
import { grantPending } from '../../backend/model/vm/lifecycle.ts';
import { type VmObservations, vmStatus } from '../../backend/model/vm/status.ts';

const at = '2026-01-01T00:00:00.000Z';
const later = '2026-01-01T00:00:05.000Z';
const host = newId('host');
const vm: VmRecord = {
  id: newId('vm'),
  project: newId('project'),
  name: 'vm',
  labels: {},
  description: '',
  image: newId('image'),
  interfaces: [],
  cpus: 1,
  memory: 1,
  disk_size: 1,
  ssh_keys: [],
  power_state: 'running',
  delete_protection: false,
  generation: 1,
  created_at: at,
  updated_at: at,
};
const schedule: ScheduleRecord = { host, fence: 3, at };
const resources = { cpus: 1, memory: 1, disk: 1 };
const report: ReportRecord = { host, fence: 3, phase: 'running', generation: 1, resources, started_at: at, at };
const placed: VmObservations = { schedule, hostAlive: true };

t.test('each phase in its order', async (t) => {
  const rows: readonly (readonly [what: string, seen: VmObservations, expected: object, deleted?: true])[] = [
    ['nothing is known', { hostAlive: false }, { phase: 'pending', reason: undefined, host: undefined }],
    [
      'the scheduler found no host',
      { schedule: { fence: 0, reason: 'no_host', message: 'needs 64GiB', at }, hostAlive: false },
      { phase: 'pending', reason: 'no_host', message: 'needs 64GiB' },
    ],
    ['it has a host', placed, { phase: 'scheduled', host }],
    [
      'a report of an older placement',
      { ...placed, report: { ...report, fence: 2 } },
      { phase: 'scheduled', started_at: undefined },
    ],
    ['the host has torn down', { ...placed, report: { ...report, phase: 'gone' } }, { phase: 'scheduled' }],
    ['it starts', { ...placed, report: { ...report, phase: 'starting' } }, { phase: 'starting', ready: false }],
    ['it runs', { ...placed, report }, { phase: 'running', started_at: at, ready: false }],
    ['it is ready', { ...placed, report, guest: { ready_at: later } }, { phase: 'running', ready: true }],
    ['it is ready at the very moment', { ...placed, report, guest: { ready_at: at } }, { ready: true }],
    [
      'it was ready before it started',
      { ...placed, report: { ...report, started_at: later }, guest: { ready_at: at } },
      { ready: false },
    ],
    [
      'it was ready and stops',
      { ...placed, report: { ...report, phase: 'stopping' }, guest: { ready_at: later } },
      { phase: 'stopping', ready: false },
    ],
    [
      'it fails',
      { ...placed, report: { ...report, phase: 'error', reason: 'image_not_available', message: 'no image' } },
      { phase: 'error', reason: 'image_not_available', message: 'no image' },
    ],
    [
      'its host is lost',
      { ...placed, hostAlive: false, report, guest: { ready_at: later } },
      { phase: 'unknown', reason: 'host_lost', ready: false, host },
    ],
    ['it is deleted', { ...placed, report }, { phase: 'deleting', ready: false }, true],
    [
      'it is deleted and its host is lost',
      { ...placed, hostAlive: false },
      { phase: 'deleting', reason: 'host_lost' },
      true,
    ],
    ['it is deleted and never had a host', { hostAlive: false }, { phase: 'deleting', reason: undefined }, true],
  ];
  for (const [what, seen, expected, deleted] of rows) {
    const status = {
      reason: undefined,
      host: undefined,
      started_at: undefined,
      ...vmStatus(deleted ? { ...vm, deleted_at: later } : vm, seen),
    };
    t.match(status, expected, what);
  }
});

t.test('a restart is required while the guest runs with other values than declared', async (t) => {
  const grown: Partial<VmRecord> = { generation: 2, cpus: 2, disk_size: 2 };
  const told: Partial<VmRecord> = { generation: 2, user_data: '#!', user_data_generation: 2 };
  const rows: readonly (readonly [string, Partial<VmRecord>, Partial<ReportRecord>, string[], hostAlive?: false])[] = [
    ['nothing has changed', {}, {}, []],
    ['another name', { generation: 2, name: 'other' }, {}, []],
    ['other sizes', grown, {}, ['cpus', 'disk_size']],
    ['what the guest was started with counts', grown, { resources: { cpus: 2, memory: 1, disk: 2 } }, []],
    ['other user data', told, {}, ['user_data']],
    ['both', { ...grown, ...told }, {}, ['cpus', 'disk_size', 'user_data']],
    ['user data that the guest was started with', told, { generation: 2 }, []],
    ['and other things changed since', { ...told, generation: 9 }, { generation: 2 }, []],
    ['it was taken away', { generation: 3, user_data_generation: 3 }, { generation: 2 }, ['user_data']],
    ['while the guest starts', told, { phase: 'starting' }, ['user_data']],
    ['while the guest stops, to be started again', told, { phase: 'stopping' }, ['user_data']],
    ['while a step keeps failing', told, { phase: 'error' }, ['user_data']],
    ['while its host is lost', told, {}, ['user_data'], false],
    ['a VM that never ran owes nothing', told, { phase: 'error', started_at: undefined }, []],
    ['nor one that is made ready', told, { phase: 'preparing' }, []],
    ['nor one that has stopped', told, { phase: 'stopped' }, []],
    ['nor one that is to stop', { ...told, power_state: 'stopped' }, {}, []],
    ['nor one that is being deleted', { ...told, deleted_at: at }, {}, []],
    ['nor a report of an older placement', told, { fence: 2 }, []],
    [
      'adopted, nobody knows with what sizes',
      { generation: 2 },
      { resources: undefined },
      ['cpus', 'memory', 'disk_size'],
    ],
    [
      'adopted, not even its generation is known',
      told,
      { resources: undefined, generation: undefined },
      ['cpus', 'memory', 'disk_size', 'user_data'],
    ],
  ];
  for (const [what, change, run, expected, hostAlive = true] of rows) {
    const said = { ...report, ...run } as ReportRecord;
    const status = vmStatus({ ...vm, ...change }, { schedule, hostAlive, report: said });
    t.match(status, { pending_changes: expected, restart_required: expected.length > 0 }, what);
    t.equal(status.pending_changes.length, expected.length, what);
  }
});

t.test('a change of user data requires a restart until the next start', async () => {
  const events = fc.array(fc.constantFrom('change', 'rename', 'start'), { maxLength: 12 });
  fc.assert(
    fc.property(events, (history) => {
      let declared = vm;
      let run: ReportRecord = report;
      let owed = false;
      for (const event of history) {
        const generation = declared.generation + 1;
        if (event === 'start') run = { ...run, generation: declared.generation };
        else declared = { ...declared, generation, ...(event === 'change' && { user_data_generation: generation }) };
        owed = event === 'change' || (event === 'rename' && owed);
        const { pending_changes } = vmStatus(declared, { ...placed, report: run });
        if (pending_changes.includes('user_data') !== owed) return false;
      }
      return true;
    }),
  );
});

t.test('a start waits until the scheduler has decided about the growth of the VM', async () => {
  const amount = fc.integer({ min: 1, max: 3 });
  const sizes = fc.record({ cpus: amount, memory: amount, disk: amount });
  const noted = fc.option(fc.constantFrom('resize_waits', 'no_host'), { nil: undefined });
  fc.assert(
    fc.property(sizes, sizes, noted, fc.boolean(), ({ disk, ...wanted }, granted, reason, scheduled) => {
      const note = scheduled ? { ...schedule, ...(reason && { reason }) } : undefined;
      const grows = wanted.cpus > granted.cpus || wanted.memory > granted.memory || disk > granted.disk;
      const decided = scheduled && reason !== undefined;
      return grantPending({ ...vm, ...wanted, disk_size: disk }, granted, note) === (grows && !decided);
    }),
  );
});

t.test('for all combinations of records', async () => {
  const times = fc.constantFrom(at, later, undefined);
  const seen = fc.record({
    scheduled: fc.option(fc.record({ host: fc.option(fc.constant(host)), fence: fc.nat(3) })),
    reported: fc.option(
      fc.record({
        fence: fc.nat(3),
        phase: fc.constantFrom('preparing', 'starting', 'running', 'stopping', 'stopped', 'error', 'gone'),
        started_at: times,
        restart_required: fc.option(fc.boolean(), { nil: undefined }),
        generation: fc.option(fc.nat(3), { nil: undefined }),
      }),
    ),
    readyAt: times,
    hostAlive: fc.boolean(),
    deleted: fc.boolean(),
  });
  fc.assert(
    fc.property(seen, ({ scheduled, reported, readyAt, hostAlive, deleted }) => {
      const { started_at, ...rest } = reported ?? {};
      const observations: VmObservations = {
        hostAlive,
        ...(scheduled ? { schedule: { fence: scheduled.fence, at, ...(scheduled.host ? { host } : {}) } } : {}),
        ...(reported
          ? { report: { ...reported, ...rest, host, at, started_at: started_at ?? at } as ReportRecord }
          : {}),
        ...(readyAt === undefined ? {} : { guest: { ready_at: readyAt, user_data: 'failed', exit_code: 3 } }),
      };
      const status = vmStatus(deleted ? { ...vm, deleted_at: at } : vm, observations);
      const current = scheduled?.host && hostAlive && !deleted && reported?.fence === scheduled.fence;
      return (
        vmPhases.includes(status.phase) &&
        (!status.ready || status.phase === 'running') &&
        (status.user_data !== undefined) === status.ready &&
        (status.phase !== 'running' || (current === true && reported?.phase === 'running')) &&
        (status.phase === 'deleting') === deleted &&
        (status.host === undefined) === !scheduled?.host &&
        status.restart_required === status.pending_changes.length > 0 &&
        (!status.restart_required || (scheduled?.fence === reported?.fence && !deleted))
      );
    }),
    { numRuns: 1000 },
  );
});
