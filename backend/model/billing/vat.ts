/**
 * The VAT of a bill: a table over issuer, customer and day. The service is a cloud: electronically supplied, taxed where a business
 * is established (Article 44 of Directive 2006/112/EC) and where a consumer lives (Article 58).
 *
 * | issuer     | customer                                       | VAT                                                |
 * | ---------- | ---------------------------------------------- | -------------------------------------------------- |
 * | any        | in the country of the issuer                   | rate of that country, also for businesses          |
 * | EU         | business, other EU country, number verified    | none: reverse charge                               |
 * | EU         | the same, verification without answer yet      | the bill waits                                     |
 * | EU         | the same, number refused, or none              | as a consumer                                      |
 * | EU         | consumer, other EU country, one-stop shop      | rate of the customer's country                     |
 * | EU         | the same, without a one-stop shop              | rate of the issuer's country                       |
 * | EU         | outside the EU                                 | none: outside the scope                            |
 * | outside EU | another country, not in the EU                 | none: outside the scope                            |
 * | outside EU | business in the EU, number verified            | none: outside the scope                            |
 * | outside EU | the same, verification without answer yet      | the bill waits                                     |
 * | outside EU | the same, number refused, or none              | as a consumer                                      |
 * | outside EU | consumer in the EU, one-stop shop              | rate of the customer's country                     |
 * | outside EU | the same, without a one-stop shop              | the bill waits: the customer's country may tax it  |
 *
 * Switzerland and Liechtenstein are one country here, as are the United Kingdom with Northern Ireland: numbers with XI concern goods,
 * and no services. In areas with rules of their own, and wherever a fact or a rate is unknown, the bill waits. No VAT is
 * ever zero because something is unknown. The decision of an operator (vat-decision.ts) precedes the table.
 */
import { euCountries, isCountry, specialArea, vatCountry } from './country-codes.ts';
import { isDay, type VatRate, vatRateOn } from './vat-rates.ts';

/** The codes of UNTDID 5305: standard rate, reverse charge, outside the scope, export. */
export type VatCategory = 'S' | 'AE' | 'O' | 'G';

/** The VAT of a line or a bill. */
export interface Vat {
  readonly category: VatCategory;
  /** In percent, as a decimal text such as `8.1`; `0` without VAT. */
  readonly rate: string;
  /** The country whose VAT it is; absent without VAT, and in the decision of an operator. */
  readonly country?: string;
  /** The legal text why no VAT is charged. Bills must contain it. */
  readonly reason?: string;
}

/** The VAT, or the reason why it is not known yet. */
export type VatTreatment = Vat | { readonly waits: string };

/** The legal entity that issues the bill. */
export interface VatIssuer {
  readonly country: string;
  /**
   * Whether the issuer is registered for the one-stop shop. It then charges consumers in other EU countries the rates of these
   * countries. Without it, an issuer in the EU charges its own rate, as below the threshold of 10,000 EUR a year.
   */
  readonly oss: boolean;
}

/** The state of a VAT number. `pending` has no answer yet. */
export type VatVerification = 'valid' | 'invalid' | 'pending';

/** The customer of the bill. */
export interface VatCustomer {
  readonly country: string;
  readonly postcode?: string;
  readonly kind: 'business' | 'consumer';
  /** The VAT number: its country by ISO 3166-1, and the state of its verification. */
  readonly vat_number?: { readonly country: string; readonly verification: VatVerification };
  /** The decision of an operator, for areas and cases that the table does not know, or a number without an answer. */
  readonly decision?: Vat;
}

/** The facts that determine the VAT. */
export interface VatFacts {
  readonly issuer: VatIssuer;
  readonly customer: VatCustomer;
  /** The day of the supply: the last day of the billed period. */
  readonly day: string;
  readonly rates: readonly VatRate[];
}

/** The text of a bill with reverse charge, by Articles 196 and 226 (11a). */
export const reverseChargeText =
  'Reverse charge: the recipient of the service is liable for the VAT (Articles 44 and 196 of Directive 2006/112/EC).';

const outsideTexts: Readonly<Record<string, string>> = {
  EU: 'Not subject to VAT: the place of supply is outside the EU (Articles 44 and 59 of Directive 2006/112/EC).',
  CH: 'Not subject to Swiss VAT: the place of supply is abroad (Art. 8 MWSTG).',
  GB: 'Outside the scope of UK VAT: the place of supply is abroad (VATA 1994, section 7A).',
};

/** Switzerland and Liechtenstein tax supplies between them as domestic ones. */
const domestic = (country: string) => (country === 'LI' ? 'CH' : vatCountry(country));

/** Returns the VAT of a bill, or why it waits. */
export function vatTreatment(facts: VatFacts): VatTreatment {
  const { issuer, customer, day } = facts;
  if (!isDay(day)) return { waits: `the day of the supply is unknown: ${JSON.stringify(day)}` };
  for (const [who, { country }] of Object.entries({ issuer, customer }))
    if (!isCountry(country)) return { waits: `the country of the ${who} is unknown: ${JSON.stringify(country)}` };
  if (customer.decision !== undefined) return customer.decision;
  for (const [who, at] of Object.entries({ issuer: { ...issuer, postcode: '' }, customer })) {
    const area = specialArea(at.country, at.postcode ?? '');
    if (area !== undefined) return { waits: `the ${who} is in ${area}, which has VAT rules of its own` };
  }
  const [from, to] = [vatCountry(issuer.country), vatCountry(customer.country)];
  if (domestic(from) === domestic(to)) return taxed(facts, from);
  const inUnion = euCountries.has(to);
  if (!inUnion) return outside(euCountries.has(from) ? 'EU' : from);
  const business = businessOf(customer, to);
  if (typeof business === 'string') return { waits: business };
  // Only an issuer in the EU uses its reverse charge.
  if (business) return euCountries.has(from) ? { category: 'AE', rate: '0', reason: reverseChargeText } : outside(from);
  if (issuer.oss) return taxed(facts, to);
  if (euCountries.has(from)) return taxed(facts, from);
  return {
    waits:
      `the customer in ${to} counts as a consumer, the issuer in ${from} is in no one-stop shop (oss), ` +
      `and VAT of ${to} may be due`,
  };
}

/** Says whether a customer in the EU is a business by its VAT number; a text says why that is not known. */
function businessOf({ kind, vat_number: number }: VatCustomer, country: string): boolean | string {
  if (kind !== 'business' || number === undefined) return false;
  if (number.verification === 'invalid') return false;
  if (vatCountry(number.country) !== country)
    return `the VAT number is of ${number.country}, and the address in ${country}`;
  return number.verification === 'valid' || 'the VAT number is not verified yet';
}

function taxed({ rates, day }: VatFacts, country: string): VatTreatment {
  const rate = vatRateOn(rates, country, day);
  if (rate === undefined) return { waits: `the VAT rate of ${country} on ${day} is unknown` };
  return { category: 'S', rate, country };
}

function outside(from: string): Vat {
  const text = Object.hasOwn(outsideTexts, from) ? outsideTexts[from] : undefined;
  return { category: 'O', rate: '0', reason: text ?? `Not subject to VAT of ${from}: the place of supply is abroad.` };
}
