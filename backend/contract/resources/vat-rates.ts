import { crud } from '../endpoint.ts';
import { common, exampleId, IdOf } from '../fields.ts';
import { type BodyType, type ItemType, resource } from '../resource.ts';
import { Day } from './bills.ts';
import { Country } from './party.ts';
import { VatRateField } from './vat.ts';

/** The resource of VAT rates. */
export const vatRate = resource({
  noun: 'vat_rate',
  plural: 'vat-rates',
  description:
    'The standard rate of VAT of a country from a day on, beside the rates that ucloud knows. It never changes. A row with a later day follows, and a row of the same day as a known rate replaces that rate. Final bills keep their VAT.',
  apiOnly: true,
  immutable: {
    country: Country('Country (ISO 3166-1), such as `CH`; `GR` for Greece.'),
    rate: VatRateField('Rate in percent, such as `8.1`.'),
    valid_from: Day('First day of the rate. It may be in the past: bills that are not final yet use the rate.'),
  },
  mutable: {},
  readonly: { id: IdOf('vat_rate'), ...common },
});
export type VatRateItem = ItemType<typeof vatRate>;
export type VatRateBody = BodyType<typeof vatRate>;

const declaration = { country: 'CH', rate: '8.8', valid_from: '2028-01-01' } as const;

const example: VatRateItem = {
  id: exampleId('vat_rate'),
  ...declaration,
  created_at: '2027-10-01T00:00:00.000Z',
  updated_at: '2027-10-01T00:00:00.000Z',
  revision: 9,
};

const endpoints = crud(vatRate, {
  read: 'operator',
  write: 'operator',
  scoped: false,
  createErrors: ['vat_rate_exists'],
  deleteErrors: ['invalid_state'],
  example: { create: declaration, item: example, update: {} },
});

/** The endpoints of VAT rates. */
export const vatRateEndpoints = {
  create: endpoints.create,
  list: endpoints.list,
  get: endpoints.get,
  delete: {
    ...endpoints.delete,
    description: 'Only rates of the future can be deleted, because bills may contain the others.',
  },
} as const;
