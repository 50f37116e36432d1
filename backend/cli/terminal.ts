/**
 * Text for the terminal. Names, descriptions and reasons come from others: what a terminal would obey instead of
 * show (escape sequences, direction overrides) is shown as an escape.
 */

/** Controls C0 and C1, DEL, line and paragraph separators, and what changes the direction of text or is not seen. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is for
const dangerous = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

const escaped = (letter: string): string => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** One line of text, line ends escaped too. */
export const visible = (text: string): string => text.replace(dangerous, escaped);

/** Text whose line ends and tabs are its own. */
export const visibleLines = (text: string): string =>
  text.replace(dangerous, (letter) => (letter === '\n' || letter === '\t' ? letter : escaped(letter)));

export const isVisible = (text: string): boolean => text.search(dangerous) < 0;

/** The same value in JSON that a terminal only shows. */
export const visibleJson = (value: unknown, space?: number): string =>
  visibleLines(JSON.stringify(value, undefined, space));
