import { type Static, Type } from '@sinclair/typebox';
import { crud, type Endpoint, idParams, mutationHeaders, projectQuery } from '../endpoint.ts';
import {
  Amount,
  Currency,
  common,
  Decimal,
  Enum,
  exampleId,
  IdOf,
  Labels,
  Reference,
  Timestamp,
  Whole,
} from '../fields.ts';
import { type ItemType, resource } from '../resource.ts';

/** Returns the schema of a calendar month. */
export const MonthText = (description: string) =>
  Type.String({
    pattern: '^[0-9]{4}-(0[1-9]|1[0-2])$',
    'x-rule': 'a calendar month such as `2026-11`',
    description,
  });

/** Returns the schema of a day. */
export const Day = (description: string) =>
  Type.String({ pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}$', 'x-rule': 'a day such as `2026-11-30`', description });

/** The kinds of bills. */
export const billKinds = ['bill', 'credit_note'] as const;

/** The resource of bills. */
export const bill = resource({
  noun: 'bill',
  plural: 'bills',
  description:
    'A final bill of a billing account for a calendar month (UTC), or a credit note. It gets its number when it becomes final, and never changes. The billing component makes bills after the end of the month.',
  immutable: {},
  mutable: {},
  readonly: {
    id: IdOf('bill'),
    number: Type.String({ description: 'Number of the bill. The numbers of a series have no gaps.' }),
    kind: Enum(billKinds, { description: '`bill`, or `credit_note`: its amounts go back to the customer.' }),
    corrects: Type.Optional(Reference('bill', { description: 'Bill that the credit note corrects.' })),
    billing_account: Reference('billing_account', { description: 'Account that pays.' }),
    legal_entity: Reference('legal_entity', { description: 'Company that issues the bill.' }),
    month: MonthText('Calendar month of the bill (UTC).'),
    issue_date: Day('Date of the bill.'),
    due_date: Day('Day until which the bill must be paid.'),
    currency: Currency({ description: 'Currency.' }),
    net: Decimal({ description: 'Amount before VAT.' }),
    vat: Decimal({ description: 'VAT.' }),
    gross: Decimal({ description: 'Amount with VAT: to be paid, or what a credit note gives back.' }),
    vat_check: Type.Optional(
      Type.Object(
        {
          vat_number: Type.String({ description: 'VAT number of the customer.' }),
          answer: Enum(['valid', 'invalid', 'unknown'], { description: 'Answer of VIES.' }),
          at: Timestamp({ description: 'Time of the answer.' }),
          consultation_number: Type.Optional(Type.String({ description: 'Consultation number of VIES.' })),
        },
        {
          additionalProperties: false,
          description: 'Last answer about the VAT number of the customer before the bill. Missing without a number.',
        },
      ),
    ),
    sha256: Type.String({ description: 'SHA-256 of the document as JSON, in hex.' }),
    ...common,
  },
});
export type Bill = ItemType<typeof bill>;

const example: Bill = {
  id: exampleId('bill'),
  number: 'UC-000017',
  kind: 'bill',
  billing_account: exampleId('billing_account'),
  legal_entity: exampleId('legal_entity'),
  month: '2026-01',
  issue_date: '2026-02-01',
  due_date: '2026-03-03',
  currency: 'CHF',
  net: '48.00',
  vat: '3.89',
  gross: '51.89',
  sha256: '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03',
  created_at: '2026-02-01T01:00:00.000Z',
  updated_at: '2026-02-01T01:00:00.000Z',
  revision: 90,
};

/** The forms of the document of a bill. */
export const billFormats = ['json', 'pdf', 'xrechnung', 'cii'] as const;
export type BillFormat = (typeof billFormats)[number];

const Line = Type.Object(
  {
    description: Type.String({ description: 'Text of the line.' }),
    project: Type.Optional(Type.String({ description: 'Name of the project.' })),
    quantity: Decimal({ description: 'Quantity.' }),
    unit: Type.String({ description: 'Unit of the quantity.' }),
    unit_price: Decimal({ description: 'Price of one unit.' }),
    net: Decimal({ description: 'Amount before VAT.' }),
  },
  { additionalProperties: false },
);

/** The schema of a preliminary bill. */
export const BillPreview = Type.Object(
  {
    billing_account: Reference('billing_account', { description: 'Account that pays.' }),
    month: MonthText('Calendar month (UTC).'),
    until: Timestamp({ description: 'Time up to which uses are charged.' }),
    currency: Currency({ description: 'Currency.' }),
    lines: Type.Array(Line, { description: 'Lines.' }),
    net: Decimal({ description: 'Amount before VAT.' }),
    vat: Type.Optional(Decimal({ description: 'VAT. Missing if it is not known yet.' })),
    gross: Type.Optional(Decimal({ description: 'Amount with VAT. Missing if the VAT is not known yet.' })),
    waits: Type.Optional(
      Type.String({ description: 'Reason why the bill cannot become final yet, such as a VAT number without answer.' }),
    ),
    revision: Whole({ description: 'Revision of the database that the response shows.' }),
  },
  { additionalProperties: false, title: 'BillPreview' },
);
export type BillPreview = Static<typeof BillPreview>;

const Cost = Type.Object(
  {
    resource: Type.String({ description: 'Id of the object, or of the booking.' }),
    title: Type.String({ description: 'Name of the object at the begin of its order.' }),
    labels: { ...Labels, description: 'Labels of the object at the end of its use, or at the begin of its order.' },
    product: Reference('product', { description: 'Product.' }),
    cost: Decimal({ description: 'Cost before VAT, with 8 decimals at most. Bills round the sum of a line.' }),
  },
  { additionalProperties: false },
);

/** The schema of the costs of a project. */
export const Costs = Type.Object(
  {
    project: Reference('project', { description: 'Project.' }),
    month: MonthText('Calendar month (UTC).'),
    until: Timestamp({ description: 'Time up to which uses are charged.' }),
    currency: Type.Optional(Currency({ description: 'Currency. Missing if no account pays for the project.' })),
    total: Decimal({ description: 'Sum of all costs, rounded half up.' }),
    items: Type.Array(Cost, { description: 'Costs by object and product, the largest first. At most 10,000.' }),
    revision: Whole({ description: 'Revision of the database that the response shows.' }),
  },
  { additionalProperties: false, title: 'Costs' },
);
export type Costs = Static<typeof Costs>;

const { list, get } = crud(bill, {
  read: 'operator',
  write: 'operator',
  billing: true,
  scoped: false,
  extraListQuery: {
    billing_account: Type.Optional(Reference('billing_account', { description: 'Only bills of this account.' })),
    number: Type.Optional(Type.String({ maxLength: 64, description: 'Only the bill with this number.' })),
  },
  example: { create: {}, item: example, update: {} },
});

const monthQuery = Type.Object(
  { month: Type.Optional(MonthText('Calendar month (UTC). Default: the present month.')) },
  { additionalProperties: false },
);

/** The endpoints of bills. */
export const billEndpoints = {
  list,
  get,
  document: {
    id: 'bill_document',
    method: 'GET',
    path: '/v1/bills/{id}/document',
    tag: 'bills',
    summary: 'Get the document of a bill',
    description:
      'Returns the bill as JSON, as PDF/A-3 with the EN 16931 XML inside, as XRechnung (UBL), or as CII. The same bill always has the same document.',
    access: 'operator',
    billing: true,
    params: idParams('bill'),
    query: Type.Object(
      { format: Type.Optional(Enum(billFormats, { default: 'json', description: 'Form of the document.' })) },
      { additionalProperties: false },
    ),
    success: {
      status: 200,
      description: 'The document.',
      schema: Type.Object(
        { number: Type.String({ description: 'Number of the bill.' }) },
        {
          additionalProperties: true,
          title: 'BillDocument',
          description:
            'Document of a bill: seller, buyer, lines, VAT groups and totals, with amounts as decimal texts. Further fields may follow in later versions.',
        },
      ),
      opaque: true,
      media: ['application/pdf', 'application/xml'],
      example: { number: example.number },
    },
    errors: ['not_found'],
  },
  credit: {
    id: 'bill_credit',
    method: 'POST',
    path: '/v1/bills/{id}/credit',
    tag: 'bills',
    summary: 'Create a credit note for a bill',
    description:
      'Gives back a bill, or amounts of its lines. The credit note gets the next number of the series. All credit notes of a bill together give back at most its lines.',
    access: 'operator',
    params: idParams('bill'),
    headers: mutationHeaders,
    body: Type.Object(
      {
        reason: Type.String({
          minLength: 1,
          maxLength: 500,
          pattern: '^[^\\x00-\\x1f\\x7f]*$',
          'x-rule': 'one line of text without control characters',
          description: 'Reason, which the credit note shows.',
        }),
        lines: Type.Optional(
          Type.Array(
            Type.Object(
              {
                line: Type.String({ maxLength: 16, description: 'Id of the line in the document of the bill.' }),
                net: Amount({ description: 'Amount before VAT that goes back.' }),
              },
              { additionalProperties: false },
            ),
            {
              minItems: 1,
              maxItems: 1000,
              description: 'Amounts that go back. Default: all that is left of the bill.',
            },
          ),
        ),
      },
      { additionalProperties: false, title: 'BillCredit' },
    ),
    bodyExample: { reason: 'The migration was booked twice.', lines: [{ line: '2', net: '120.00' }] },
    success: {
      status: 201,
      description: 'Created.',
      schema: bill.Item,
      example: {
        ...example,
        ...{
          number: 'UC-000018',
          kind: 'credit_note',
          corrects: example.id,
          net: '120.00',
          vat: '9.72',
          gross: '129.72',
        },
      },
    },
    errors: [
      'not_found',
      'invalid_state',
      'rule_violated',
      'idempotency_key_reused',
      'conflict',
      'payload_too_large',
      'unsupported_media_type',
    ],
  },
  preview: {
    id: 'billing_account_preview',
    method: 'GET',
    path: '/v1/billing-accounts/{id}/preview',
    tag: 'billing-accounts',
    summary: 'Get the preliminary bill of an account',
    description: 'Returns the bill of a month as it would be now. It is computed as the final bill, and has no number.',
    access: 'operator',
    billing: true,
    params: idParams('billing_account'),
    query: monthQuery,
    success: {
      status: 200,
      description: 'The preliminary bill.',
      schema: BillPreview,
      example: {
        billing_account: example.billing_account,
        month: '2026-01',
        until: '2026-01-15T12:00:00.000Z',
        currency: 'CHF',
        lines: [
          {
            ...{ description: 'Virtual processor', project: 'web', quantity: '1920', unit: 'CPU hours' },
            ...{ unit_price: '0.0125', net: '24.00' },
          },
        ],
        ...{ net: '24.00', vat: '1.94', gross: '25.94', revision: 60 },
      },
    },
    errors: ['not_found'],
  },
  costs: {
    id: 'cost_list',
    method: 'GET',
    path: '/v1/costs',
    tag: 'costs',
    summary: 'Get the costs of a project',
    description: 'Returns the costs of the objects of a project in a month, with the calculation of bills.',
    access: 'viewer',
    billing: true,
    query: Type.Object({ ...projectQuery, ...monthQuery.properties }, { additionalProperties: false }),
    success: {
      status: 200,
      description: 'The costs.',
      schema: Costs,
      example: {
        project: exampleId('project'),
        month: '2026-01',
        until: '2026-01-15T12:00:00.000Z',
        currency: 'CHF',
        total: '24.00',
        items: [
          {
            ...{ resource: exampleId('vm'), title: 'web-1', labels: { tier: 'web' }, product: exampleId('product') },
            cost: '24',
          },
        ],
        revision: 60,
      },
    },
    errors: ['not_found'],
  },
} as const satisfies Record<string, Endpoint>;
