import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import {
  common,
  DeleteProtection,
  Description,
  Enum,
  exampleId,
  IdOf,
  Labels,
  Name,
  Reference,
  Timestamp,
} from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { consistencies } from './snapshots.ts';

/** The maximum number of complete snapshots that a schedule keeps. */
export const maxRetained = 1000;

/** The resource of snapshot schedules. */
export const snapshotSchedule = resource({
  noun: 'snapshot_schedule',
  plural: 'snapshot-schedules',
  description:
    'Makes snapshots of a volume or a VM at regular times, and deletes the oldest ones. After an outage, it makes one snapshot and not all that it missed. Its deletion keeps its snapshots.',
  immutable: {
    volume: Type.Optional(
      Reference('volume', { description: 'The volume to copy. Exactly one of `volume` and `vm` is set.' }),
    ),
    vm: Type.Optional(Reference('vm', { description: 'The VM whose disks are copied, all at the same instant.' })),
  },
  mutable: {
    name: Name(),
    description: Description,
    labels: Labels,
    cron: Type.String({
      maxLength: 200,
      pattern: '^[0-9*,/-]+( [0-9*,/-]+){4}$',
      'x-rule': 'five fields of numbers, `*`, `,`, `-` and `/`, with one space between them, such as `0 3 * * *`',
      description:
        'The times of the snapshots in the form of cron, in UTC: minute, hour, day of the month, month, day of the week (0 is Sunday). The minute is one number. `0 3 * * *` is each day at 03:00, `30 */6 * * *` every six hours, `0 4 * * 7` each Sunday.',
    }),
    retain: Type.Integer({
      minimum: 1,
      maximum: maxRetained,
      description:
        'Number of complete snapshots of this schedule that stay. The schedule deletes older ones after the new one is complete, so quota and disk must have room for one more. Snapshots with delete protection and snapshots that the schedule has not made neither count nor go.',
    }),
    consistency: Enum(consistencies, { default: 'crash', description: 'Consistency of the snapshots.' }),
    snapshot_labels: Type.Unsafe<Record<string, string>>({
      ...Labels,
      description: 'Labels of the snapshots. A change holds for new snapshots.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: {
    id: IdOf('snapshot_schedule'),
    project: Reference('project', { description: 'The project of the source.' }),
    status: Type.Object(
      {
        phase: Enum(['active', 'source_gone'], {
          description:
            'Phase of the schedule. source_gone: the volume or VM is deleted, so there are no more snapshots.',
        }),
        next_at: Type.Optional(Timestamp({ description: 'The time of the next snapshot.' })),
        last_at: Type.Optional(Timestamp({ description: 'The last time at which a snapshot was due.' })),
        last_snapshot: Type.Optional(
          Reference('snapshot', { description: 'The snapshot of this time. It may be deleted.' }),
        ),
        reason: Type.Optional(
          Type.String({
            description:
              'Reason why there is no snapshot of this time, as a constant word: `quota_exceeded`, `unfinished` (an earlier snapshot of the schedule is not complete), `invalid_state`, … The schedule tries again at its next time.',
          }),
        ),
        message: Type.Optional(Type.String({ description: 'Text for people.' })),
      },
      { additionalProperties: false, 'x-volatile': true, description: 'Observed state.' },
    ),
    ...common,
  },
  defaulted: ['description', 'labels', 'consistency', 'snapshot_labels', 'delete_protection'],
  optional: ['volume', 'vm'],
});
export type SnapshotSchedule = ItemType<typeof snapshotSchedule>;
export type SnapshotScheduleCreate = CreateType<typeof snapshotSchedule>;
export type SnapshotScheduleBody = BodyType<typeof snapshotSchedule>;
export type SnapshotScheduleUpdate = UpdateType<typeof snapshotSchedule>;

const example: SnapshotSchedule = {
  id: exampleId('snapshot_schedule'),
  project: exampleId('project'),
  name: 'nightly',
  description: '',
  labels: {},
  volume: exampleId('volume'),
  cron: '0 3 * * *',
  retain: 7,
  consistency: 'crash',
  snapshot_labels: {},
  delete_protection: false,
  status: { phase: 'active', next_at: '2026-01-02T03:00:00.000Z' },
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 37,
};

/** The endpoints of snapshot schedules. */
export const snapshotScheduleEndpoints = crud(snapshotSchedule, {
  read: 'viewer',
  write: 'member',
  scoped: true,
  createErrors: ['being_deleted'],
  deleteErrors: ['delete_protected'],
  example: {
    create: { name: 'nightly', volume: exampleId('volume'), cron: '0 3 * * *', retain: 7 },
    item: example,
    update: { retain: 14 },
  },
});
