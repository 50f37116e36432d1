/** The fields of a legal person: a company of the operator, or a customer. */
import { Type } from '@sinclair/typebox';

/** The letters at the begin of VAT numbers: those of the EU, Northern Ireland, Switzerland, the United Kingdom and Norway. */
const vatPrefixes = 'AT|BE|BG|CHE|CY|CZ|DE|DK|EE|EL|ES|FI|FR|GB|HR|HU|IE|IT|LT|LU|LV|MT|NL|NO|PL|PT|RO|SE|SI|SK|XI';

/** The schema of one line of text. */
export const Line = (maxLength: number, description: string) =>
  Type.String({
    minLength: 1,
    maxLength,
    pattern: '^[^\\x00-\\x1f\\x7f]*$',
    'x-rule': 'one line of text without control characters',
    description,
  });

/** The schema of a country. */
export const Country = (description: string) =>
  Type.String({
    format: 'country',
    pattern: '^[A-Z]{2}$',
    'x-rule': 'a country of ISO 3166-1 with two letters, such as `CH`',
    description,
  });

/** The fields of a legal person. */
export const partyFields = {
  legal_name: Line(200, 'Name of the person or company, as on bills.'),
  address: Type.Object(
    {
      street: Line(200, 'Street and number.'),
      postcode: Line(20, 'Postcode.'),
      city: Line(100, 'City.'),
      country: Country('Country (ISO 3166-1), such as `CH`.'),
    },
    { additionalProperties: false, description: 'Postal address, as on bills.' },
  ),
  vat_number: Type.Optional(
    Type.String({
      format: 'vat-number',
      pattern: `^(${vatPrefixes})[-0-9A-Za-z .+*]{2,28}$`,
      maxLength: 32,
      'x-rule': 'a VAT number with the letters of its country, such as `ATU12011204` or `CHE-107.787.577 MWST`',
      description: 'VAT number with the letters of its country, such as `CHE-107.787.577 MWST`. Default: none.',
    }),
  ),
  email: Type.String({
    pattern: "^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\\.[A-Za-z0-9-]{1,63})+$",
    maxLength: 254,
    'x-rule': 'an e-mail address such as `accounting@example.com`',
    description: 'E-mail address.',
  }),
};
