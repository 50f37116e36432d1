/** Events. Every component writes its own. */
import { type Static, Type } from '@sinclair/typebox';
import { id, kind, oneOf, time } from './form.ts';

/** `events/<id>`, with time-ordered ids. Events are removed after 7 days. */
export const events = kind('events/', {
  id: id('event'),
  project: Type.Optional(id('project')),
  at: time,
  target: Type.String(),
  severity: oneOf(['info', 'warning', 'error']),
  reason: Type.String(),
  message: Type.String(),
});
export type EventRecord = Static<typeof events.schema>;
