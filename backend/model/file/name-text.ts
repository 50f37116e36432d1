/**
 * Names of files. A name on disk is any sequence of bytes without NUL and slash. The API shows it as text, so all other
 * names are escaped: bytes that are not UTF-8, control characters, and characters that change the direction of text or
 * end lines. The escape is `%` and two hex digits for each byte, and `%` itself is escaped too. So each text stands for
 * one name, and `bytesOfName` finds it.
 */

/** The maximum size of a name, in bytes: that of Linux. */
export const maxNameBytes = 255;

const unsafe =
  /[%\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const escapeBytes = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('');
const escapeText = (text: string): string => text.replace(unsafe, (found) => escapeBytes(Buffer.from(found)));

/** The size of a UTF-8 sequence by its first byte, and the range of its second byte. Later bytes are 80 to BF. */
const sequences: readonly (readonly [from: number, to: number, size: number, low: number, high: number])[] = [
  [0x00, 0x7f, 1, 0x80, 0xbf],
  [0xc2, 0xdf, 2, 0x80, 0xbf],
  [0xe0, 0xe0, 3, 0xa0, 0xbf],
  [0xe1, 0xec, 3, 0x80, 0xbf],
  [0xed, 0xed, 3, 0x80, 0x9f],
  [0xee, 0xef, 3, 0x80, 0xbf],
  [0xf0, 0xf0, 4, 0x90, 0xbf],
  [0xf1, 0xf3, 4, 0x80, 0xbf],
  [0xf4, 0xf4, 4, 0x80, 0x8f],
];

/**
 * Returns the size of the UTF-8 sequence that begins here; 0 if there is none. A user chooses the bytes of many names, so
 * this is no decoder that throws an error for each wrong byte.
 */
function sequenceAt(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  const [, , size, low, high] = sequences.find(([from, to]) => first >= from && first <= to) ?? [0, 0, 0, 0, 0];
  for (let i = 1; i < size; i++) {
    const byte = bytes[at + i] ?? 0;
    if (byte < (i === 1 ? low : 0x80) || byte > (i === 1 ? high : 0xbf)) return 0;
  }
  return size;
}

/** Returns the name as text. */
export function escapeName(name: Uint8Array): string {
  try {
    return escapeText(utf8.decode(name));
  } catch {
    let text = '';
    for (let at = 0; at < name.length; ) {
      const size = sequenceAt(name, at);
      const part = name.subarray(at, at + Math.max(size, 1));
      text += size === 0 ? escapeBytes(part) : escapeText(utf8.decode(part));
      at += part.length;
    }
    return text;
  }
}

/** Returns the bytes of an escaped name. */
export const bytesOfName = (name: string): Buffer =>
  Buffer.concat(
    name
      .split(/((?:%[0-9A-F]{2})+)/)
      .map((part, i) => (i % 2 === 0 ? Buffer.from(part) : Buffer.from(part.replaceAll('%', ''), 'hex'))),
  );

/** Tells whether the scanner ignores the name: unfinished files of rsync, uploads and others begin with a dot. */
export const isHidden = (name: Uint8Array): boolean => name[0] === 0x2e;

/** Returns the rule that a name for a new file breaks; undefined for a good name. */
export function brokenNameRule(name: string): string | undefined {
  const bytes = Buffer.from(name);
  if (bytes.length === 0 || bytes.length > maxNameBytes) return `must have 1 to ${maxNameBytes} bytes of UTF-8`;
  if (!name.isWellFormed()) return 'must be well-formed Unicode';
  if (isHidden(bytes)) return 'must not begin with a dot';
  if (name.includes('/')) return 'must not contain a slash';
  if (escapeName(bytes).replaceAll('%25', '%') !== name)
    return 'must not contain control characters or characters that change the direction of text';
  return undefined;
}
