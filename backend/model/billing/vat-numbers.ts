/**
 * VAT numbers of the EU, Northern Ireland, the United Kingdom, Switzerland and Norway: spelling and check digits. The rules of
 * the countries come from the library stdnum. A number that is well formed may still not exist: only a verification tells.
 */
import { stdnum, type Validator } from 'stdnum';

/** A well-formed VAT number. */
export interface VatNumber {
  /** In capitals and without separators: `ATU12011204`, `CHE107787577MWST`. */
  readonly text: string;
  /** The first two letters, which are not always those of the country: `EL`, `XI`. */
  readonly prefix: string;
  /** The country by ISO 3166-1: `GR` for `EL`, `GB` for `XI`. */
  readonly country: string;
  /** Whether VIES knows the numbers of this kind. */
  readonly inVies: boolean;
}

/** The result of `parseVatNumber`. */
export type ParsedVatNumber =
  | { readonly ok: true; readonly number: VatNumber }
  | { readonly ok: false; readonly problem: string };

interface Rules {
  readonly validator: Validator;
  readonly example: string;
  /** Default: the prefix. */
  readonly country?: string;
  /** Default: true. */
  readonly inVies?: false;
  /** Adds the end that the validator demands and people leave out. */
  readonly complete?: (rest: string) => string;
}

function rulesOf(country: string, name: string): Validator {
  const validator = stdnum[country]?.[name];
  if (validator === undefined) throw new Error(`stdnum has no rules ${name} of ${country}`);
  return validator;
}

const kinds: Readonly<Record<string, Rules>> = {
  AT: { validator: rulesOf('AT', 'uid'), example: 'ATU12011204' },
  BE: { validator: rulesOf('BE', 'vat'), example: 'BE0403019261' },
  BG: { validator: rulesOf('BG', 'vat'), example: 'BG175074752' },
  CH: { validator: rulesOf('CH', 'vat'), example: 'CHE-107.787.577 MWST', inVies: false },
  CY: { validator: rulesOf('CY', 'vat'), example: 'CY10259033P' },
  CZ: { validator: rulesOf('CZ', 'dic'), example: 'CZ25123891' },
  DE: { validator: rulesOf('DE', 'vat'), example: 'DE136695976' },
  DK: { validator: rulesOf('DK', 'cvr'), example: 'DK13585628' },
  EE: { validator: rulesOf('EE', 'kmkr'), example: 'EE100594102' },
  EL: { validator: rulesOf('GR', 'vat'), example: 'EL094259216', country: 'GR' },
  ES: { validator: rulesOf('ES', 'nif'), example: 'ESB58378431' },
  FI: { validator: rulesOf('FI', 'alv'), example: 'FI20774740' },
  FR: { validator: rulesOf('FR', 'tva'), example: 'FR40303265045' },
  GB: { validator: rulesOf('GB', 'vat'), example: 'GB980780684', inVies: false },
  HR: { validator: rulesOf('HR', 'oib'), example: 'HR33392005961' },
  HU: { validator: rulesOf('HU', 'anum'), example: 'HU12892312' },
  IE: { validator: rulesOf('IE', 'vat'), example: 'IE6433435F' },
  IT: { validator: rulesOf('IT', 'iva'), example: 'IT00743110157' },
  LT: { validator: rulesOf('LT', 'pvm'), example: 'LT119511515' },
  LU: { validator: rulesOf('LU', 'tva'), example: 'LU15027442' },
  LV: { validator: rulesOf('LV', 'pvn'), example: 'LV40003521600' },
  MT: { validator: rulesOf('MT', 'vat'), example: 'MT11679112' },
  NL: { validator: rulesOf('NL', 'btw'), example: 'NL004495445B01' },
  NO: {
    validator: rulesOf('NO', 'mva'),
    example: 'NO995525828MVA',
    inVies: false,
    complete: (rest) => (rest.endsWith('MVA') ? rest : `${rest}MVA`),
  },
  PL: { validator: rulesOf('PL', 'nip'), example: 'PL8567346215' },
  PT: { validator: rulesOf('PT', 'nif'), example: 'PT501964843' },
  RO: { validator: rulesOf('RO', 'cui'), example: 'RO18547290' },
  SE: { validator: rulesOf('SE', 'vat'), example: 'SE123456789701' },
  SI: { validator: rulesOf('SI', 'ddv'), example: 'SI50223054' },
  SK: { validator: rulesOf('SK', 'dph'), example: 'SK2022749619' },
  XI: { validator: rulesOf('GB', 'vat'), example: 'XI980780684', country: 'GB' },
};

/** A number of each kind, as its country spells it. */
export const vatNumberExamples: readonly string[] = Object.values(kinds).map(({ example }) => example);

const maxLength = 32;

/** Parses a VAT number with its country letters. Spaces, dots, hyphens and small letters are accepted. */
export function parseVatNumber(text: string): ParsedVatNumber {
  if (text.length > maxLength) return refused(`must be a VAT number of at most ${maxLength} characters`);
  const plain = text.toUpperCase().replaceAll(/[ .\-\u00a0]/g, '');
  if (!/^[A-Z]{2}[A-Z0-9+*]{2,}$/.test(plain))
    return refused('must be a VAT number with the letters of its country, such as ATU12011204 or CHE-107.787.577 MWST');
  const prefix = plain.slice(0, 2);
  const rules = Object.hasOwn(kinds, prefix) ? kinds[prefix] : undefined;
  if (prefix === 'GR') return refused('must begin with EL: VAT numbers of Greece do not begin with GR');
  if (rules === undefined) return refused(`must be a VAT number of a known country; ${prefix} is none`);
  const { validator, example, complete = (rest) => rest } = rules;
  // Numbers of Switzerland begin with CHE. All other validators get the number without its country.
  const rest = complete(plain.slice(2));
  const whole = `${prefix}${rest}`;
  if (!validator.validate(prefix === 'CH' ? whole : rest).isValid) {
    const sameForm = shapeOf(whole) === shapeOf(example.replaceAll(/[ .-]/g, ''));
    return refused(
      sameForm
        ? `must be a VAT number that exists: the check digit of ${whole} is wrong`
        : `must be a VAT number of ${prefix} such as ${example}, with right check digits`,
    );
  }
  return { ok: true, number: { text: whole, prefix, country: rules.country ?? prefix, inVies: rules.inVies ?? true } };
}

const refused = (problem: string): ParsedVatNumber => ({ ok: false, problem });

const shapeOf = (text: string) => text.replaceAll(/[0-9]/g, '9');

/** Returns the number as bills show it: Switzerland separates the digits, and others do not. */
export const displayVatNumber = ({ text }: VatNumber): string =>
  text.replace(/^CHE(\d{3})(\d{3})(\d{3})([A-Z]+)$/, 'CHE-$1.$2.$3 $4');
