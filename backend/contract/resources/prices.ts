import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { Amount, Currency, common, Enum, exampleId, IdOf, Labels, Reference, Timestamp, Whole } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';

/** The longest minimum duration, in seconds: a year. */
const maxMinimumSeconds = 366 * 24 * 3600;

/** The resource of prices. */
export const price = resource({
  noun: 'price',
  plural: 'prices',
  description:
    'An amount for a product from an instant on. Prices never change: a new price follows at a later instant. All users see prices, also those of the future.',
  immutable: {
    product: Reference('product', { description: 'Product.' }),
    currency: Currency({ description: 'Currency (ISO 4217).' }),
    amount: Amount({ description: 'Amount for one unit of the meter, before VAT.' }),
    per: Enum(['hour', 'month', 'once'], {
      description:
        'Period of the amount. `hour`: each hour, to the millisecond. `month`: each calendar month (UTC), in proportion to its time. `once`: at the begin of an order, beside a price of the other periods.',
    }),
    valid_from: Type.Optional(
      Timestamp({
        'x-server-chosen': true,
        description: 'Time from which the price applies. It must not be in the past. Default: now.',
      }),
    ),
    minimum_seconds: Whole({
      maximum: maxMinimumSeconds,
      default: 0,
      description: 'Seconds for which each ordered unit is charged at least. Not with `once`.',
    }),
    monthly_cap: Type.Optional(
      Amount({ description: 'Largest amount for one unit in a calendar month. Only with `hour`. Default: none.' }),
    ),
  },
  mutable: { labels: Labels },
  readonly: {
    id: IdOf('price'),
    unit: Type.String({ description: 'Unit of the meter, such as `CPU` or `GiB`.' }),
    ...common,
  },
  defaulted: ['labels', 'minimum_seconds'],
  optional: ['valid_from', 'monthly_cap'],
});
export type Price = ItemType<typeof price>;
export type PriceCreate = CreateType<typeof price>;
export type PriceBody = BodyType<typeof price>;
export type PriceUpdate = UpdateType<typeof price>;

const declaration = {
  product: exampleId('product'),
  currency: 'CHF',
  amount: '0.0125',
  per: 'hour',
  monthly_cap: '8.00',
} as const;

const example: Price = {
  id: exampleId('price'),
  ...declaration,
  valid_from: '2026-01-01T00:00:00.000Z',
  minimum_seconds: 0,
  labels: {},
  unit: 'CPU',
  created_at: '2025-12-01T00:00:00.000Z',
  updated_at: '2025-12-01T00:00:00.000Z',
  revision: 6,
};

const endpoints = crud(price, {
  read: 'viewer',
  write: 'operator',
  billing: true,
  scoped: false,
  createErrors: ['invalid_reference', 'price_exists'],
  extraListQuery: { product: Type.Optional(Reference('product', { description: 'Only prices of this product.' })) },
  example: { create: declaration, item: example, update: { labels: { list: '2026' } } },
});

/** The endpoints of prices. */
export const priceEndpoints = {
  ...endpoints,
  delete: {
    ...endpoints.delete,
    description:
      'A price that applies ends now: from now on the product has no price until a later one applies. The past keeps the price.',
  },
} as const;
