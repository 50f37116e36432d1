import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { Currency, common, DeleteProtection, Enum, exampleId, IdOf, Labels, Name, Reference } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { Line, partyFields } from './party.ts';
import { VatDecision } from './vat.ts';

/** The resource of billing accounts. */
export const billingAccount = resource({
  noun: 'billing_account',
  plural: 'billing-accounts',
  description:
    'A customer who pays for projects. Accounts contain addresses, so only operators and tokens of role `billing` see them.',
  immutable: {
    currency: Currency({ description: 'Currency of the prices and bills (ISO 4217).' }),
    legal_entity: Reference('legal_entity', { description: 'Company of the operator that issues the bills.' }),
  },
  mutable: {
    name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }),
    labels: Labels,
    ...partyFields,
    reference: Type.Optional(
      Line(100, 'Reference that bills show for the customer, such as a cost centre or a Leitweg-ID. Default: none.'),
    ),
    customer_kind: Enum(['business', 'consumer'], {
      default: 'business',
      description: 'Kind of the customer, for VAT.',
    }),
    payment: Enum(['bill', 'prepaid'], {
      default: 'bill',
      description: '`bill`: the customer pays bills. `prepaid`: the customer pays in advance.',
    }),
    payment_days: Type.Integer({
      minimum: 0,
      maximum: 180,
      default: 30,
      description: 'Days from the date of a bill until it is due.',
    }),
    vat_decision: Type.Optional(VatDecision),
    delete_protection: DeleteProtection,
  },
  readonly: { id: IdOf('billing_account'), ...common },
  defaulted: ['labels', 'customer_kind', 'payment', 'payment_days', 'delete_protection'],
  optional: ['vat_number', 'reference', 'vat_decision'],
});
export type BillingAccount = ItemType<typeof billingAccount>;
export type BillingAccountCreate = CreateType<typeof billingAccount>;
export type BillingAccountBody = BodyType<typeof billingAccount>;
export type BillingAccountUpdate = UpdateType<typeof billingAccount>;

const declaration = {
  name: 'acme',
  currency: 'CHF',
  legal_entity: exampleId('legal_entity'),
  legal_name: 'ACME AG',
  address: { street: 'Industriestrasse 7', postcode: '8005', city: 'Zürich', country: 'CH' },
  email: 'accounting@acme.example',
} as const;

const example: BillingAccount = {
  id: exampleId('billing_account'),
  ...declaration,
  labels: {},
  customer_kind: 'business',
  payment: 'bill',
  payment_days: 30,
  delete_protection: false,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 4,
};

/** The endpoints of billing accounts. */
export const billingAccountEndpoints = crud(billingAccount, {
  read: 'operator',
  write: 'operator',
  billing: true,
  scoped: false,
  createErrors: ['invalid_reference'],
  deleteErrors: ['delete_protected', 'invalid_state'],
  example: { create: declaration, item: example, update: { payment_days: 14 } },
});
