/** The VAT of a bill, case by case, and the rates by country and day. */
import fc from 'fast-check';
import t from 'tap';
import { countries, euCountries, vatCountry } from '../../backend/model/billing/country-codes.ts';
import {
  reverseChargeText,
  type VatCustomer,
  type VatIssuer,
  type VatTreatment,
  type VatVerification,
  vatTreatment,
} from '../../backend/model/billing/vat.ts';
import { decidedVat, decisionProblem } from '../../backend/model/billing/vat-decision.ts';
import { knownVatRates, vatRateOn, vatRateProblem } from '../../backend/model/billing/vat-rates.ts';

const day = '2026-03-31';
type Issuer = Omit<VatIssuer, 'oss'> & Partial<VatIssuer>;
/** Without `oss`, the issuer is in no one-stop shop. */
const at = (issuer: Issuer, customer: VatCustomer, on = day, rates = knownVatRates) =>
  vatTreatment({ issuer: { oss: false, ...issuer }, customer, day: on, rates });
const business = (country: string, verification?: VatVerification, numberOf = country): VatCustomer => ({
  country,
  kind: 'business',
  ...(verification && { vat_number: { country: numberOf, verification } }),
});
const consumer = (country: string, postcode = ''): VatCustomer => ({ country, postcode, kind: 'consumer' });
const standard = (country: string, rate: string): VatTreatment => ({ category: 'S', country, rate });
const reverse: VatTreatment = { category: 'AE', rate: '0', reason: reverseChargeText };
const outside = (reason: RegExp) => ({ category: 'O', rate: '0', reason });
const waits = (reason: RegExp) => ({ waits: reason });

t.test('the table', async (t) => {
  for (const [story, issuer, customer, expected] of [
    ['domestic consumer', { country: 'DE' }, consumer('DE'), standard('DE', '19')],
    ['domestic business', { country: 'DE' }, business('DE'), standard('DE', '19')],
    ['domestic business with a verified number', { country: 'DE' }, business('DE', 'valid'), standard('DE', '19')],
    ['domestic business, verification open', { country: 'DE' }, business('DE', 'pending'), standard('DE', '19')],
    ['EU business, verified', { country: 'DE' }, business('FR', 'valid'), reverse],
    ['EU business, no answer yet', { country: 'DE' }, business('FR', 'pending'), waits(/not verified yet/)],
    ['EU business, refused', { country: 'DE', oss: true }, business('FR', 'invalid'), standard('FR', '20')],
    ['EU business without a number', { country: 'DE', oss: true }, business('FR'), standard('FR', '20')],
    ['EU business, number of another country', { country: 'DE' }, business('FR', 'valid', 'BE'), waits(/is of BE/)],
    [
      'a consumer with a number stays one',
      { country: 'DE', oss: true },
      { ...business('FR', 'valid'), kind: 'consumer' },
      standard('FR', '20'),
    ],
    ['EU consumer', { country: 'DE', oss: true }, consumer('HU'), standard('HU', '27')],
    ['EU consumer, issuer below the threshold', { country: 'DE' }, consumer('HU'), standard('DE', '19')],
    ['EU business, refused, the same issuer', { country: 'DE' }, business('FR', 'invalid'), standard('DE', '19')],
    ['Greece', { country: 'AT' }, business('GR', 'valid'), reverse],
    ['Greek consumer', { country: 'AT', oss: true }, consumer('GR'), standard('GR', '24')],
    ['Monaco is France', { country: 'FR' }, consumer('MC'), standard('FR', '20')],
    ['Monaco, with a French number', { country: 'DE' }, business('MC', 'valid', 'FR'), reverse],
    ['third country, business', { country: 'DE' }, business('US'), outside(/Articles 44 and 59/)],
    ['third country, consumer', { country: 'DE' }, consumer('CH'), outside(/Articles 44 and 59/)],
    [
      'Northern Ireland is the United Kingdom',
      { country: 'DE' },
      business('GB', 'valid'),
      outside(/Articles 44 and 59/),
    ],
    ['Swiss issuer, Swiss consumer', { country: 'CH' }, consumer('CH'), standard('CH', '8.1')],
    ['Swiss issuer, Swiss business', { country: 'CH' }, business('CH', 'valid'), standard('CH', '8.1')],
    ['Swiss issuer, Liechtenstein', { country: 'CH' }, business('LI'), standard('CH', '8.1')],
    ['Swiss issuer, EU business', { country: 'CH' }, business('DE', 'valid'), outside(/Art\. 8 MWSTG/)],
    ['the same, no answer yet', { country: 'CH' }, business('DE', 'pending'), waits(/not verified yet/)],
    ['the same, refused', { country: 'CH' }, business('DE', 'invalid'), waits(/VAT of DE may be due/)],
    ['the same, without a number', { country: 'CH' }, business('DE'), waits(/counts as a consumer/)],
    [
      'Swiss issuer, EU consumer',
      { country: 'CH' },
      consumer('DE'),
      waits(/in no one-stop shop.*VAT of DE may be due/),
    ],
    ['Swiss issuer, consumer in Monaco', { country: 'CH' }, consumer('MC'), waits(/VAT of FR may be due/)],
    [
      'Swiss issuer in a one-stop shop, EU consumer',
      { country: 'CH', oss: true },
      consumer('DE'),
      standard('DE', '19'),
    ],
    ['the same, business', { country: 'CH', oss: true }, business('DE', 'valid'), outside(/Art\. 8 MWSTG/)],
    ['the same, no answer yet', { country: 'CH', oss: true }, business('DE', 'pending'), waits(/not verified yet/)],
    ['Swiss issuer, United States', { country: 'CH' }, consumer('US'), outside(/Art\. 8 MWSTG/)],
    ['British issuer, domestic', { country: 'GB' }, consumer('IM'), standard('GB', '20')],
    ['Norwegian issuer, abroad', { country: 'NO' }, consumer('CH'), outside(/VAT of NO/)],
    ['Norwegian issuer, EU consumer', { country: 'NO' }, consumer('SE'), waits(/VAT of SE may be due/)],
    ['issuer in a country without a rate', { country: 'US' }, consumer('US'), waits(/rate of US .* is unknown/)],
    ['Canary Islands', { country: 'DE' }, consumer('ES', '35001'), waits(/the Canary Islands/)],
    ['domestic, in the Canary Islands', { country: 'ES' }, consumer('ES', '38001'), waits(/the Canary Islands/)],
    ['Büsingen', { country: 'CH' }, consumer('DE', 'DE-78266'), waits(/Büsingen/)],
    ['Madeira', { country: 'DE' }, consumer('PT', '9000-042'), waits(/Madeira/)],
    ['Åland', { country: 'DE' }, consumer('AX'), waits(/Åland/)],
    [
      'a country that does not exist',
      { country: 'DE' },
      consumer('EL'),
      waits(/country of the customer is unknown: "EL"/),
    ],
    ['an issuer without a country', { country: '' }, consumer('DE'), waits(/country of the issuer is unknown/)],
  ] as const satisfies readonly (readonly [string, Issuer, VatCustomer, unknown])[])
    t.match(at(issuer, customer), expected, story);
});

t.test('the decision of an operator wins, and the rates are data', async (t) => {
  const decision = { category: 'O', rate: '0', reason: 'IGIC: outside of the VAT area of the EU' } as const;
  t.same(at({ country: 'DE' }, { ...consumer('ES', '35001'), decision }), decision);
  t.same(at({ country: 'CH' }, { ...business('DE', 'pending'), decision }), decision, 'a number without an answer');
  t.same(at({ country: 'CH' }, { ...consumer('DE'), decision }), decision, 'an issuer in no one-stop shop');
  const rates = [...knownVatRates, { country: 'US', rate: '7.25', valid_from: '2026-01-01' }];
  t.same(at({ country: 'US' }, consumer('US'), day, rates), standard('US', '7.25'));
  t.match(at({ country: 'US' }, consumer('US'), '2025-12-31', rates), waits(/rate of US on 2025-12-31 is unknown/));
  const replaced = [...knownVatRates, { country: 'CH', rate: '8.2', valid_from: '2024-01-01' }];
  t.equal(vatRateOn(replaced, 'CH', day), '8.2', 'a row of the same day precedes');
  const later = [...knownVatRates, { country: 'CH', rate: '8.5', valid_from: day }];
  t.equal(vatRateOn(later, 'CH', day), '8.5');
  t.equal(vatRateOn(later, 'CH', '2026-03-30'), '8.1');
  for (const wrong of ['2026-02-30', '2026-2-1', '', 'today']) {
    t.match(at({ country: 'DE' }, consumer('DE'), wrong), waits(/day of the supply is unknown/), wrong);
  }
});

t.test('decisions', async (t) => {
  const reason = 'A legal text.';
  const number = 'DE136695976';
  for (const [decision, vatNumber, pointer] of [
    [{ category: 'S', rate: '20' }, undefined, undefined],
    [{ category: 'AE', reason }, number, undefined],
    [{ category: 'O', reason }, undefined, undefined],
    [{ category: 'G', reason }, undefined, undefined],
    [{ category: 'S' }, number, '/rate'],
    [{ category: 'S', rate: '20', reason }, number, '/reason'],
    [{ category: 'AE', reason }, undefined, '/category'],
    [{ category: 'AE' }, number, '/reason'],
    [{ category: 'O' }, number, '/reason'],
    [{ category: 'O', rate: '20' }, number, '/rate'],
    [{ category: 'G', rate: '20', reason }, number, '/rate'],
  ] as const)
    t.equal(decisionProblem(decision, vatNumber)?.pointer, pointer, JSON.stringify([decision, vatNumber]));
  t.same(decidedVat({ category: 'S', rate: '20' }), { category: 'S', rate: '20' });
  t.same(decidedVat({ category: 'G', reason }), { category: 'G', rate: '0', reason });
});

t.test('rates', async (t) => {
  for (const [country, on, rate] of [
    ['CH', '2023-12-31', '7.7'],
    ['CH', '2024-01-01', '8.1'],
    ['FI', '2024-08-31', '24'],
    ['FI', '2024-09-01', '25.5'],
    ['SK', '2024-12-31', '20'],
    ['SK', '2025-01-01', '23'],
    ['EE', '2025-06-30', '22'],
    ['EE', '2025-07-01', '24'],
    ['RO', '2025-07-31', '19'],
    ['RO', '2025-08-01', '21'],
    ['DE', '2023-12-31', undefined],
    ['LU', day, '17'],
    ['GR', day, '24'],
    ['EL', day, undefined],
    ['US', day, undefined],
  ] as const)
    t.equal(vatRateOn(knownVatRates, country, on), rate, `${country} ${on}`);
  for (const country of [...euCountries, 'CH', 'LI', 'GB', 'NO'])
    t.ok(vatRateOn(knownVatRates, country, '2024-01-01'), country);
  for (const row of knownVatRates) t.equal(vatRateProblem(row), undefined, JSON.stringify(row));
  const good = { country: 'CH', rate: '8.1', valid_from: '2024-01-01' };
  for (const [change, problem] of [
    [{ country: 'EL' }, { field: 'country', rule: /Greece is GR/ }],
    [{ country: 'MC' }, { field: 'country', rule: /must be FR/ }],
    [{ country: 'AX' }, { field: 'country', rule: /the Åland Islands has VAT rules of its own/ }],
    [{ rate: '0' }, { field: 'rate', rule: /must be percent above 0/ }],
    [{ rate: '8.10' }, { field: 'rate' }],
    [{ rate: '-1' }, { field: 'rate' }],
    [{ rate: '101' }, { field: 'rate' }],
    [{ rate: '1e1' }, { field: 'rate' }],
    [{ valid_from: '2024-02-30' }, { field: 'valid_from', rule: /must be a day that exists/ }],
  ] as const)
    t.match(vatRateProblem({ ...good, ...change }), problem, JSON.stringify(change));
});

t.test('no VAT is zero because something is unknown', async () => {
  const country = fc.oneof(fc.constantFrom('DE', 'FR', 'CH', 'GR', 'US', 'AX', 'ES'), fc.constantFrom(...countries));
  const verification = fc.constantFrom<VatVerification>('valid', 'invalid', 'pending');
  const customer = fc.record(
    {
      country,
      kind: fc.constantFrom<'business' | 'consumer'>('business', 'consumer'),
      postcode: fc.constantFrom('', '35001', '10115'),
      vat_number: fc.record({ country, verification }),
    },
    { requiredKeys: ['country', 'kind'] },
  );
  const issuer = fc.record({ country, oss: fc.boolean() });
  fc.assert(
    fc.property(issuer, customer, (issuer, customer) => {
      const vat = at(issuer, customer);
      if ('waits' in vat) return vat.waits !== '';
      if (vat.category === 'S') return vat.country !== undefined && vat.rate !== '0' && vat.reason === undefined;
      if (vat.rate !== '0' || !vat.reason) return false;
      const verified = customer.kind === 'business' && customer.vat_number?.verification === 'valid';
      if (vat.category === 'AE') return verified;
      const isTaxable = euCountries.has(vatCountry(customer.country)) && !verified;
      return vat.category === 'O' && issuer.country !== customer.country && !isTaxable;
    }),
    { numRuns: 5000 },
  );
});
