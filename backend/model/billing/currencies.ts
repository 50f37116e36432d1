/**
 * The currencies of ISO 4217 in which people pay, as of 2026. Funds, metals and withdrawn currencies are not in the list. It
 * is data of ours, because the list in Node changes with its version, and its decimals are those of shops: it rounds
 * AFN to whole afghanis.
 */

const codes =
  'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP ' +
  'CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR ' +
  'IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU ' +
  'MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG ' +
  'SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST ' +
  'XAF XCD XCG XOF XPF YER ZAR ZMW ZWG';

const otherDecimals: Readonly<Record<number, string>> = {
  0: 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF',
  3: 'BHD IQD JOD KWD LYD OMR TND',
};

const decimals: ReadonlyMap<string, number> = new Map([
  ...codes.split(' ').map((code) => [code, 2] as const),
  ...Object.entries(otherDecimals).flatMap(([count, list]) => list.split(' ').map((code) => [code, +count] as const)),
]);

/** The codes of all currencies, sorted. */
export const currencies: readonly string[] = codes.split(' ');

/** Says whether the text is the code of a currency, such as `CHF`. */
export const isCurrency = (text: string): boolean => decimals.has(text);

/** Returns the number of decimals of the currency: 2 for CHF, 0 for JPY. @throws RangeError for other texts */
export function minorUnits(currency: string): number {
  const count = decimals.get(currency);
  if (count === undefined) throw new RangeError(`${JSON.stringify(currency)} is no currency of ISO 4217, such as CHF`);
  return count;
}
