/** VAT numbers: spelling and check digits of each country, with numbers that the countries' own rules give. */
import fc from 'fast-check';
import t from 'tap';
import { euCountries } from '../../backend/model/billing/country-codes.ts';
import { displayVatNumber, parseVatNumber, vatNumberExamples } from '../../backend/model/billing/vat-numbers.ts';

/** A good number of each form, and the same number with a wrong check digit. */
const pairs = [
  ['ATU12011204', 'ATU12011205'],
  ['BE0403019261', 'BE0403019262'],
  ['BE1000000120', 'BE1000000121'],
  ['BG175074752', 'BG175074753'],
  ['CY10259033P', 'CY10259033A'],
  ['CZ25123891', 'CZ25123892'],
  ['CZ7103192745', 'CZ7103192746'],
  ['DE136695976', 'DE136695977'],
  ['DK13585628', 'DK13585629'],
  ['EE100594102', 'EE100594103'],
  ['EL094259216', 'EL094259217'],
  ['ESB58378431', 'ESB58378432'],
  ['ESX1234567L', 'ESX1234567A'],
  ['ES54362315K', 'ES54362315A'],
  ['FI20774740', 'FI20774741'],
  ['FR40303265045', 'FR41303265045'],
  ['FRK7399859412', 'FRK8399859412'],
  ['HR33392005961', 'HR33392005962'],
  ['HU12892312', 'HU12892313'],
  ['IE6433435F', 'IE6433435E'],
  ['IE6433435OA', 'IE6433435EA'],
  ['IE8D79739I', 'IE8D79739J'],
  ['IT00743110157', 'IT00743110158'],
  ['LT119511515', 'LT119511516'],
  ['LT100001919017', 'LT100001919018'],
  ['LU15027442', 'LU15027443'],
  ['LV40003521600', 'LV40003521601'],
  ['MT11679112', 'MT11679113'],
  ['NL004495445B01', 'NL004495446B01'],
  ['NL123456789B13', 'NL123456789B14'],
  ['PL8567346215', 'PL8567346216'],
  ['PT501964843', 'PT501964844'],
  ['RO18547290', 'RO18547291'],
  ['SE123456789701', 'SE123456789101'],
  ['SI50223054', 'SI50223055'],
  ['SK2022749619', 'SK2022749618'],
  ['XI980780684', 'XI980780685'],
  ['GB980780684', 'GB980780685'],
  ['CHE107787577MWST', 'CHE107787578MWST'],
  ['CHE107787577TVA', 'CHE107787570TVA'],
  ['CHE107787577IVA', 'CHE107787571IVA'],
  ['NO995525828MVA', 'NO995525829MVA'],
] as const;

t.test('check digits', async (t) => {
  for (const [good, wrong] of pairs) {
    const parsed = parseVatNumber(good);
    t.equal(parsed.ok && parsed.number.text, good, good);
    const other = parseVatNumber(wrong);
    t.match(other.ok ? '' : other.problem, /check digit/, wrong);
  }
  const prefixes = new Set(pairs.map(([good]) => good.slice(0, 2)));
  t.same(
    [...euCountries].filter((country) => !prefixes.has(country)),
    ['GR'],
    'all members of the EU have a number here',
  );
  for (const example of vatNumberExamples) t.ok(parseVatNumber(example).ok, example);
});

t.test('spellings', async (t) => {
  for (const [text, normal] of [
    ['atu 120 112 04', 'ATU12011204'],
    ['be 0403.019.261', 'BE0403019261'],
    ['CHE-107.787.577 MWST', 'CHE107787577MWST'],
    ['NO 995 525 828', 'NO995525828MVA'],
    ['nl 0044.95.445.B.01', 'NL004495445B01'],
  ] as const) {
    const parsed = parseVatNumber(text);
    t.equal(parsed.ok && parsed.number.text, normal, text);
  }
  for (const [text, prefix, country, inVies] of [
    ['EL094259216', 'EL', 'GR', true],
    ['XI980780684', 'XI', 'GB', true],
    ['GB980780684', 'GB', 'GB', false],
    ['CHE107787577MWST', 'CH', 'CH', false],
    ['NO995525828MVA', 'NO', 'NO', false],
    ['DE136695976', 'DE', 'DE', true],
  ] as const)
    t.same(parseVatNumber(text), { ok: true, number: { text, prefix, country, inVies } });
  for (const [text, problem] of [
    ['', /letters of its country/],
    ['12345678', /letters of its country/],
    ['DE', /letters of its country/],
    ['DE13669597Ä', /letters of its country/],
    ['GR094259216', /must begin with EL/],
    ['US123456789', /US is none/],
    ['CHE107787577', /such as CHE-107\.787\.577 MWST/],
    ['DE1366959761', /such as DE136695976/],
    ['constructor', /CO is none/],
    ['9'.repeat(100_000), /at most 32 characters/],
  ] as const) {
    const parsed = parseVatNumber(text);
    t.match(parsed.ok ? '' : parsed.problem, problem, text.slice(0, 20));
  }
  const swiss = parseVatNumber('che107787577tva');
  t.equal(swiss.ok && displayVatNumber(swiss.number), 'CHE-107.787.577 TVA');
  const german = parseVatNumber('DE 136 695 976');
  t.equal(german.ok && displayVatNumber(german.number), 'DE136695976');
});

t.test('every text has a result, and a parsed number parses to itself', async () => {
  const letters = fc.constantFrom(...vatNumberExamples.map((example) => example.slice(0, 2)));
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.tuple(letters, fc.stringMatching(/^[0-9A-Z]{2,14}$/)).map(([prefix, rest]) => prefix + rest),
  );
  fc.assert(
    fc.property(text, (text) => {
      const parsed = parseVatNumber(text);
      if (!parsed.ok) return parsed.problem !== '';
      const again = parseVatNumber(displayVatNumber(parsed.number));
      return again.ok && again.number.text === parsed.number.text;
    }),
    { numRuns: 2000 },
  );
});
