import { type Static, Type } from '@sinclair/typebox';
import { type Endpoint, ListOf, listQuery, projectQuery, waitQuery } from '../endpoint.ts';
import { Enum, exampleId, IdOf, Reference, Timestamp } from '../fields.ts';

/** The schema of an event. */
export const EventItem = Type.Object(
  {
    id: IdOf('event'),
    project: Type.Optional(
      Reference('project', { description: 'Project of the object; none for objects of the cloud.' }),
    ),
    at: Timestamp({ description: 'Time of the event (RFC 3339, UTC).' }),
    target: Type.String({ description: 'Id of the object.' }),
    severity: Enum(['info', 'warning', 'error'], { description: 'Severity of the event.' }),
    reason: Type.String({
      description: 'Kind of the event, a constant word: `created`, `scheduled`, `started`, `no_host`, …',
    }),
    message: Type.String({ description: 'Text for people.' }),
  },
  {
    additionalProperties: false,
    title: 'Event',
    description: 'An event of an object. Events are kept for 7 days, and at most 10,000 per project.',
  },
);
export type Event = Static<typeof EventItem>;

const example: Event = {
  id: exampleId('event'),
  project: exampleId('project'),
  at: '2026-01-01T00:00:05.000Z',
  target: exampleId('vm'),
  severity: 'info',
  reason: 'started',
  message: 'Started on rack1-node3.',
};

/** The endpoints of events. */
export const eventEndpoints = {
  list: {
    id: 'event_list',
    method: 'GET',
    path: '/v1/events',
    tag: 'events',
    summary: 'List events',
    access: 'viewer',
    query: Type.Object(
      {
        ...listQuery,
        ...projectQuery,
        ...waitQuery,
        target: Type.Optional(Type.String({ maxLength: 64, description: 'Only events of this object.' })),
        order: Type.Optional(
          Enum(['oldest', 'newest'], { default: 'oldest', description: 'Order of the events, on every page.' }),
        ),
      },
      { additionalProperties: false },
    ),
    success: {
      status: 200,
      description: 'A page of the list, in the requested `order`.',
      schema: ListOf(EventItem, 'EventList'),
      example: { items: [example], revision: 42 },
    },
    errors: ['not_found'],
  },
} as const satisfies Record<string, Endpoint>;
