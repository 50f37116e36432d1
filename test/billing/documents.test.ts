/** The documents of bills: XML that satisfies EN 16931, and a PDF that people and programs can read. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { printable, printFonts } from '../../backend/billing/documents/fonts.ts';
import { renderCii, renderJson, renderPdf, renderUbl } from '../../backend/billing/documents/index.ts';
import { type BillDocument, type BillLine, maxDocumentLines } from '../../backend/model/billing/bill-document.ts';
import { brokenRules, officialProblems, officialRules, type Syntax, schemaProblem } from '../support/en16931.ts';
import { noPoppler } from '../support/poppler.ts';
import { sampleBill, sampleBills, sampleLines } from '../support/sample-bills.ts';

const run = promisify(execFile);
const poppler = await noPoppler();

const bill = (name: string): BillDocument => {
  const found = sampleBills[name];
  if (found === undefined) throw new Error(`there is no sample ${name}`);
  return found;
};
const forms: readonly (readonly [Syntax, (bill: BillDocument) => string])[] = [
  ['ubl', renderUbl],
  ['cii', renderCii],
];

/** Any text that a customer may have in a name, with all that is special for XML and for fonts. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary', minLength: 1, maxLength: 60 }),
  fc.constantFrom(
    ']]><!--&amp;"\'',
    '漢字',
    'שלום',
    'مرحبا',
    '👩‍👩‍👧',
    '\u202egnp.exe',
    '\ud800',
    '\u0000\ufffe',
    'e\u0301'.repeat(50),
  ),
  fc.string({ minLength: 300, maxLength: 400 }),
);
const hostile = (text: string): BillDocument => {
  const good = bill('domestic, two rates');
  const shown = text.trim() === '' ? 'x' : text;
  const party = { legal_name: shown, street: shown, city: shown, postcode: shown, email: shown };
  return {
    ...good,
    seller: { ...good.seller, ...party, phone: shown, registration: shown },
    buyer: { ...good.buyer, ...party, reference: shown },
    lines: good.lines.map((line) => ({ ...line, description: shown, project: shown })),
    notes: [shown],
  };
};

t.test('the XML of each kind of bill satisfies schema and rules', async (t) => {
  for (const [name, bill] of Object.entries(sampleBills)) {
    t.equal(schemaProblem(renderCii(bill)), undefined, `${name}: schema of Factur-X`);
    for (const [syntax, render] of forms) t.same(brokenRules(render(bill), syntax), [], `${name}: ${syntax}`);
    t.same(JSON.parse(renderJson(bill)), bill, `${name}: JSON`);
  }
});

t.test('a broken document fails', async (t) => {
  const buyerNumber = /<(cac:PartyTaxScheme|ram:SpecifiedTaxRegistration)>\s*<[^>]*>BE0403019261[\s\S]*?<\/\1>/;
  for (const [rule, name, from, to] of [
    ['BR-CO-10', 'domestic, two rates', '>55.74<', '>55.75<'],
    ['BR-CO-14', 'domestic, two rates', '>3.49<', '>3.50<'],
    ['BR-CO-15', 'domestic, two rates', '>59.23<', '>59.24<'],
    ['BR-CO-16', 'domestic, two rates', '>49.23<', '>59.23<'],
    ['BR-CO-17', 'domestic, two rates', '>0.48<', '>0.49<'],
    ['BR-27', 'domestic, two rates', '>0.0125<', '>-0.0125<'],
    ['BR-S-02', 'domestic, two rates', /<(cac:PartyTaxScheme|ram:SpecifiedTaxRegistration)>[\s\S]*?<\/\1>/g, ''],
    ['BR-S-05', 'domestic, two rates', />8\.1</g, '>0<'],
    ['BR-AE-02', 'reverse charge', buyerNumber, ''],
    ['BR-AE-10', 'reverse charge', /<(cbc:TaxExemptionReason|ram:ExemptionReason)>.*<\/\1>/g, ''],
    ['BR-O-10', 'outside the scope', /<(cbc:TaxExemptionReason|ram:ExemptionReason)>.*<\/\1>/g, ''],
    ['BR-AE-02', 'outside the scope', />O</g, '>AE<'],
  ] as const) {
    for (const [syntax, render] of forms) {
      const good = render(bill(name));
      const broken = good.replace(from, to);
      t.not(broken, good, `${rule} ${syntax}: something changed`);
      t.ok(brokenRules(broken, syntax).includes(rule), `${rule} ${syntax}`);
    }
  }
  const good = renderCii(bill('reverse charge'));
  t.match(schemaProblem(good.replace('ram:BuyerReference', 'ram:Reference')), /./, 'an unknown element');
  t.match(schemaProblem(good.replace('format="102"', '')), /./, 'a missing attribute');
  t.match(schemaProblem(good.slice(0, -40)), /./, 'a cut document');
  const wrong = { ...bill('reverse charge'), totals: { net: '1.00', vat: '0.00', gross: '1.00', due: '1.00' } };
  for (const [syntax, render] of forms) t.throws(() => render(wrong), /totals\.net must be/, `${syntax} refuses it`);
  await t.rejects(renderPdf(wrong), /totals\.net must be/, 'PDF refuses it');
});

const clone = officialRules;
if (clone !== undefined) {
  t.test('all official rules of EN 16931', { timeout: 600_000 }, async (t) => {
    const directory = t.testdir({});
    for (const [syntax, render] of forms) {
      for (const [name, bill] of Object.entries(sampleBills))
        t.same(await officialProblems(clone, render(bill), syntax, directory), [], `${name}: ${syntax}`);
      const broken = render(bill('domestic, two rates')).replace('>59.23<', '>59.24<');
      t.match(
        (await officialProblems(clone, broken, syntax, directory)).join(),
        /BR-CO-15/,
        `${syntax}: a broken document fails`,
      );
    }
  });
}

t.test('XRechnung needs a telephone number of the seller; other XML is plain EN 16931', async (t) => {
  const good = bill('a consumer of another country');
  const { phone: _phone, ...seller } = good.seller;
  t.match(renderUbl(good), /xrechnung_3\.0<\/cbc:CustomizationID>/);
  t.match(renderUbl({ ...good, seller }), /<cbc:CustomizationID>urn:cen\.eu:en16931:2017<\/cbc:CustomizationID>/);
  const { iban: _iban, bic: _bic, ...unpaid } = good.seller;
  for (const [syntax, render] of forms)
    t.same(brokenRules(render({ ...good, seller: unpaid }), syntax), [], `${syntax} without an account`);
});

t.test('texts of customers are data', async () => {
  await fc.assert(
    fc.asyncProperty(anyText, async (text) => {
      const bill = hostile(text);
      const cii = renderCii(bill);
      return (
        schemaProblem(cii) === undefined &&
        forms.every(([syntax, render]) => brokenRules(render(bill), syntax).length === 0)
      );
    }),
    { numRuns: 60 },
  );
  const { regular } = printFonts();
  fc.assert(
    fc.property(anyText, (text) =>
      Array.from(printable(text, regular)).every((letter) => regular.letters.has(letter.codePointAt(0) ?? 0)),
    ),
  );
});

t.test(
  'PDF: any text prints, equal bills have equal bytes, and a long bill is bounded',
  { timeout: 300_000 },
  async (t) => {
    await fc.assert(
      fc.asyncProperty(anyText, async (text) => (await renderPdf(hostile(text))).subarray(0, 5).toString() === '%PDF-'),
      { numRuns: 30 },
    );
    for (const [name, bill] of Object.entries(sampleBills))
      t.ok((await renderPdf(bill)).equals(await renderPdf(bill)), `${name}: equal bytes`);
    const huge = sampleBill(sampleLines(50 * maxDocumentLines));
    const begin = performance.now();
    t.ok((await renderPdf(huge)).length < 100_000, 'the page has a line for each project');
    t.equal(renderUbl(huge).match(/<cac:InvoiceLine>/g)?.length, 2);
    t.comment(`100,000 lines: ${Math.round(performance.now() - begin)} ms`);
  },
);

t.test('PDF: people see the bill, programs find its XML', { skip: poppler }, async (t) => {
  const directory = t.testdir({});
  const file = join(directory, 'bill.pdf');
  const page = async (bill: BillDocument) => {
    await writeFile(file, await renderPdf(bill));
    const [text, info] = await Promise.all([run('pdftotext', ['-layout', file, '-']), run('pdfinfo', [file])]);
    // Broken characters of the file would be warnings of these programs.
    t.equal(text.stderr + info.stderr, '', bill.number);
    return { text: text.stdout.replaceAll('\u00a0', ' '), pages: Number(/Pages: +(\d+)/.exec(info.stdout)?.[1]) };
  };
  for (const [name, sample] of Object.entries(sampleBills)) {
    const { text, pages } = await page(sample);
    const { totals, seller, buyer, vat_groups } = sample;
    const words = [sample.number, seller.legal_name, buyer.legal_name, totals.net, totals.gross, totals.due];
    for (const word of [...words, 'page 1 of 1']) t.ok(text.includes(word), `${name}: ${word}`);
    t.equal(pages, 1, name);
    const isPaid = totals.due === '0.00';
    t.equal(text.includes('Nothing is to be paid.'), isPaid, `${name}: terms`);
    if (isPaid) t.notMatch(text, /Please give the number|Account:/, `${name}: nothing asks for money`);
    for (const { reason } of vat_groups)
      if (reason !== undefined) t.ok(text.replaceAll(/\s+/g, ' ').includes(reason), `${name}: legal text`);
    const xml = join(directory, 'attached.xml');
    await run('pdfdetach', ['-savefile', 'factur-x.xml', '-o', xml, file]);
    t.equal(await readFile(xml, 'utf8'), renderCii(sample), `${name}: the XML is inside`);
    const { stdout: metadata } = await run('pdfinfo', ['-meta', file]);
    t.match(metadata, /<pdfaid:part>3<\/pdfaid:part>[\s\S]*<pdfaid:conformance>B</, `${name}: PDF/A-3b`);
    t.match(metadata, /<fx:ConformanceLevel>EN 16931</, `${name}: Factur-X`);
  }
  const long = await page(sampleBill(sampleLines(500)));
  t.ok(long.pages > 10, `${long.pages} pages`);
  t.equal(long.text.match(/Description +Quantity +Price/g)?.length, long.pages, 'each page has the head of the table');
  for (let number = 1; number <= long.pages; number++) t.ok(long.text.includes(`page ${number} of ${long.pages}`));
  for (let line = 1; line <= 500; line += 3) t.ok(long.text.includes(`VM web-${line},`), `line ${line}`);
  const biggest: BillLine = {
    ...(sampleLines(1)[0] as BillLine),
    net: '999999999.99',
    unit_price: '12345678.12345678',
  };
  const rich = await page(sampleBill([biggest]));
  t.ok(rich.text.includes('999 999 999.99') && rich.text.includes('1 080 999 999.99'), 'no amount is cut');
});

t.test('PDF: the picture of a page has ink where it must', { skip: poppler }, async (t) => {
  const directory = t.testdir({});
  const file = join(directory, 'bill.pdf');
  await writeFile(file, await renderPdf(bill('domestic, two rates')));
  await run('pdftoppm', ['-r', '36', '-gray', '-singlefile', file, join(directory, 'page')]);
  const image = await readFile(join(directory, 'page.pgm'));
  const [, columns = 0, rows = 0] = (
    /^P5\s(\d+) (\d+)\s255\s/.exec(image.subarray(0, 40).toString('latin1')) ?? []
  ).map(Number);
  t.same([columns, rows], [298, 421], 'A4');
  const pixels = image.subarray(image.length - columns * rows);
  const inked = (fromRow: number, toRow: number) => {
    let count = 0;
    for (let at = fromRow * columns; at < toRow * columns; at++) if ((pixels[at] ?? 255) < 230) count++;
    return count;
  };
  t.ok(inked(0, 45) > 500, 'the head');
  t.ok(inked(110, 210) > 500, 'the table');
  t.ok(inked(390, 405) > 50, 'the foot');
  t.ok(inked(320, 385) === 0, 'nothing below the texts');
  // Text at the very edge would be cut by printers.
  let edge = 0;
  for (let row = 10; row < rows; row++)
    for (let x = 0; x < 20; x++) if ((pixels[row * columns + x] ?? 255) < 230) edge++;
  t.equal(edge, 0, 'the margin is empty');
});
