/** A pen on pages of A4: texts at places, lines, and page breaks. */
import PDFDocument from 'pdfkit';
import { printable, printFonts } from './fonts.ts';

/** A point is 1/72 inch. */
export const pageWidth = 595.28;
export const pageHeight = 841.89;
export const margin = 50;
/** The right end of texts. */
export const rightEdge = pageWidth - margin;
/** The lower end of texts; the foot of the page is below. */
export const bottomEdge = pageHeight - 78;

export const ink = '#1a1f2b';
export const grey = '#667085';
export const pale = '#d0d5dd';
export const accent = '#1d4ed8';

/** How a text looks. */
export interface TextStyle {
  readonly size?: number;
  readonly bold?: boolean;
  readonly color?: string;
  readonly align?: 'left' | 'right';
  /** The maximum number of lines; the rest is cut. */
  readonly maxLines?: number;
}

/** Writes on the pages of one document. */
export class Pen {
  readonly doc: PDFKit.PDFDocument;
  /** The place of the next text, from the top. */
  y = margin;
  readonly #onPage: (pen: Pen) => void;

  /** @param onPage draws the head of each page after the first */
  constructor(doc: PDFKit.PDFDocument, onPage: (pen: Pen) => void) {
    this.doc = doc;
    this.#onPage = onPage;
    const { regular, bold } = printFonts();
    doc.registerFont('regular', regular.file);
    doc.registerFont('bold', bold.file);
  }

  /** Writes a text into a column, and returns its height. The pen stays where it is. */
  text(text: string, x: number, width: number, style: TextStyle = {}, y = this.y): number {
    const { size = 9, bold = false, color = ink, align = 'left', maxLines = 12 } = style;
    const { regular, bold: heavy } = printFonts();
    const shown = printable(text, bold ? heavy : regular);
    this.doc.font(bold ? 'bold' : 'regular').fontSize(size);
    const lineHeight = this.doc.currentLineHeight(true) + 1.5;
    const height = this.height(text, width, style);
    if (shown !== '')
      this.doc
        .fillColor(color)
        .text(shown, x, y, { width, align, lineGap: 1.5, height: maxLines * lineHeight, ellipsis: true });
    return height;
  }

  /** Returns the height that a text will have. */
  height(text: string, width: number, { size = 9, bold = false, maxLines = 12 }: TextStyle = {}): number {
    const { regular, bold: heavy } = printFonts();
    const shown = printable(text, bold ? heavy : regular);
    this.doc.font(bold ? 'bold' : 'regular').fontSize(size);
    const lineHeight = this.doc.currentLineHeight(true) + 1.5;
    if (shown === '') return 0;
    return Math.min(this.doc.heightOfString(shown, { width, lineGap: 1.5 }), maxLines * lineHeight);
  }

  /** Draws a horizontal line. */
  rule(x: number, to: number, y: number, color = pale, width = 0.6): void {
    this.doc.moveTo(x, y).lineTo(to, y).lineWidth(width).strokeColor(color).stroke();
  }

  /** Begins a new page unless the height still fits. Says whether it did. */
  makeRoom(height: number): boolean {
    if (this.y + height <= bottomEdge) return false;
    this.doc.addPage();
    this.y = margin;
    this.#onPage(this);
    return true;
  }
}

/** Returns a document of PDF/A-3b. Equal facts make equal bytes: nothing depends on the clock. */
export function newDocument(date: Date): PDFKit.PDFDocument {
  return new PDFDocument({
    size: 'A4',
    margins: { top: margin, left: margin, right: margin, bottom: 20 },
    bufferPages: true,
    pdfVersion: '1.7',
    subset: 'PDF/A-3b',
    lang: 'en',
    displayTitle: true,
    font: '',
    // Title and author come with the metadata: pdfkit would not escape them there.
    info: { Creator: 'ucloud', Producer: 'ucloud', CreationDate: date },
  });
}

/** Returns the bytes of the document. */
export async function finished(doc: PDFKit.PDFDocument): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const end = new Promise<void>((resolve, reject) => {
    doc.on('data', (piece: Buffer) => pieces.push(piece));
    doc.on('end', resolve);
    doc.on('error', reject);
  });
  doc.end();
  await end;
  return Buffer.concat(pieces);
}
