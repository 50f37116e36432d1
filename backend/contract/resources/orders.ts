import { Type } from '@sinclair/typebox';
import { crud, type Endpoint, idParams, ListOf, listQuery, projectQuery } from '../endpoint.ts';
import { common, Description, Enum, exampleId, IdOf, Labels, Reference, Timestamp, Whole } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { meterFields } from './meters.ts';

const Item = Type.Object(
  {
    ...meterFields,
    product: Type.Optional(Reference('product', { description: 'The booked product, with the meter `booked`.' })),
    quantity: Whole({ description: 'Quantity: a number, or bytes for meters whose unit is GiB.' }),
  },
  { additionalProperties: false, description: 'An ordered quantity.' },
);

/** The resource of orders. */
export const order = resource({
  noun: 'order',
  plural: 'orders',
  description:
    'An order that is open. The creation of a VM, a volume, a snapshot or a prefix is the order: it opens in the same transaction. A resize ends the order and opens the next. A deletion ends it. The quantities of an order never change. Operators also book products for projects, such as hours of work.',
  immutable: {
    project: Reference('project', { description: 'Project that pays.' }),
    product: Type.Optional(
      Reference('product', { description: 'The booked product, with the meter `booked`. Only for bookings.' }),
    ),
    quantity: Type.Optional(
      Whole({ minimum: 1, maximum: 1_000_000, description: 'Number of booked units. Only for bookings.' }),
    ),
  },
  mutable: {
    labels: Labels,
    description: { ...Description, description: 'Text of a booking for people. Default: empty.' },
  },
  readonly: {
    id: IdOf('order'),
    object: Type.Optional(Type.String({ description: 'Id of the ordered object. Bookings have none.' })),
    title: Type.String({ description: 'Name of the object at the begin of the order, or of the booked product.' }),
    items: Type.Array(Item, { description: 'Ordered quantities.' }),
    opened_at: Timestamp({ description: 'Begin of the order.' }),
    replaces: Type.Optional(Reference('order', { description: 'Order of the object before its last resize.' })),
    ...common,
  },
  create: {
    project: Type.Optional(Reference('project', { description: 'Project that pays. Default: that of the token.' })),
    product: Reference('product', { description: 'The product, with the meter `booked`.' }),
    quantity: Whole({ minimum: 1, maximum: 1_000_000, description: 'Number of units.' }),
  },
  defaulted: ['description', 'labels'],
  optional: ['project'],
});
export type Order = ItemType<typeof order>;
export type OrderCreate = CreateType<typeof order>;
export type OrderBody = BodyType<typeof order>;
export type OrderUpdate = UpdateType<typeof order>;

const example: Order = {
  id: exampleId('order'),
  project: exampleId('project'),
  object: exampleId('vm'),
  title: 'web-1',
  description: '',
  labels: { tier: 'web' },
  items: [
    { meter: 'vm', quantity: 1 },
    { meter: 'vm_cpu', quantity: 2 },
    { meter: 'vm_memory', quantity: 4294967296 },
    { meter: 'vm_disk', quantity: 21474836480 },
  ],
  opened_at: '2026-01-01T00:00:00.000Z',
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 44,
};

/** The reasons of the end of an order. */
export const orderEnds = ['replaced', 'deleted', 'ended', 'cancelled'] as const;

/** The schema of an order that has ended. */
export const EndedOrder = Type.Object(
  {
    id: IdOf('order'),
    project: Reference('project', { description: 'Project that pays.' }),
    object: Type.Optional(Type.String({ description: 'Id of the ordered object. Bookings have none.' })),
    product: Type.Optional(Reference('product', { description: 'The booked product. Only for bookings.' })),
    title: Type.String({ description: 'Name of the object at the begin of the order, or of the booked product.' }),
    description: Type.String({ description: 'Text of a booking.' }),
    labels: Labels,
    items: Type.Array(Item, { description: 'Ordered quantities.' }),
    opened_at: Timestamp({ description: 'Begin of the order.' }),
    ended_at: Timestamp({ description: 'End of the order.' }),
    replaces: Type.Optional(Reference('order', { description: 'Order of the object before its last resize.' })),
    end: Enum(orderEnds, {
      description:
        'Reason of the end. `replaced`: a resize opened the next order. `deleted`: the object was deleted. `ended`: an operator ended the booking. `cancelled`: an operator took back the booking, which costs nothing.',
    }),
  },
  {
    additionalProperties: false,
    title: 'EndedOrder',
    description: 'An order that has ended. It never changes.',
  },
);

/** The endpoints of orders. */
export const orderEndpoints = {
  ...crud(order, {
    read: 'viewer',
    write: 'operator',
    scoped: true,
    createErrors: ['invalid_reference', 'billing_account_required'],
    deleteErrors: ['invalid_state'],
    extraListQuery: {
      object: Type.Optional(Type.String({ maxLength: 64, description: 'Only the order of this object.' })),
    },
    example: {
      create: { project: exampleId('project'), product: exampleId('product'), quantity: 3, description: 'Migration' },
      item: example,
      update: { labels: { ticket: '1234' } },
    },
  }),
  cancel: {
    id: 'order_cancel',
    method: 'POST',
    path: '/v1/orders/{id}/cancel',
    tag: 'orders',
    summary: 'Take back a booking',
    description:
      'Takes back an open booking as if it had never been made: it costs nothing. This works until a month of the booking is on a final bill; a credit note gives back the rest. A deletion ends a booking instead, and its charges stay.',
    access: 'operator',
    params: idParams('order'),
    success: { status: 204, description: 'Cancelled.' },
    errors: ['not_found', 'invalid_state', 'conflict'],
  },
  ended: {
    id: 'ended_order_list',
    method: 'GET',
    path: '/v1/ended-orders',
    tag: 'orders',
    summary: 'List ended orders of a project',
    access: 'viewer',
    query: Type.Object({ ...listQuery, ...projectQuery }, { additionalProperties: false }),
    success: {
      status: 200,
      description: 'A page of the list, in the order of their ends.',
      schema: ListOf(EndedOrder, 'EndedOrderList'),
      example: {
        items: [
          {
            ...{ id: example.id, project: example.project, object: exampleId('vm'), title: 'web-1', description: '' },
            ...{ labels: {}, items: example.items, opened_at: example.opened_at },
            ended_at: '2026-01-08T12:00:00.000Z',
            end: 'deleted',
          },
        ],
        revision: 42,
      },
    },
    errors: ['not_found'],
  },
} as const satisfies Record<string, Endpoint>;
