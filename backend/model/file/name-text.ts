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

/** Returns the size of the UTF-8 sequence that begins here; 0 if there is none. */
function sequenceAt(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  const size = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  try {
    return [...utf8.decode(bytes.subarray(at, at + size))].length === 1 ? size : 0;
  } catch {
    return 0;
  }
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
