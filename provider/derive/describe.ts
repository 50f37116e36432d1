/** Descriptions of attributes for documentation and editors: the description of the field, and the allowed values. */
import type { Field } from './fields.ts';
import { aNoun, nouns } from './nouns.ts';
import { formats } from './semantics.ts';

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function range({ minimum, maximum }: Field): string {
  if (minimum !== undefined && maximum !== undefined) return `From ${minimum} to ${maximum}.`;
  if (minimum !== undefined) return `At least ${minimum}.`;
  return maximum === undefined ? '' : `At most ${maximum}.`;
}

/** Returns a sentence on the allowed values; empty if the description contains them. */
function values(field: Field, configurable: boolean): string {
  const { description, format } = field;
  if (field.enum && !field.enum.every((value) => description.includes(value))) {
    return `One of ${field.enum.map((value) => `\`${value}\``).join(', ')}.`;
  }
  if (!configurable) return '';
  const rule = field.rule ?? formats[format ?? '']?.rule;
  // The description explains other patterns.
  const described = rule !== undefined && description.toLowerCase().includes(rule.toLowerCase());
  if (format && rule && !described && !description.includes('`')) return sentence(rule);
  return range(field);
}

/** Returns the description of a reference with its kind of id: `The source of the disk: the id of an image.` */
function withReference({ description, reference, items }: Field): string {
  if (/\bids?\b/i.test(description)) return description;
  const what = reference ? `the id of ${aNoun(reference)}` : items?.reference && `the ids of ${nouns(items.reference)}`;
  if (!what) return description;
  if (description.startsWith('Default:')) return `${sentence(what)} ${description}`;
  return description.replace(/\.(?= |$)/, `: ${what}.`);
}

/** Returns the description of an attribute, in Markdown. */
export const describe = (field: Field, configurable: boolean): string =>
  [withReference(field), values(field, configurable)].filter(Boolean).join(' ');
