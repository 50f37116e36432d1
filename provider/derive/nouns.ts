/** Nouns of the API in sentences for people, and in names. */
import type { ResourceSchema } from './fields.ts';

const special: Readonly<Record<string, string>> = { ssh_key: 'SSH key', vm: 'VM' };

/** `SSH key`, `prefix pool`. */
export const nounWords = (noun: string): string => special[noun] ?? noun.replaceAll('_', ' ');

/** As a sentence begins: `SSH key`, `Prefix pool`. */
export const nounInSentence = (noun: string): string =>
  nounWords(noun).charAt(0).toUpperCase() + nounWords(noun).slice(1);

/** With its article: `an SSH key`, `a prefix pool`. */
export const aNoun = (noun: string): string =>
  `${/^[aeio]|^SSH/.test(nounWords(noun)) ? 'an' : 'a'} ${nounWords(noun)}`;

/** More than one: `SSH keys`, `prefixes`. */
export const nouns = (noun: string): string => `${nounWords(noun)}${/(s|x)$/.test(noun) ? 'es' : 's'}`;

/** As a part of names: `ssh_keys`, `prefixes`. */
export const pluralOf = ({ path }: Pick<ResourceSchema, 'path'>): string =>
  path.slice(path.lastIndexOf('/') + 1).replaceAll('-', '_');
