/**
 * The fonts of printed bills: DejaVu Sans, which has Latin, Greek, Cyrillic, Arabic, Hebrew and many more letters. Letters that it lacks,
 * such as Chinese ones, are printed as a box. The XML of the bill contains them.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { create } from 'fontkit';
import { plainText } from './xml.ts';

/** A font file and the letters that it has. */
export interface PrintFont {
  readonly file: Buffer;
  readonly letters: ReadonlySet<number>;
}

const substitute = '\u25a1';

function read(name: string): PrintFont {
  const file = readFileSync(fileURLToPath(import.meta.resolve(`dejavu-fonts-ttf/ttf/${name}.ttf`)));
  const font = create(file);
  if (!('characterSet' in font)) throw new Error(`${name} is a collection of fonts`);
  return { file, letters: new Set(font.characterSet) };
}

let fonts: { readonly regular: PrintFont; readonly bold: PrintFont } | undefined;

/** Returns the fonts. They are read once a process. */
export function printFonts(): { readonly regular: PrintFont; readonly bold: PrintFont } {
  fonts ??= { regular: read('DejaVuSans'), bold: read('DejaVuSans-Bold') };
  return fonts;
}

/** Format characters change the direction of text or join it invisibly. A printed bill must show what it says. */
const invisible = /[\p{Cf}\p{Co}\p{Zl}\p{Zp}]/gu;

/**
 * Returns the text as one line that the font can print, cut to a length. PDF/A forbids letters that the font lacks.
 */
export function printable(text: string, font: PrintFont, maxLength = 300): string {
  // Bounds the work before any loop over letters.
  const start = text.slice(0, 4 * maxLength);
  const plain = plainText(start).replaceAll(/\s+/g, ' ').replaceAll(invisible, '').trim();
  const letters = Array.from(plain, (letter) => (font.letters.has(letter.codePointAt(0) ?? 0) ? letter : substitute));
  const isCut = letters.length > maxLength || text.length > start.length;
  return isCut ? `${letters.slice(0, maxLength).join('')}…` : letters.join('');
}
