import { Type } from '@sinclair/typebox';
import { crud } from '../endpoint.ts';
import { common, DeleteProtection, Description, Enum, exampleId, IdOf, Labels, Name, Whole } from '../fields.ts';
import { type BodyType, type CreateType, type ItemType, resource, type UpdateType } from '../resource.ts';
import { includedMeters, meterFields } from './meters.ts';

const Inclusion = Type.Object(
  {
    meter: Enum(includedMeters, { description: 'The included meter, of the same VM.' }),
    quantity: Whole({
      minimum: 1,
      // 256 CPUs with the largest quantity of each meter stay an exact number.
      maximum: 2 ** 40,
      description: 'Quantity for each unit of the product: a number, or bytes for meters whose unit is GiB.',
    }),
  },
  { additionalProperties: false },
);

/** The resource of products. */
export const product = resource({
  noun: 'product',
  plural: 'products',
  description:
    'A quantity that costs money: the meter, and the name on bills. There is at most one product for each part of a meter, except for `booked`. A quantity without a product is free.',
  immutable: {
    ...meterFields,
    includes: Type.Optional(
      Type.Array(Inclusion, {
        minItems: 1,
        maxItems: includedMeters.length,
        description:
          'Quantities of other meters of the same VM that each unit of the product includes while the product has a price. The products of these meters charge only the rest. Only with the meters of VMs. A composed product cannot include the meter of another one. Default: nothing.',
      }),
    ),
  },
  mutable: {
    name: Name({ description: 'Name, unique in the cloud: an RFC 1123 label.' }),
    description: { ...Description, description: 'Text for people, which bills show. Default: empty.' },
    labels: Labels,
    delete_protection: DeleteProtection,
  },
  readonly: { id: IdOf('product'), ...common },
  defaulted: ['description', 'labels', 'delete_protection'],
  optional: ['pool', 'length', 'includes'],
});
export type Product = ItemType<typeof product>;
export type ProductCreate = CreateType<typeof product>;
export type ProductBody = BodyType<typeof product>;
export type ProductUpdate = UpdateType<typeof product>;

const declaration = { name: 'cpu', meter: 'vm_cpu', description: 'Virtual processor' } as const;

const example: Product = {
  id: exampleId('product'),
  ...declaration,
  labels: {},
  delete_protection: false,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  revision: 5,
};

/** The endpoints of products. */
export const productEndpoints = crud(product, {
  read: 'viewer',
  write: 'operator',
  billing: true,
  scoped: false,
  createErrors: ['invalid_reference', 'meter_taken'],
  deleteErrors: ['delete_protected'],
  example: { create: declaration, item: example, update: { description: 'Virtual processor (AMD EPYC)' } },
});
