/** Quotes: the cost of objects before they exist, by the prices and the calculation of bills. */
import { type Static, Type } from '@sinclair/typebox';
import type { Endpoint } from '../endpoint.ts';
import { Currency, Decimal, Enum, exampleId, Reference, Size, Whole } from '../fields.ts';
import { meters } from './meters.ts';

/** The maximum number of objects in one quote. */
export const maxQuotedObjects = 100_000;
/** The hours of the month of quotes: a twelfth of a year of 365 days. */
export const quotedMonthHours = 730;

const count = Type.Optional(
  Type.Integer({ minimum: 1, maximum: maxQuotedObjects, default: 1, description: 'Number of such objects.' }),
);

const QuotedVm = Type.Object(
  {
    count,
    cpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 256, default: 1, description: 'Virtual processors.' })),
    memory: Type.Optional(Size({ default: '512MiB', description: 'Main memory.' })),
    disk_size: Type.Optional(Size({ description: 'Size of the disk. Default: no disk, as with a root volume.' })),
    power_state: Type.Optional(
      Enum(['running', 'stopped'], { default: 'running', description: 'Declared power state.' }),
    ),
  },
  { additionalProperties: false },
);

const sizedObject = (words: string, pool: string) =>
  Type.Object(
    {
      count,
      size: Size({ description: `Size of the ${words}.` }),
      pool: Type.Optional(Reference('storage_pool', { description: `Storage pool. Default: ${pool}.` })),
    },
    { additionalProperties: false },
  );

const QuotedPrefix = Type.Object(
  { count, length: Type.Integer({ minimum: 16, maximum: 64, description: 'Length of the prefix.' }) },
  { additionalProperties: false },
);

const list = <T extends Parameters<typeof Type.Array>[0]>(item: T, words: string) =>
  Type.Optional(Type.Array(item, { maxItems: 1000, default: [], description: `${words} of the quote.` }));

/** The objects of a quote, by kind. */
export const quotedObjects = {
  vms: list(QuotedVm, 'VMs'),
  volumes: list(sizedObject('volume', 'the default pool of the cloud'), 'Volumes'),
  snapshots: list(sizedObject('snapshot', 'the built-in pool'), 'Snapshots'),
  prefixes: list(QuotedPrefix, 'Prefixes'),
};
const QuotedObjects = Type.Object(quotedObjects);
export type QuotedObjects = Required<Static<typeof QuotedObjects>>;

/** The schema of a quote. */
export const Quote = Type.Object(
  {
    project: Type.Optional(Reference('project', { description: 'Default: the project of the token.' })),
    currency: Type.Optional(
      Currency({ description: 'Currency. Default: that of the billing account, or the only currency with prices.' }),
    ),
    ...quotedObjects,
  },
  { additionalProperties: false, title: 'Quote' },
);
export type Quote = Static<typeof Quote>;

const QuoteLine = Type.Object(
  {
    product: Reference('product', { description: 'Product.' }),
    name: Type.String({ description: 'Name of the product.' }),
    meter: Enum(meters, { description: 'Meter.' }),
    price: Reference('price', { description: 'Price.' }),
    quantity: Decimal({ description: 'Quantity in units of the meter.' }),
    unit: Type.String({ description: 'Unit of the meter, such as `CPU` or `GiB`.' }),
    monthly: Decimal({ description: 'Cost in a month.' }),
    once: Decimal({ description: 'Cost at the begin.' }),
  },
  { additionalProperties: false },
);

const QuotedItem = Type.Object(
  {
    pointer: Type.String({ description: 'JSON pointer (RFC 6901) to the item of the request, such as `/vms/0`.' }),
    monthly: Decimal({ description: 'Cost of one of its objects in a month.' }),
    once: Decimal({ description: 'Cost of one of its objects at the begin.' }),
  },
  { additionalProperties: false },
);

/** The schema of the result of a quote. */
export const QuoteResult = Type.Object(
  {
    currency: Type.Optional(Currency({ description: 'Currency. Missing if no price applies.' })),
    monthly: Decimal({
      description: `Cost in a month of ${quotedMonthHours} hours, before VAT. Each line is rounded half up.`,
    }),
    once: Decimal({ description: 'Cost at the begin, before VAT.' }),
    lines: Type.Array(QuoteLine, { description: 'Cost by price.' }),
    items: Type.Array(QuotedItem, {
      description:
        'Cost of a single object of each item of the request, in the order of the request. The sum may differ from the total by roundings.',
    }),
    revision: Whole({ description: 'Revision of the database that the response shows.' }),
  },
  { additionalProperties: false, title: 'QuoteResult' },
);
export type QuoteResult = Static<typeof QuoteResult>;

/** The endpoints of quotes. */
export const quoteEndpoints = {
  create: {
    id: 'quote_calculate',
    method: 'POST',
    path: '/v1/quotes',
    tag: 'quotes',
    summary: 'Calculate the cost of objects',
    description:
      'Returns the cost of objects by the prices that apply now, with the calculation of bills. Nothing is stored or reserved.',
    access: 'viewer',
    body: Quote,
    bodyExample: { vms: [{ count: 3, cpus: 2, memory: '4GiB', disk_size: '20GiB' }] },
    success: {
      status: 200,
      description: 'The cost.',
      schema: QuoteResult,
      example: {
        currency: 'CHF',
        monthly: '48.00',
        once: '0.00',
        lines: [
          {
            product: exampleId('product'),
            name: 'cpu',
            meter: 'vm_cpu',
            price: exampleId('price'),
            quantity: '6',
            unit: 'CPU',
            monthly: '48.00',
            once: '0.00',
          },
        ],
        items: [{ pointer: '/vms/0', monthly: '16.00', once: '0.00' }],
        revision: 42,
      },
    },
    errors: ['invalid_reference', 'rule_violated', 'payload_too_large', 'unsupported_media_type'],
  },
} as const satisfies Record<string, Endpoint>;
