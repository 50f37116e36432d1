/** Events: what happened to an object, for its owner to read. Whoever brings something about appends it, in the same commit. */
import type { Id } from '../contract/fields.ts';
import { newTimeOrderedId } from './ids.ts';
import type { EventRecord } from './records.ts';

export type Happening = Pick<EventRecord, 'severity' | 'reason' | 'message'>;

/** What happened at `now` to an object, as the id and the value of a record: `put(events, ...newEvent(…))`. */
export function newEvent(
  now: Date,
  { id: target, project }: { readonly id: string; readonly project?: Id<'project'> | undefined },
  happening: Happening,
): [id: Id<'event'>, value: EventRecord] {
  const id = newTimeOrderedId('event', now);
  return [id, { id, ...(project === undefined ? {} : { project }), at: now.toISOString(), target, ...happening }];
}
