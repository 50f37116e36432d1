/** A Swiss company with a VAT number, for legal entities and billing accounts. */
export const swissCompany = {
  legal_name: 'Example AG',
  address: { street: 'Bahnhofstrasse 1', postcode: '8750', city: 'Glarus', country: 'CH' },
  email: 'billing@example.com',
  vat_number: 'CHE-107.787.577 MWST',
} as const;
