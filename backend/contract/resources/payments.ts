import { type Static, Type } from '@sinclair/typebox';
import { crud, type Endpoint, idParams } from '../endpoint.ts';
import { Amount, Currency, common, Decimal, Enum, exampleId, IdOf, Reference, Timestamp, Whole } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource } from '../resource.ts';
import { Day } from './bills.ts';

/** The kinds of payments: to the operator, and back to the customer. */
export const paymentKinds = ['received', 'refunded'] as const;
export type PaymentKind = (typeof paymentKinds)[number];

/** The states of prepaid accounts. */
export const prepaidStates = ['ok', 'low', 'empty', 'lapsed'] as const;
export type PrepaidState = (typeof prepaidStates)[number];

const received_on = Day('Day of the payment. At most one day in the future. Default: today (UTC).');

/** The schema of the text of a transfer. */
export const referenceText = Type.String({
  maxLength: 200,
  pattern: '^[^\\x00-\\x1f\\x7f]*$',
  'x-rule': 'one line of text without control characters',
  default: '',
  description: 'Text of the transfer. Default: empty.',
});

/** The resource of payments. */
export const payment = resource({
  noun: 'payment',
  plural: 'payments',
  description:
    'Money that an operator has received from a customer, or paid back. A payment never changes and is never deleted: a payment of the other kind corrects a wrong one. It pays the bill that it names first, then the oldest ones.',
  apiOnly: true,
  immutable: {
    billing_account: Reference('billing_account', { description: 'Account of the customer.' }),
    kind: Enum(paymentKinds, {
      default: 'received',
      description: '`received`: from the customer. `refunded`: back to the customer.',
    }),
    amount: Amount({
      description: 'Amount in the currency of the account, more than 0, with at most the decimals of the currency.',
    }),
    received_on,
    reference: referenceText,
    bill: Type.Optional(Reference('bill', { description: 'Bill that is paid first. Default: the oldest open one.' })),
  },
  mutable: {},
  readonly: {
    id: IdOf('payment'),
    currency: Currency({ description: 'Currency of the account.' }),
    source: Type.Optional(
      Reference('payment_source', { description: 'Source that has reported the payment. Missing if a person did.' }),
    ),
    external_id: Type.Optional(Type.String({ description: 'Id of the payment at the source.' })),
    ...common,
  },
  create: { received_on: Type.Optional(received_on) },
  defaulted: ['kind', 'reference'],
  optional: ['bill', 'received_on'],
});
export type Payment = ItemType<typeof payment>;
export type PaymentCreate = CreateType<typeof payment>;
export type PaymentBody = BodyType<typeof payment>;

const declaration = {
  billing_account: exampleId('billing_account'),
  amount: '51.89',
  received_on: '2026-02-20',
  reference: 'UC-000017',
} as const;

/** The payment in examples. */
export const paymentExample: Payment = {
  id: exampleId('payment'),
  ...declaration,
  kind: 'received',
  currency: 'CHF',
  created_at: '2026-02-20T09:00:00.000Z',
  updated_at: '2026-02-20T09:00:00.000Z',
  revision: 120,
};

const OpenBill = Type.Object(
  {
    bill: Reference('bill', { description: 'Bill.' }),
    number: Type.String({ description: 'Number of the bill.' }),
    due_date: Day('Day until which the bill must be paid.'),
    gross: Decimal({ description: 'Amount of the bill.' }),
    open: Decimal({ description: 'Part of the amount that is not paid.' }),
    overdue: Type.Boolean({ description: 'The due date is over.' }),
    dunning_level: Type.Optional(Whole({ description: 'Number of the last reminder. Missing without one.' })),
  },
  { additionalProperties: false },
);

const PrepaidStatus = Type.Object(
  {
    state: Type.Optional(
      Enum(prepaidStates, {
        description:
          'State of the account. `low`: the money lasts for 7 days at most. `empty`: none is left; VMs are stopped, and nothing can be created. `lapsed`: empty for longer than the grace period. Missing until the billing component has seen the account.',
      }),
    ),
    since: Type.Optional(Timestamp({ description: 'Begin of the state; of `empty` for `lapsed`.' })),
    available: Decimal({ description: '`balance` minus the preliminary bills of all open months.' }),
  },
  { additionalProperties: false, description: 'Only for accounts that pay in advance.' },
);

/** The schema of a balance. */
export const AccountBalance = Type.Object(
  {
    billing_account: Reference('billing_account', { description: 'Account.' }),
    currency: Currency({ description: 'Currency.' }),
    received: Decimal({ description: 'Sum of the payments from the customer.' }),
    refunded: Decimal({ description: 'Sum of the payments back to the customer.' }),
    billed: Decimal({ description: 'Sum of the final bills minus credit notes, with VAT.' }),
    balance: Decimal({
      description: '`received` − `refunded` − `billed`. Negative if the customer owes money.',
    }),
    credit: Decimal({
      description:
        'Payments that pay no bill yet. Negative if more was refunded than received. `balance` is `credit` minus the open amounts.',
    }),
    overdue: Decimal({ description: 'Sum of the open amounts of bills whose due date is over.' }),
    prepaid: Type.Optional(PrepaidStatus),
    open_bills: Type.Array(OpenBill, { description: 'Bills with an open amount, the oldest first. At most 1,000.' }),
    revision: Whole({ description: 'Revision of the database that the response shows.' }),
  },
  { additionalProperties: false, title: 'AccountBalance' },
);
export type AccountBalance = Static<typeof AccountBalance>;

const { create, list, get } = crud(payment, {
  read: 'operator',
  write: 'operator',
  billing: true,
  scoped: false,
  createErrors: ['invalid_reference'],
  extraListQuery: {
    billing_account: Type.Optional(Reference('billing_account', { description: 'Only payments of this account.' })),
  },
  example: { create: declaration, item: paymentExample, update: {} },
});

/** The endpoints of payments. */
export const paymentEndpoints = {
  create,
  list,
  get,
  balance: {
    id: 'billing_account_balance',
    method: 'GET',
    path: '/v1/billing-accounts/{id}/balance',
    tag: 'billing-accounts',
    summary: 'Get the balance of an account',
    description: 'Returns payments minus final bills, and the bills that are not paid.',
    access: 'operator',
    billing: true,
    params: idParams('billing_account'),
    success: {
      status: 200,
      description: 'The balance.',
      schema: AccountBalance,
      example: {
        billing_account: exampleId('billing_account'),
        currency: 'CHF',
        ...{ received: '51.89', refunded: '0.00', billed: '95.13', balance: '-43.24', credit: '0.00', overdue: '0.00' },
        open_bills: [
          {
            ...{ bill: exampleId('bill'), number: 'UC-000018', due_date: '2026-03-31', gross: '43.24', open: '43.24' },
            overdue: false,
          },
        ],
        revision: 121,
      },
    },
    errors: ['not_found'],
  },
} as const satisfies Record<string, Endpoint>;
