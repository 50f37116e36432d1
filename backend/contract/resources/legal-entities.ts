import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { Amount, common, DeleteProtection, Description, exampleId, IdOf, Labels, Name } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { Line, partyFields } from './party.ts';

const DunningLevel = Type.Object(
  {
    days_after_due: Type.Integer({
      minimum: 1,
      maximum: 3650,
      description: 'Days after the due date of the bill.',
    }),
    title: Type.String({
      minLength: 1,
      maxLength: 100,
      pattern: '^[^\\x00-\\x1f\\x7f]*$',
      'x-rule': 'one line of text without control characters',
      description: 'Beginning of the subject of the e-mail, such as `Reminder`.',
    }),
    text: { ...Description, maxLength: 4000, description: 'Text of the e-mail. The facts of the bill follow it.' },
    fee: Type.Optional(Amount({ description: 'Fee that the e-mail names. No bill contains it. Default: none.' })),
  },
  { additionalProperties: false, description: 'A reminder.' },
);

/** The resource of legal entities. */
export const legalEntity = resource({
  noun: 'legal_entity',
  plural: 'legal-entities',
  description:
    'A company of the operator, which issues bills. Bills keep the fields that it has when they become final.',
  immutable: {},
  mutable: {
    name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }),
    labels: Labels,
    ...partyFields,
    number_series: Type.String({
      pattern: '^[A-Z0-9][A-Z0-9-]{0,19}$',
      'x-rule': '1 to 20 upper-case letters, digits and hyphens, beginning with a letter or digit',
      description:
        'Beginning of the numbers of bills, unique in the cloud, such as `UC-2026-`. Numbers have no gaps. A new series begins with 1.',
    }),
    phone: Type.Optional(
      Type.String({
        pattern: '^\\+[0-9][0-9 ]{5,24}$',
        'x-rule': 'a telephone number such as `+41 55 505 62 65`',
        description: 'Telephone number on bills. XRechnung demands one. Default: none.',
      }),
    ),
    iban: Type.Optional(
      Type.String({
        format: 'iban',
        pattern: '^[A-Z]{2}[0-9]{2}[0-9A-Z ]{11,40}$',
        'x-rule': 'an IBAN such as `CH93 0076 2011 6238 5295 7`',
        description: 'Bank account to which customers pay (IBAN). Default: none.',
      }),
    ),
    bic: Type.Optional(
      Type.String({
        format: 'bic',
        pattern: '^[A-Z0-9]{8}([A-Z0-9]{3})?$',
        'x-rule': 'a BIC such as `POFICHBEXXX`',
        description: 'Bank of the account (BIC). Default: none.',
      }),
    ),
    registration: Type.Optional(Line(100, 'Number in the register of companies, as on bills. Default: none.')),
    oss: Type.Boolean({
      default: false,
      description:
        'The company is registered for the one-stop shop of the EU: consumers in other EU countries pay the VAT of their country. Without it, a company in the EU charges the VAT of its own country, and bills of a company elsewhere to consumers in the EU wait.',
    }),
    prepaid_grace_days: Type.Integer({
      minimum: 0,
      maximum: 3650,
      default: 14,
      description: 'Days from the end of the money of a prepaid account until an event tells that it has lapsed.',
    }),
    dunning_levels: Type.Array(DunningLevel, {
      maxItems: 10,
      default: [],
      description:
        'Reminders of overdue bills, each later than the one before. Default: none. They need a mail server; without one there are only events.',
    }),
    delete_protection: DeleteProtection,
  },
  readonly: { id: IdOf('legal_entity'), ...common },
  defaulted: ['labels', 'oss', 'prepaid_grace_days', 'dunning_levels', 'delete_protection'],
  optional: ['vat_number', 'phone', 'iban', 'bic', 'registration'],
});
export type LegalEntity = ItemType<typeof legalEntity>;
export type LegalEntityCreate = CreateType<typeof legalEntity>;
export type LegalEntityBody = BodyType<typeof legalEntity>;
export type LegalEntityUpdate = UpdateType<typeof legalEntity>;

const declaration = {
  name: 'switzerland',
  legal_name: 'Example Cloud AG',
  address: { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  vat_number: 'CHE-107.787.577 MWST',
  email: 'billing@example.com',
  number_series: 'UC-',
  phone: '+41 55 505 62 65',
  iban: 'CH93 0076 2011 6238 5295 7',
} as const;

const example: LegalEntity = {
  id: exampleId('legal_entity'),
  ...declaration,
  labels: {},
  oss: false,
  prepaid_grace_days: 14,
  dunning_levels: [{ days_after_due: 10, title: 'Reminder', text: 'Please pay this bill.' }],
  delete_protection: false,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 3,
};

/** The endpoints of legal entities. */
export const legalEntityEndpoints = crud(legalEntity, {
  read: 'operator',
  write: 'operator',
  scoped: false,
  deleteErrors: ['delete_protected'],
  example: { create: declaration, item: example, update: { email: 'accounts@example.com' } },
});
