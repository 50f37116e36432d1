/**
 * Text for the terminal. Names, descriptions and reasons come from other users. Characters that control a terminal
 * (escape sequences, direction overrides) are shown as escapes.
 */

/** Controls C0 and C1, DEL, line and paragraph separators, invisible characters, and controls of the text direction. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is for
const dangerous = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

const escaped = (letter: string): string => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Returns one line of visible text; line ends are escaped too. */
export const visible = (text: string): string => text.replace(dangerous, escaped);

/** Returns visible text with its line ends and tabs. */
export const visibleLines = (text: string): string =>
  text.replace(dangerous, (letter) => (letter === '\n' || letter === '\t' ? letter : escaped(letter)));

/** Tells whether the text needs no escapes. */
export const isVisible = (text: string): boolean => text.search(dangerous) < 0;

/** Returns the value as JSON without characters that control a terminal. */
export const visibleJson = (value: unknown, space?: number): string =>
  visibleLines(JSON.stringify(value, undefined, space));
