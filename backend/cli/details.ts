/**
 * One object for people, as YAML 1.2: nested values are readable, and programs can parse it. The names of referenced
 * objects are comments beside the ids.
 */
import type { Names } from './names.ts';
import { isVisible, visible } from './terminal.ts';

const reserved = /^(true|false|null|yes|no|on|off|y|n|~|[-+]?\.(inf|nan))$/i;
const numeric = /^[-+]?(0[xo][0-9a-f]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)(e[-+]?[0-9]+)?)$/i;

/** Tells whether YAML reads the text as the same string without quotes. */
const isPlain = (text: string): boolean =>
  /^[A-Za-z0-9_/.][^\n]*$/.test(text) &&
  isVisible(text) &&
  !reserved.test(text) &&
  !numeric.test(text) &&
  !/: | #|:$|\s$|\t|^\.\.\.|^---/.test(text);

const quoted = (text: string): string => visible(JSON.stringify(text));

function scalar(value: unknown): string {
  if (typeof value !== 'string') return String(value);
  return isPlain(value) ? value : quoted(value);
}

/** Tells whether the text can be a YAML block. */
const isBlock = (text: string): boolean =>
  /^\S[\s\S]*\n/.test(text) && !/\n\n$|\n[ \t]+(\n|$)|\t/.test(text) && isVisible(text.replaceAll('\n', ''));

const isNested = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** Returns the value after its key or dash: the rest of the line, and the lines below. */
function parts(value: unknown, indent: string, names: Names): { head: string; below: string[] } {
  if (Array.isArray(value)) {
    if (value.length === 0) return { head: '[]', below: [] };
    return { head: '', below: value.flatMap((item) => itemLines(item, indent, names)) };
  }
  if (isNested(value)) {
    const below = lines(value, indent, names);
    return below.length === 0 ? { head: '{}', below } : { head: '', below };
  }
  if (typeof value === 'string' && isBlock(value)) {
    const text = value.endsWith('\n') ? value.slice(0, -1) : value;
    const below = text.split('\n').map((line) => (line === '' ? '' : `${indent}${line}`));
    return { head: value.endsWith('\n') ? '|' : '|-', below };
  }
  const name = typeof value === 'string' ? names.get(value) : undefined;
  return { head: scalar(value) + (name === undefined ? '' : `  # ${visible(name)}`), below: [] };
}

function itemLines(item: unknown, indent: string, names: Names): string[] {
  const { head, below } = parts(item, `${indent}  `, names);
  if (head !== '') return [`${indent}- ${head}`, ...below];
  const [first = '', ...rest] = below;
  return [`${indent}- ${first.trimStart()}`, ...rest];
}

function lines(item: object, indent: string, names: Names): string[] {
  return Object.entries(item).flatMap(([key, value]) => {
    if (value === undefined) return [];
    const { head, below } = parts(value, `${indent}  `, names);
    return [`${indent}${scalar(key)}:${head === '' ? '' : ` ${head}`}`, ...below];
  });
}

/** Returns an object as YAML. @param names the names of referenced objects, by id */
export const details = (item: object, names: Names): string =>
  lines(item, '', names)
    .map((line) => `${line}\n`)
    .join('');
