/** `ucloud bill show` and `ucloud bill preview`: bills as text, and the other forms of their documents in files. */
import { writeFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { type BillFormat, type BillPreview, billFormats } from '../contract/resources/bills.ts';
import type { BillDocument, BillParty } from '../model/billing/bill-document.ts';
import { call } from './client.ts';
import { idOf } from './names.ts';
import { print } from './output.ts';
import { completeNames, optionOf } from './request.ts';
import { writeOut } from './standard-output.ts';
import { table } from './table.ts';
import { visible } from './terminal.ts';

const formats = ['text', ...billFormats] as const;

/** Returns lines of a label and a value, in two columns. Texts of customers may contain anything. */
function facts(rows: readonly (readonly [string, string | undefined])[]): string {
  const known = rows.filter((row): row is readonly [string, string] => row[1] !== undefined);
  const width = Math.max(...known.map(([label]) => label.length));
  return known.map(([label, value]) => `${label.padEnd(width)}  ${visible(value)}\n`).join('');
}

const partyText = ({ legal_name, street, postcode, city, country, vat_number }: BillParty): string =>
  [legal_name, street, `${postcode} ${city}`, country, ...(vat_number === undefined ? [] : [vat_number])].join(', ');

interface TextLine {
  readonly project?: string | undefined;
  readonly description: string;
  readonly quantity: string;
  readonly unit: string;
  readonly unit_price: string;
  readonly net: string;
}

const linesText = (lines: readonly TextLine[], currency: string): string =>
  table(
    [
      { title: 'project', values: lines.map(({ project }) => project) },
      { title: 'description', values: lines.map(({ description }) => description) },
      { title: 'quantity', values: lines.map(({ quantity }) => quantity) },
      { title: 'unit', values: lines.map(({ unit }) => unit) },
      { title: 'unit price', values: lines.map(({ unit_price }) => unit_price) },
      { title: currency, values: lines.map(({ net }) => net) },
    ],
    new Map(),
  );

/** Returns a bill as text. */
function billText(bill: BillDocument): string {
  const { number, kind, corrects, issue_date, due_date, period, currency, seller, buyer, lines, totals } = bill;
  const title = kind === 'bill' ? 'Bill' : 'Credit note';
  return [
    facts([
      [title, number],
      ['Corrects', corrects && `${corrects.number} of ${corrects.issue_date}`],
      ['Date', issue_date],
      ['Due', due_date],
      ['Period', `${period.from} to ${period.to}`],
      ['From', partyText(seller)],
      ['To', partyText(buyer)],
      ['Reference', buyer.reference],
    ]),
    linesText(
      lines.map(({ unit, ...line }) => ({ ...line, unit: unit.label })),
      currency,
    ),
    facts([
      ['Net', `${totals.net} ${currency}`],
      ...bill.vat_groups.map(
        ({ rate, base, amount }) => [`VAT ${rate} % of ${base}`, `${amount} ${currency}`] as const,
      ),
      ['Total', `${totals.gross} ${currency}`],
      ['Paid before', totals.prepaid && `${totals.prepaid} ${currency}`],
      ['To be paid', `${totals.due} ${currency}`],
    ]),
    ...(bill.notes.length === 0 ? [] : [bill.notes.map((note) => `${visible(note)}\n`).join('')]),
  ].join('\n');
}

/** Returns the id of a bill with this number. A text in the form of an id is one. @throws Error if there is none */
async function billId(text: string): Promise<string> {
  if (/^bill-[0-9a-hjkmnp-tv-z]{16}$/.test(text)) return text;
  const { items } = (await call({ method: 'GET', path: '/v1/bills', query: { number: text } })) as {
    readonly items: readonly { readonly id: string }[];
  };
  const [found] = items;
  if (!found) throw new Error(`there is no bill with the id or number "${text}"`);
  return found.id;
}

async function showBill(
  text: string,
  options: { readonly format: (typeof formats)[number]; readonly output?: string },
) {
  const { format, output } = options;
  if (format === 'pdf' && output === undefined && process.stdout.isTTY) {
    throw new Error('--format pdf: name a file with --output, or redirect the standard output');
  }
  const path = `/v1/bills/${await billId(text)}/document`;
  const asked: BillFormat = format === 'text' ? 'json' : format;
  const bytes = (await call({ method: 'GET', path, query: { format: asked }, opaque: true })) as Uint8Array;
  const data = format === 'text' ? billText(JSON.parse(Buffer.from(bytes).toString()) as BillDocument) : bytes;
  if (output === undefined) return writeOut(data);
  try {
    writeFileSync(output, data);
  } catch (error) {
    throw new Error(`--output: ${(error as Error).message}`, { cause: error });
  }
}

function previewText(account: string, preview: BillPreview): string {
  const { month, until, currency, lines, net, vat, gross, waits } = preview;
  return [
    facts([
      ['Preliminary bill', month],
      ['Account', account],
      ['Until', until],
    ]),
    linesText(lines, currency),
    facts([
      ['Net', `${net} ${currency}`],
      ['VAT', vat === undefined ? 'unknown' : `${vat} ${currency}`],
      ['Total', gross && `${gross} ${currency}`],
      ['Waits', waits],
    ]),
  ].join('\n');
}

async function showPreview(text: string, { month, json }: { readonly month?: string; readonly json?: boolean }) {
  const id = await idOf('billing_account', text, undefined);
  const path = `/v1/billing-accounts/${encodeURIComponent(id)}/preview`;
  const preview = (await call({
    ...{ method: 'GET', path, fieldName: optionOf },
    query: { ...(month !== undefined && { month }) },
  })) as BillPreview;
  return json ? print(preview, { json }) : writeOut(previewText(text, preview));
}

/** Adds `bill show` and `bill preview`. */
export function addBillCommands(program: Command): void {
  const bill = program.commands.find((command) => command.name() === 'bill');
  if (!bill) throw new Error('there is no command bill');
  bill
    .command('show')
    .description('Show a bill as text, or write another form of its document')
    .argument('<id or number>')
    .addOption(new Option('--format <format>', 'form of the document').choices(formats).default('text'))
    .option('--output <file>', 'write the document to this file')
    .action(showBill);
  const preview = bill
    .command('preview')
    .description('Show the bill of a month as it would be now')
    .argument('<account>')
    .option('--month <month>', 'calendar month (UTC), such as 2026-11. Default: the present month')
    .option('--json', 'print JSON')
    .action(showPreview);
  completeNames(preview, '/v1/billing-accounts');
}
