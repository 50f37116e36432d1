/** The fields of VAT. */
import { Type } from '@sinclair/typebox';
import { Enum } from '../fields.ts';
import { Line } from './party.ts';

/** The categories of VAT (UNTDID 5305): standard rate, reverse charge, outside the scope, export. */
export const vatCategories = ['S', 'AE', 'O', 'G'] as const;

/** The schema of a rate of VAT that is not zero. */
export const VatRateField = (description: string) =>
  Type.String({
    pattern: '^(100|[1-9][0-9]?(\\.[0-9]?[1-9])?|0\\.[0-9]?[1-9])$',
    'x-rule': 'percent above 0 and up to 100, with at most two decimals and no zero at their end, such as `8.1`',
    description,
  });

/** The schema of the decision of an operator about the VAT of an account. */
export const VatDecision = Type.Object(
  {
    category: Enum(vatCategories, {
      description:
        'Category (UNTDID 5305). `S`: VAT. `AE`: reverse charge, which needs a `vat_number`. `O`: outside the scope of VAT. `G`: export.',
    }),
    rate: Type.Optional(VatRateField('Rate in percent, such as `8.1`. Required for `S`, and not allowed for others.')),
    reason: Type.Optional(
      Line(
        200,
        'Legal text why no VAT is charged, as on bills. Required unless the category is `S`, and not allowed with it.',
      ),
    ),
  },
  {
    additionalProperties: false,
    description:
      'Decision of the operator about the VAT of the bills. It precedes all rules, and ends the wait of a bill for a fact that is unknown, such as the answer of VIES. Default: none.',
  },
);
