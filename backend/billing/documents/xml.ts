/** XML as a tree of elements. Texts of customers are data: they are escaped, and lose characters that XML cannot contain. */

/** An element: its name, its attributes, and its text or children. Absent children are left out. */
export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly content: string | readonly XmlElement[];
}

/** A child of an element, some children, or none. */
export type XmlChild = XmlElement | readonly XmlElement[] | undefined;

/** Returns an element with children. */
export const node = (name: string, ...children: XmlChild[]): XmlElement => ({
  name,
  attributes: {},
  content: children.flatMap((child) => child ?? []),
});

/** Returns an element with a text. */
export const leaf = (name: string, content: string, attributes: Readonly<Record<string, string>> = {}): XmlElement => ({
  name,
  attributes,
  content,
});

/** Returns an element with a text; undefined without a text. */
export const leafIf = (
  name: string,
  content: string | undefined,
  attributes?: Readonly<Record<string, string>>,
): XmlElement | undefined =>
  content === undefined || content.trim() === '' ? undefined : leaf(name, content, attributes);

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/** Returns the text without control characters, lone surrogates and the two code points that XML forbids. */
export const plainText = (text: string): string =>
  text
    .toWellFormed()
    .replaceAll(/[\p{Cc}--[\t\n\r]]|[\ufffe\uffff]/gv, '')
    .replaceAll(/\r\n?/g, '\n');

/** Returns the text for the content of an element or an attribute. */
export const escaped = (text: string): string =>
  plainText(text).replaceAll(/[&<>"]/g, (character) => entities[character] ?? '');

function write(element: XmlElement, indent: string, into: string[]): void {
  const attributes = Object.entries(element.attributes).map(([name, value]) => ` ${name}="${escaped(value)}"`);
  const start = `${indent}<${element.name}${attributes.join('')}`;
  if (typeof element.content === 'string') into.push(`${start}>${escaped(element.content)}</${element.name}>`);
  else if (element.content.length === 0) into.push(`${start}/>`);
  else {
    into.push(`${start}>`);
    for (const child of element.content) write(child, `${indent}  `, into);
    into.push(`${indent}</${element.name}>`);
  }
}

/** Returns the text of a document. Equal trees have equal texts. */
export function xmlDocument(root: XmlElement): string {
  const lines = ['<?xml version="1.0" encoding="UTF-8"?>'];
  write(root, '', lines);
  return `${lines.join('\n')}\n`;
}
