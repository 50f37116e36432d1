/** A VM's phase, from what its five writers say. */
import fc from 'fast-check';
import t from 'tap';
import { vmPhases } from '../../backend/contract/vms.ts';
import { newId } from '../../backend/model/ids.ts';
import type { ReportRecord, ScheduleRecord, VmRecord } from '../../backend/model/records.ts';
import { type VmObservations, vmStatus } from '../../backend/model/vm-view.ts';

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
const report: ReportRecord = { host, fence: 3, phase: 'running', started_at: at, restart_required: false, at };
const placed: VmObservations = { schedule, hostAlive: true };

t.test('one after the other', async (t) => {
  const rows: readonly (readonly [what: string, seen: VmObservations, expected: object, deleted?: true])[] = [
    ['nothing is known', { hostAlive: false }, { phase: 'pending', reason: undefined, host: undefined }],
    [
      'the scheduler found no host',
      { schedule: { fence: 0, reason: 'no_host', message: 'needs 64 GiB', at }, hostAlive: false },
      { phase: 'pending', reason: 'no_host', message: 'needs 64 GiB' },
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
    ['it is ready', { ...placed, report, readyAt: later }, { phase: 'running', ready: true }],
    ['it is ready at the very moment', { ...placed, report, readyAt: at }, { ready: true }],
    [
      'it was ready before it started',
      { ...placed, report: { ...report, started_at: later }, readyAt: at },
      { ready: false },
    ],
    [
      'it was ready and stops',
      { ...placed, report: { ...report, phase: 'stopping' }, readyAt: later },
      { phase: 'stopping', ready: false },
    ],
    ['a change waits', { ...placed, report: { ...report, restart_required: true } }, { restart_required: true }],
    [
      'a change waits, but it is stopped',
      { ...placed, report: { ...report, phase: 'stopped', restart_required: true } },
      { restart_required: false },
    ],
    [
      'it fails',
      { ...placed, report: { ...report, phase: 'error', reason: 'image_not_available', message: 'no image' } },
      { phase: 'error', reason: 'image_not_available', message: 'no image' },
    ],
    [
      'its host is lost',
      { ...placed, hostAlive: false, report, readyAt: later },
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

t.test('whatever is seen', async () => {
  const times = fc.constantFrom(at, later, undefined);
  const seen = fc.record({
    scheduled: fc.option(fc.record({ host: fc.option(fc.constant(host)), fence: fc.nat(3) })),
    reported: fc.option(
      fc.record({
        fence: fc.nat(3),
        phase: fc.constantFrom('preparing', 'starting', 'running', 'stopping', 'stopped', 'error', 'gone'),
        started_at: times,
        restart_required: fc.boolean(),
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
        ...(readyAt === undefined ? {} : { readyAt }),
      };
      const status = vmStatus(deleted ? { ...vm, deleted_at: at } : vm, observations);
      const current = scheduled?.host && hostAlive && !deleted && reported?.fence === scheduled.fence;
      return (
        vmPhases.includes(status.phase) &&
        (!status.ready || status.phase === 'running') &&
        (status.phase !== 'running' || (current === true && reported?.phase === 'running')) &&
        (status.phase === 'deleting') === deleted &&
        (status.host === undefined) === !scheduled?.host
      );
    }),
    { numRuns: 1000 },
  );
});
