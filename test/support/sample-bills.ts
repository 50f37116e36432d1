/** Bills for tests of documents: of a Swiss and of a German issuer, for customers of all kinds. */
import { createHash } from 'node:crypto';
import type { Id } from '../../backend/contract/fields.ts';
import {
  type BillBuyer,
  type BillDocument,
  type BillLine,
  type BillSeller,
  type BillVat,
  totalsOf,
} from '../../backend/model/billing/bill-document.ts';
import { reverseChargeText } from '../../backend/model/billing/vat.ts';
import { newId } from '../../backend/model/ids.ts';
import * as records from '../../backend/model/records/index.ts';
import { put } from '../../backend/store/collection.ts';
import type { Store } from '../../backend/store/store.ts';

const swissSeller: BillSeller = {
  legal_name: 'Beispiel Cloud AG',
  street: 'Bahnhofstrasse 1',
  city: 'Glarus',
  postcode: '8750',
  country: 'CH',
  vat_number: 'CHE107787577MWST',
  email: 'billing@cloud.example',
  phone: '+41 55 000 00 00',
  iban: 'CH9300762011623852957',
  bic: 'POFICHBEXXX',
  registration: 'CHE-107.787.577',
};

const germanSeller: BillSeller = {
  legal_name: 'Beispiel Cloud GmbH',
  street: 'Hauptstraße 2',
  city: 'Berlin',
  postcode: '10115',
  country: 'DE',
  vat_number: 'DE136695976',
  email: 'rechnung@cloud.example',
  phone: '+49 30 000000',
  iban: 'DE89370400440532013000',
  bic: 'COBADEFFXXX',
  registration: 'HRB 12345 B',
};

const buyer: BillBuyer = {
  legal_name: 'Zoë & Søn <Æther> Ltd.',
  street: 'Rue de l’Église 3',
  city: 'Liège',
  postcode: '4000',
  country: 'BE',
  vat_number: 'BE0403019261',
  email: 'ap@customer.example',
  reference: 'cost-center "42"',
};

const standard: BillVat = { category: 'S', rate: '8.1' };
const reverse: BillVat = { category: 'AE', rate: '0', reason: reverseChargeText };
const outside: BillVat = {
  category: 'O',
  rate: '0',
  reason: 'Not subject to Swiss VAT: the place of supply is abroad (Art. 8 MWSTG).',
};

/** Returns a bill with computed totals. */
export function sampleBill(
  lines: readonly BillLine[],
  change: Partial<BillDocument> = {},
  prepaid?: string,
): BillDocument {
  const currency = change.currency ?? 'CHF';
  return {
    number: 'CH-2026-000123',
    kind: 'bill',
    issue_date: '2026-04-01',
    due_date: '2026-05-01',
    period: { from: '2026-03-01', to: '2026-03-31' },
    currency,
    seller: swissSeller,
    buyer: { ...buyer, country: 'CH', city: 'Zürich', postcode: '8001', vat_number: 'CHE116281710TVA' },
    lines,
    ...totalsOf(lines, currency, prepaid),
    notes: [],
    ...change,
  };
}

/** Returns the lines of a month of VMs. */
export function sampleLines(count: number, vat: BillVat = standard): BillLine[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `${index + 1}`,
    description: index % 3 === 0 ? `VM web-${index + 1}, 2 CPUs, 4 GiB` : `Volume data-${index + 1}, 20 GiB, pool ssd`,
    project: index < count / 2 ? 'shop' : 'intranet',
    quantity: '743.25',
    unit: { code: 'HUR', label: 'hours' },
    unit_price: '0.0125',
    net: '9.29',
    vat,
  }));
}

/** One bill of each kind, by a word for its story. */
export const sampleBills: Readonly<Record<string, BillDocument>> = {
  'domestic, two rates': sampleBill(
    [
      ...sampleLines(4),
      ...sampleLines(2, { category: 'S', rate: '2.6' }).map((line) => ({ ...line, id: `b${line.id}` })),
    ],
    { notes: ['Thank you.'] },
    '10.00',
  ),
  'paid in advance': sampleBill(sampleLines(3), { number: 'CH-2026-000125' }, '30.13'),
  'reverse charge': sampleBill(sampleLines(3, reverse), {
    number: 'DE-2026-7',
    currency: 'EUR',
    seller: germanSeller,
    buyer,
  }),
  'outside the scope': sampleBill(sampleLines(3, outside), { currency: 'EUR', buyer }),
  'a consumer of another country': sampleBill(sampleLines(3, { category: 'S', rate: '27' }), {
    currency: 'EUR',
    seller: germanSeller,
    buyer: {
      legal_name: 'Kovács Árvíztűrő',
      street: 'Fő utca 1.',
      city: 'Budapest',
      postcode: '1011',
      country: 'HU',
      email: 'k@customer.example',
    },
  }),
  'a reduction': sampleBill([
    ...sampleLines(2),
    {
      id: 'cap',
      description: 'Monthly cap of web-1',
      quantity: '-1',
      unit: { code: 'C62', label: 'sum' },
      unit_price: '1.23',
      net: '-1.23',
      vat: standard,
    },
  ]),
  'a credit note': sampleBill(sampleLines(1), {
    kind: 'credit_note',
    number: 'CH-2026-000124',
    corrects: { number: 'CH-2026-000123', issue_date: '2026-04-01' },
  }),
};

/** Writes a bill as the billing component does, and returns its id. */
export async function storeBill(
  store: Store,
  document: BillDocument,
  payer: { readonly billing_account: string; readonly legal_entity: string },
): Promise<string> {
  const id = newId('bill');
  const at = `${document.issue_date}T01:00:00.000Z`;
  const json = JSON.stringify(document);
  const { number, issue_date, due_date, currency, period, totals } = document;
  const record: records.BillRecord = {
    ...{ id, labels: {}, number, issue_date, due_date, currency, month: period.from.slice(0, 7) },
    billing_account: payer.billing_account as Id<'billing_account'>,
    legal_entity: payer.legal_entity as Id<'legal_entity'>,
    ...{ net: totals.net, vat: totals.vat, gross: totals.gross },
    sha256: createHash('sha256').update(json).digest('hex'),
    ...{ created_at: at, updated_at: at },
  };
  await store.commit({ write: [put(records.bills, id, record), put(records.billDocuments, id, { json })] });
  return id;
}
