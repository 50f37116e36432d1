/**
 * Events: a log of an object's changes for its owner. The component that causes a change adds the event in the same
 * commit.
 */
import type { Id } from '../contract/fields.ts';
import { newTimeOrderedId } from './ids.ts';
import type { EventRecord } from './records/index.ts';

/** The part of an event that its cause defines. */
export type EventDetails = Pick<EventRecord, 'severity' | 'reason' | 'message'>;

/**
 * Returns the id and the value of a new event record, for `put(events, ...newEvent(…))`.
 * @param now the time of the event
 */
export function newEvent(
  now: Date,
  { id: target, project }: { readonly id: string; readonly project?: Id<'project'> | undefined },
  details: EventDetails,
): [id: Id<'event'>, value: EventRecord] {
  const id = newTimeOrderedId('event', now);
  return [id, { id, ...(project === undefined ? {} : { project }), at: now.toISOString(), target, ...details }];
}
