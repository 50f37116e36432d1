/** Countries, their part in the VAT area of the EU, and the areas inside countries that have VAT rules of their own. */

const codes =
  'AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD ' +
  'CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF ' +
  'GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN ' +
  'KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA ' +
  'NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI ' +
  'SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI ' +
  'VN VU WF WS YE YT ZA ZM ZW';

const known: ReadonlySet<string> = new Set(codes.split(' '));

/** The codes of all countries by ISO 3166-1, sorted. */
export const countries: readonly string[] = codes.split(' ');

/** Says whether the text is the code of a country, such as `CH`. `EL`, `UK` and `XI` are none. */
export const isCountry = (text: string): boolean => known.has(text);

/** The members of the EU. */
export const euCountries: ReadonlySet<string> = new Set(
  'AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK'.split(' '),
);

/** Monaco belongs to the VAT area of France, the Isle of Man to that of the United Kingdom. */
const areas: Readonly<Record<string, string>> = { MC: 'FR', IM: 'GB' };

/** Returns the country whose VAT law holds in the country: France for Monaco. */
export const vatCountry = (country: string): string =>
  Object.hasOwn(areas, country) ? (areas[country] ?? country) : country;

/** Codes of areas that belong to members of the EU, and not to the VAT area of the EU, or have rates of their own. */
const areaCodes: Readonly<Record<string, string>> = {
  AX: 'the Åland Islands',
  BL: 'Saint Barthélemy',
  GF: 'French Guiana',
  GP: 'Guadeloupe',
  MF: 'Saint Martin',
  MQ: 'Martinique',
  RE: 'Réunion',
  YT: 'Mayotte',
};

/** The same for areas without a code of their own, by postcode. */
const areaPostcodes: readonly (readonly [country: string, postcode: RegExp, name: string])[] = [
  ['AT', /^6691$/, 'Jungholz'],
  ['AT', /^699[1-3]$/, 'Mittelberg'],
  ['DE', /^27498$/, 'Heligoland'],
  ['DE', /^78266$/, 'Büsingen am Hochrhein'],
  ['ES', /^3[58]\d{3}$/, 'the Canary Islands'],
  ['ES', /^51\d{3}$/, 'Ceuta'],
  ['ES', /^52\d{3}$/, 'Melilla'],
  ['FI', /^22\d{3}$/, 'the Åland Islands'],
  ['FR', /^9(7\d|8[4-8])\d{2}$/, 'an overseas area of France'],
  ['GR', /^63086$/, 'Mount Athos'],
  ['IT', /^23041$/, 'Livigno'],
  ['IT', /^22061$/, "Campione d'Italia"],
  ['PT', /^9[0-4]\d{2}-?\d{3}$/, 'Madeira'],
  ['PT', /^9[5-9]\d{2}-?\d{3}$/, 'the Azores'],
];

/**
 * Returns the name of the area with VAT rules of its own in which an address is; undefined for other addresses. The list
 * is not complete: northern Cyprus, for example, has no postcodes that tell.
 */
export function specialArea(country: string, postcode: string): string | undefined {
  if (Object.hasOwn(areaCodes, country)) return areaCodes[country];
  const plain = postcode.replaceAll(/\s/g, '').replace(new RegExp(`^${country}-`), '');
  return areaPostcodes.find(([of, pattern]) => of === country && pattern.test(plain))?.[2];
}
