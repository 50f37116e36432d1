/** Nouns of the API in sentences for users, and in names. */
import type { ResourceSchema } from './fields.ts';

const special: Readonly<Record<string, string>> = { ssh_key: 'SSH key', vm: 'VM' };

/** Returns the noun in words: `SSH key`, `prefix pool`. */
export const nounWords = (noun: string): string => special[noun] ?? noun.replaceAll('_', ' ');

/** Returns the noun at the beginning of a sentence: `SSH key`, `Prefix pool`. */
export const nounInSentence = (noun: string): string =>
  nounWords(noun).charAt(0).toUpperCase() + nounWords(noun).slice(1);

/** Returns the noun with its article: `an SSH key`, `a prefix pool`. */
export const aNoun = (noun: string): string =>
  `${/^[aeio]|^SSH/.test(nounWords(noun)) ? 'an' : 'a'} ${nounWords(noun)}`;

/** Returns the plural in words: `SSH keys`, `prefixes`. */
export const nouns = (noun: string): string => `${nounWords(noun)}${/(s|x)$/.test(noun) ? 'es' : 's'}`;

/** Returns the plural for names: `ssh_keys`, `prefixes`. */
export const pluralOf = ({ path }: Pick<ResourceSchema, 'path'>): string =>
  path.slice(path.lastIndexOf('/') + 1).replaceAll('-', '_');
