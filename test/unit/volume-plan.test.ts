/** The decisions of the scheduler about volumes and snapshots. */
import t from 'tap';
import { newId } from '../../backend/model/ids.ts';
import { decideVolume, type VolumeDecision, type VolumeFacts } from '../../backend/scheduler/volume-plan.ts';

const [a, b] = [newId('host'), newId('host')];
const at = '2026-01-01T00:00:00.000Z';
const onA = { host: a, size: 1, at };
const facts: VolumeFacts = {
  volume: { size: 1 },
  placement: onA,
  report: { host: a, phase: 'available' },
  ...{ vmHost: undefined, hasSource: false, hostExists: true, hostActs: true, movable: false, otherPool: false },
  ...{ claimed: false, successor: b },
};
const grant = (host: typeof a, size = 1): VolumeDecision => ({ do: 'grant', host, size });
const nothing: VolumeDecision = { do: 'nothing' };
const fromSource = { hasSource: true, report: undefined, movable: true };

const cases: readonly [story: string, change: Partial<VolumeFacts>, decision: VolumeDecision][] = [
  ['a volume without VM stays', {}, nothing],
  ['a new volume goes to its VM', { placement: undefined, report: undefined, vmHost: b }, grant(b)],
  ['a local volume stays where its data is', { vmHost: b }, nothing],
  ['a volume in a shared pool follows its VM', { movable: true, vmHost: b }, grant(b)],
  ['but not while a guest may have it', { movable: true, vmHost: b, claimed: true }, nothing],
  ['data of a source is made on a host that acts', { ...fromSource, hostActs: false }, grant(b)],
  [
    'also after a failed attempt to make it there',
    { ...fromSource, report: { host: a, phase: 'creating' }, hostActs: false },
    grant(b),
  ],
  ['but not after the last attempt', { ...fromSource, report: { host: a, phase: 'error' }, hostActs: false }, nothing],
  ['also when no host was known', { ...fromSource, placement: undefined, hostActs: false }, grant(b)],
  ['and stays where it is being made', fromSource, nothing],
  [
    'a copy that a dead host has begun is made by another one',
    { ...fromSource, report: { host: a, phase: 'creating' }, hostActs: false },
    grant(b),
  ],
  [
    'complete data stays with a dead host until a VM needs it',
    { hasSource: true, movable: true, hostActs: false },
    nothing,
  ],
  ['local data of a dead host is lost with it', { hasSource: true, report: undefined, hostActs: false }, nothing],
  ['without another host, it waits', { ...fromSource, hostActs: false, successor: undefined }, nothing],
  ['a volume grows on its host', { volume: { size: 2 } }, grant(a, 2)],
  ['a deleted volume waits for its host', { volume: undefined }, nothing],
  ['and is released without data', { volume: undefined, report: { host: a, phase: 'gone' } }, { do: 'release' }],
  ['another host removes the data in a shared pool', { volume: undefined, movable: true, hostActs: false }, grant(b)],
];

for (const [story, change, decision] of cases) {
  t.test(story, async (t) => {
    t.strictSame(decideVolume({ ...facts, ...change }), decision);
  });
}
