import { type Static, Type } from '@sinclair/typebox';
import { crud, type Endpoint, idParams } from '../endpoint.ts';
import { Amount, Currency, common, Enum, exampleId, IdOf, Labels, Name, Reference } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { Day } from './bills.ts';
import { payment, paymentExample, referenceText } from './payments.ts';

/** The resource of payment sources. */
export const paymentSource = resource({
  noun: 'payment_source',
  plural: 'payment-sources',
  description:
    'A bank or payment service that reports payments by webhook. It signs its events with the secret, as in the Standard Webhooks specification. Only the response to the creation shows the secret. Who knows the secret can record payments for all accounts.',
  apiOnly: true,
  immutable: {
    replaces: Type.Optional(
      Reference('payment_source', {
        description:
          'Earlier source of the same service, whose secret this one replaces. An event that both report is one payment. Default: none.',
      }),
    ),
  },
  mutable: { name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }), labels: Labels },
  readonly: {
    id: IdOf('payment_source'),
    secret: Type.Optional(
      Type.String({
        'x-sensitive': true,
        description: 'Key of the signatures. Only in the response to the creation.',
      }),
    ),
    ...common,
  },
  defaulted: ['labels'],
  optional: ['replaces'],
});
export type PaymentSource = ItemType<typeof paymentSource>;
export type PaymentSourceCreate = CreateType<typeof paymentSource>;
export type PaymentSourceBody = BodyType<typeof paymentSource>;
export type PaymentSourceUpdate = UpdateType<typeof paymentSource>;

const example: PaymentSource = {
  id: exampleId('payment_source'),
  name: 'bank',
  labels: {},
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 9,
};

/** The types of events of payment sources. */
export const paymentEventTypes = ['payment.received', 'payment.refunded'] as const;

/** The maximum bytes of an event. */
export const maxEventBytes = 64 * 1024;

/** The schema of an event. Further fields of a service are ignored. */
export const PaymentEvent = Type.Object(
  {
    type: Enum(paymentEventTypes, { description: 'Direction of the payment.' }),
    data: Type.Object(
      {
        external_id: Type.String({
          minLength: 1,
          maxLength: 200,
          pattern: '^[\\x20-\\x7e]*$',
          'x-rule': '1 to 200 printable characters of ASCII',
          description: 'Id of the payment at the service. An event with the same id is the same payment.',
        }),
        billing_account: Type.Optional(
          Reference('billing_account', { description: 'Account of the customer. Default: that of the bill.' }),
        ),
        bill_number: Type.Optional(
          Type.String({ maxLength: 40, description: 'Number of the bill that is paid first.' }),
        ),
        amount: Amount({ description: 'Amount, more than 0.' }),
        currency: Currency({ description: 'Currency, which must be that of the account.' }),
        received_on: Type.Optional(Day('Day of the payment. Default: today (UTC).')),
        reference: Type.Optional(referenceText),
      },
      { description: 'The payment. `billing_account` or `bill_number` is required.' },
    ),
  },
  { title: 'PaymentEvent', description: 'A payment that a payment source reports.' },
);
export type PaymentEvent = Static<typeof PaymentEvent>;

const header = (description: string) => Type.String({ minLength: 1, maxLength: 4096, description });

/** The endpoints of payment sources. */
export const paymentSourceEndpoints = {
  ...crud(paymentSource, {
    read: 'operator',
    write: 'operator',
    scoped: false,
    createErrors: ['invalid_reference'],
    example: { create: { name: 'bank' }, item: example, update: { name: 'old-bank' } },
  }),
  event: {
    id: 'payment_source_event',
    method: 'POST',
    path: '/v1/payment-sources/{id}/events',
    tag: 'payment-sources',
    summary: 'Report a payment',
    description:
      'Records a payment that a bank or payment service reports. The request has no token: the headers carry a signature of the body with the secret of the source, as in the Standard Webhooks specification. The same event may come again, and in any order.',
    access: 'signed',
    params: idParams('payment_source'),
    headers: Type.Object({
      'webhook-id': header('Id of the message, a part of the signature.'),
      'webhook-timestamp': header('Time of the message in seconds since 1970. At most 5 minutes from now.'),
      'webhook-signature': header('`v1,` and the HMAC-SHA256 of `<id>.<timestamp>.<body>` in base 64.'),
    }),
    body: PaymentEvent,
    bodyExample: {
      type: 'payment.received',
      data: {
        ...{ external_id: 'tx-4711', bill_number: 'UC-000017', amount: '51.89', currency: 'CHF' },
        ...{ received_on: '2026-02-20', reference: 'UC-000017' },
      },
    },
    opaqueBody: { limit: maxEventBytes },
    success: {
      status: 200,
      description: 'The payment.',
      schema: payment.Item,
      example: { ...paymentExample, source: exampleId('payment_source'), external_id: 'tx-4711' },
    },
    errors: [
      'payment_exists',
      'conflict',
      'payload_too_large',
      'unsupported_media_type',
      'invalid_reference',
      'rule_violated',
    ],
  },
} as const satisfies Record<string, Endpoint>;
