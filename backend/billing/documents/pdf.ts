/**
 * A bill as PDF/A-3 with its CII XML inside, as Factur-X and ZUGFeRD demand. The page is for people, the XML for programs; both say
 * the same.
 */
import { setImmediate } from 'node:timers/promises';
import type { BillDocument, BillLine, BillParty } from '../../model/billing/bill-document.ts';
import { displayVatNumber, parseVatNumber } from '../../model/billing/vat-numbers.ts';
import { renderCii } from './cii.ts';
import { facturX } from './factur-x.ts';
import { accent, bottomEdge, finished, grey, margin, newDocument, Pen, pageHeight, pale, rightEdge } from './page.ts';
import { isOutsideScope, isPaid, paymentTerms, renderable } from './semantics.ts';

const width = rightEdge - margin;
const columns = {
  description: { x: margin, width: 205 },
  quantity: { x: margin + 210, width: 85 },
  price: { x: margin + 300, width: 70 },
  vat: { x: margin + 375, width: 45 },
  net: { x: margin + 425, width: width - 425 },
} as const;
const right = { align: 'right' } as const;

const titleOf = ({ kind }: BillDocument) => (kind === 'bill' ? 'Invoice' : 'Credit note');

/** Returns the text of an amount with its thousands apart: `1 234.50`, with spaces that do not break. */
const grouped = (amount: string): string => {
  const [whole = '', fraction] = amount.split('.');
  const apart = whole.replaceAll(/\B(?=(\d{3})+$)/g, '\u00a0');
  return fraction === undefined ? apart : `${apart}.${fraction}`;
};

const shownVatNumber = (text: string): string => {
  const parsed = parseVatNumber(text);
  return parsed.ok ? displayVatNumber(parsed.number) : text;
};

const countryNames = new Intl.DisplayNames('en', { type: 'region' });

const addressOf = (party: BillParty): string[] => [
  party.street,
  `${party.postcode} ${party.city}`,
  countryNames.of(party.country) ?? party.country,
];

/** Returns the PDF of the bill. @throws RangeError for a document that is no correct bill */
export async function renderPdf(document: BillDocument): Promise<Buffer> {
  const bill = renderable(document);
  const date = new Date(`${bill.issue_date}T00:00:00Z`);
  const doc = newDocument(date);
  const pen = new Pen(doc, (pen) => {
    pen.y = margin;
  });
  head(pen, bill);
  parties(pen, bill);
  await table(pen, bill);
  totals(pen, bill);
  texts(pen, bill);
  feet(pen, bill);
  facturX(doc, renderCii(document), `${titleOf(bill)} ${bill.number}`, bill.seller.legal_name, date);
  return finished(doc);
}

function head(pen: Pen, bill: BillDocument): void {
  const { seller } = bill;
  pen.doc.rect(0, 0, 600, 6).fill(accent);
  const left = pen.text(seller.legal_name, margin, 270, { size: 14, bold: true, maxLines: 2 });
  pen.text(titleOf(bill), 330, rightEdge - 330, { size: 20, bold: true, color: accent, ...right }, pen.y - 4);
  pen.text(bill.number, 330, rightEdge - 330, { size: 10, color: grey, ...right, maxLines: 1 }, pen.y + 24);
  const address = `${addressOf(seller).join(' · ')}`;
  const below = pen.text(address, margin, 270, { size: 8, color: grey, maxLines: 2 }, pen.y + left + 2);
  pen.y = Math.max(pen.y + left + below, pen.y + 40) + 36;
}

function parties(pen: Pen, bill: BillDocument): void {
  const { buyer, seller } = bill;
  const numbers = (party: BillParty) => (party.vat_number === undefined ? undefined : shownVatNumber(party.vat_number));
  const start = pen.y;
  pen.y += pen.text('Billed to', margin, 230, { size: 8, color: grey }) + 2;
  pen.y += pen.text(buyer.legal_name, margin, 230, { size: 10, bold: true, maxLines: 3 });
  for (const line of addressOf(buyer)) pen.y += pen.text(line, margin, 230, { maxLines: 2 });
  const facts: readonly (readonly [string, string | undefined])[] = [
    ['Date', bill.issue_date],
    ...(bill.kind === 'bill' ? [['Due', bill.due_date] as const] : []),
    ['Period', `${bill.period.from} – ${bill.period.to}`],
    ['Corrects', bill.corrects && `${bill.corrects.number} of ${bill.corrects.issue_date}`],
    ['Your VAT number', numbers(buyer)],
    ['Your reference', buyer.reference],
    ['Our VAT number', numbers(seller)],
  ];
  let y = start;
  for (const [name, text] of facts) {
    if (text === undefined || text.trim() === '') continue;
    pen.text(name, 310, 90, { size: 8.5, color: grey }, y);
    y += pen.text(text, 402, rightEdge - 402, { size: 8.5, maxLines: 2 }, y) + 2;
  }
  pen.y = Math.max(pen.y, y) + 26;
}

function tableHead(pen: Pen, bill: BillDocument): void {
  const style = { size: 8, color: grey, bold: true } as const;
  pen.text('Description', columns.description.x, columns.description.width, style);
  pen.text('Quantity', columns.quantity.x, columns.quantity.width, { ...style, ...right });
  pen.text('Price', columns.price.x, columns.price.width, { ...style, ...right });
  pen.text('VAT', columns.vat.x, columns.vat.width, { ...style, ...right });
  pen.text(`Net ${bill.currency}`, columns.net.x, columns.net.width, { ...style, ...right });
  pen.y += 14;
  pen.rule(margin, rightEdge, pen.y, accent, 1);
  pen.y += 5;
}

async function table(pen: Pen, bill: BillDocument): Promise<void> {
  tableHead(pen, bill);
  for (const line of bill.lines) {
    const descriptionHeight = pen.height(line.description, columns.description.width, { maxLines: 4 });
    const projectHeight =
      line.project === undefined
        ? 0
        : pen.height(line.project, columns.description.width, { size: 7.5, color: grey, maxLines: 1 });
    const quantity = quantityOf(line);
    const needed = Math.max(
      descriptionHeight + projectHeight,
      pen.height(quantity, columns.quantity.width, { maxLines: 3 }),
    );
    if (pen.makeRoom(needed + 6)) {
      tableHead(pen, bill);
      // A long bill must not stop the process for seconds.
      await setImmediate();
    }
    pen.text(line.description, columns.description.x, columns.description.width, { maxLines: 4 });
    if (line.project !== undefined)
      pen.text(
        line.project,
        columns.description.x,
        columns.description.width,
        { size: 7.5, color: grey, maxLines: 1 },
        pen.y + descriptionHeight,
      );
    pen.text(quantity, columns.quantity.x, columns.quantity.width, { ...right, maxLines: 3 });
    pen.text(grouped(line.unit_price), columns.price.x, columns.price.width, { ...right, maxLines: 2 });
    pen.text(rateText(line.vat), columns.vat.x, columns.vat.width, { ...right, maxLines: 1 });
    pen.text(grouped(line.net), columns.net.x, columns.net.width, { ...right, maxLines: 2 });
    pen.y += needed + 4;
    pen.rule(margin, rightEdge, pen.y - 1, pale, 0.3);
    pen.y += 2;
  }
}

const quantityOf = ({ quantity, unit }: BillLine) => `${grouped(quantity)} ${unit.label}`;

const rateText = ({ category, rate }: { readonly category: string; readonly rate: string }) =>
  category === 'S' ? `${rate} %` : '–';

function totals(pen: Pen, bill: BillDocument): void {
  const { vat_groups, currency } = bill;
  const sums = bill.totals;
  const rows: (readonly [name: string, amount: string, isTotal: boolean])[] = [
    ['Net', sums.net, false],
    ...vat_groups.map(
      ({ category, rate, base, amount }) =>
        [category === 'S' ? `VAT ${rate} % on ${grouped(base)}` : `No VAT on ${grouped(base)}`, amount, false] as const,
    ),
    ['Total', sums.gross, sums.prepaid === undefined],
    ...(sums.prepaid === undefined ? [] : [['Paid already', `-${sums.prepaid}`.replace('--', ''), false] as const]),
    ...(sums.prepaid === undefined ? [] : [['To be paid', sums.due, true] as const]),
  ];
  pen.makeRoom(rows.length * 16 + 24);
  pen.y += 8;
  for (const [name, amount, isTotal] of rows) {
    if (isTotal) {
      pen.rule(270, rightEdge, pen.y, accent, 1);
      pen.y += 5;
    }
    const style = isTotal ? ({ size: 11, bold: true } as const) : ({ size: 9 } as const);
    const text = `${grouped(amount)}\u00a0${currency}`;
    pen.text(name, 270, 135, { ...style, maxLines: 1 });
    // An amount must not be cut. The largest one fits with small letters.
    const size = text.length > 16 ? 8.5 : style.size;
    pen.text(text, 405, rightEdge - 405, { ...style, ...right, size, maxLines: 1 });
    pen.y += isTotal ? 18 : 15;
  }
  pen.y += 14;
}

function texts(pen: Pen, bill: BillDocument): void {
  const { seller } = bill;
  const paragraph = (text: string, bold = false) => {
    const style = { size: 8.5, bold } as const;
    pen.makeRoom(pen.height(text, width, style) + 4);
    pen.y += pen.text(text, margin, width, style) + 4;
  };
  for (const { reason } of bill.vat_groups) if (reason !== undefined) paragraph(reason, true);
  paragraph(paymentTerms(bill));
  if (bill.kind === 'bill' && !isPaid(bill) && seller.iban !== undefined) {
    const iban = seller.iban.replaceAll(/(.{4})(?=.)/g, '$1\u00a0');
    paragraph(`Account: ${[iban, seller.bic && `BIC ${seller.bic}`, seller.legal_name].filter(Boolean).join(' · ')}`);
    paragraph(`Please give the number ${bill.number} with your payment.`);
  }
  for (const note of bill.notes) for (const line of note.split('\n')) if (line.trim() !== '') paragraph(line);
}

function feet(pen: Pen, bill: BillDocument): void {
  const { seller } = bill;
  const registration = isOutsideScope(bill) ? (seller.registration ?? seller.vat_number) : seller.registration;
  const line = [seller.legal_name, registration, seller.email, seller.phone].filter(Boolean).join(' · ');
  const { start, count } = pen.doc.bufferedPageRange();
  for (let page = start; page < start + count; page++) {
    pen.doc.switchToPage(page);
    pen.rule(margin, rightEdge, bottomEdge + 18);
    const style = { size: 7, color: grey, maxLines: 1 } as const;
    const y = Math.min(bottomEdge + 24, pageHeight - 40);
    pen.text(line, margin, width - 160, style, y);
    pen.text(`${bill.number} · page ${page + 1} of ${count}`, rightEdge - 155, 155, { ...style, ...right }, y);
  }
}
