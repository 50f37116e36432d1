import { type Static, Type } from '@sinclair/typebox';
import { type Endpoint, ListOf, listQuery, projectQuery, waitQuery } from '../endpoint.ts';
import { Enum, exampleId, IdOf, Reference, Timestamp } from '../fields.ts';

export const EventItem = Type.Object(
  {
    id: IdOf('event'),
    project: Type.Optional(
      Reference('project', { description: 'Project of the object; none for objects of the cloud.' }),
    ),
    at: Timestamp({ description: 'When it happened (RFC 3339, UTC).' }),
    target: Type.String({ description: 'Id of the object it happened to.' }),
    severity: Enum(['info', 'warning', 'error'], { description: 'How bad it is.' }),
    reason: Type.String({
      description: 'What happened, as a stable word: `created`, `scheduled`, `started`, `no_host`, …',
    }),
    message: Type.String({ description: 'The same for people.' }),
  },
  {
    additionalProperties: false,
    title: 'Event',
    description: 'Something that happened to an object. Kept for 7 days, of one project the last 10,000.',
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
          Enum(['oldest', 'newest'], { default: 'oldest', description: 'Which events come first, on every page.' }),
        ),
      },
      { additionalProperties: false },
    ),
    success: {
      status: 200,
      description: 'A page of the list, in the `order` that was asked for.',
      schema: ListOf(EventItem, 'EventList'),
      example: { items: [example], revision: 42 },
    },
    errors: ['not_found'],
  },
} as const satisfies Record<string, Endpoint>;
