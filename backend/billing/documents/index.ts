/** The documents of a bill: JSON, XML in UBL (XRechnung) and CII, and PDF with the CII XML inside. */
import type { BillDocument } from '../../model/billing/bill-document.ts';

export { renderCii } from './cii.ts';
export { renderPdf } from './pdf.ts';
export { renderUbl } from './ubl.ts';

/** Returns the document itself. */
export const renderJson = (bill: BillDocument): string => `${JSON.stringify(bill, null, 2)}\n`;
