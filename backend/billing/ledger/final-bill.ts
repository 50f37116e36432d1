/** Final bills and credit notes: the record, the document and the next number of the series, for one commit. */
import { createHash } from 'node:crypto';
import { type BillDocument, condensed } from '../../model/billing/bill-document.ts';
import { newId } from '../../model/ids.ts';
import * as records from '../../model/records/index.ts';
import { absent, put, read, rewrite, unchanged } from '../../store/collection.ts';
import type { Stored } from '../../store/record-kind.ts';
import type { Condition, Store, Write } from '../../store/store.ts';

/** The digits of the number of a bill, after its series. */
const numberDigits = 6;

/** Returns the number of a bill. */
export const billNumber = (series: string, last: number): string =>
  `${series}${String(last).padStart(numberDigits, '0')}`;

/** The maximum length of a document as JSON text, which the database stores as one value. */
const maxDocumentBytes = 900_000;

/** Returns the document with as many lines as fit into the database. */
function fitting(document: BillDocument): { document: BillDocument; json: string } {
  for (let lines = 2_000; ; lines = Math.floor(lines / 2)) {
    const short = condensed(document, lines);
    const json = JSON.stringify(short);
    if (Buffer.byteLength(json) <= maxDocumentBytes || lines <= 1) return { document: short, json };
  }
}

/** The facts of a final bill or a credit note. */
export interface FinalFacts {
  readonly bill: Omit<BillDocument, 'number'>;
  readonly account: records.BillingAccountRecord;
  readonly entity: Stored<records.LegalEntityRecord>;
  readonly month: string;
  readonly at: Date;
  /** The answer about the VAT number of the customer. */
  readonly vatCheck?: records.BillRecord['vat_check'];
  /** The bill that a credit note corrects. */
  readonly corrects?: records.BillRecord['corrects'];
}

/** A bill with its number, and the parts of the commit that makes it final. */
export interface FinalBill {
  readonly record: records.BillRecord;
  readonly require: readonly Condition[];
  readonly write: readonly Write[];
}

/** Returns the bill with the next number of the series. The commit fails if another bill took this number meanwhile. */
export async function finalBill(store: Store, facts: FinalFacts): Promise<FinalBill> {
  const { bill, account, entity, month, at, corrects, vatCheck } = facts;
  const { number_series: series } = entity.value;
  const before = await read(store, records.billNumbers, series);
  const last = (before?.value.last ?? 0) + 1;
  const number = billNumber(series, last);
  const { document, json } = fitting({ number, ...bill });
  const id = newId('bill');
  const { issue_date, due_date, currency, totals } = document;
  const record: records.BillRecord = {
    ...{ id, labels: {}, number, billing_account: account.id, legal_entity: entity.value.id, month },
    ...(vatCheck !== undefined && { vat_check: vatCheck }),
    ...(corrects !== undefined && { kind: 'credit_note' as const, corrects }),
    ...{ issue_date, due_date, currency, net: totals.net, vat: totals.vat, gross: totals.gross },
    sha256: createHash('sha256').update(json).digest('hex'),
    ...{ created_at: at.toISOString(), updated_at: at.toISOString() },
  };
  return {
    record,
    require: [unchanged(entity), before ? unchanged(before) : absent(records.billNumbers, series)],
    write: [
      before ? rewrite(records.billNumbers, before, { last }) : put(records.billNumbers, series, { last }),
      put(records.bills, id, record),
      put(records.billDocuments, id, { json }),
      // The account and the legal entity stay, because the bill names them.
      put(records.uses, `${account.id}/${id}`, {}),
      put(records.uses, `${entity.value.id}/${id}`, {}),
    ],
  };
}
